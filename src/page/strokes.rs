//! Draws one curve on its plane: its intervals, its line, its name.

use maud::{Markup, html};

use super::Point;
use super::axes::{Plane, px};
use super::curves::{Curve, Format};
use super::labels;

/// Pixels from one name to the next, and of their letters.
pub const GAP: f64 = 16.0;
pub const LETTER: f64 = 13.0;
/// Pixels between the plane and the names.
pub const LEADER: f64 = 22.0;
/// Number of points above which a curve has no dots.
const MAX_DOTS: usize = 60;

/// Draws the intervals of a curve: areas, and an upright stroke where only one point in a row has one.
pub fn bands(plane: &Plane, curve: &Curve<'_>) -> Markup {
    let stretches = curve.runs.iter().flat_map(|run| run.split(|point| point.interval.is_none()));
    html! {
        g class=(curve.class()) { @for stretch in stretches { (band(plane, stretch)) } }
    }
}

fn band(plane: &Plane, run: &[Point]) -> Markup {
    let ends: Vec<(f64, f64, f64)> = run
        .iter()
        .filter_map(|point| {
            point.interval.map(|(a, b)| (plane.x(point.x), plane.y(a.max(b)), plane.y(a.min(b))))
        })
        .collect();
    let upper = ends.iter().map(|(x, upper, _)| (x, upper));
    let lower = ends.iter().rev().map(|(x, _, lower)| (x, lower));
    let outline: Vec<String> = upper.chain(lower).map(|(x, y)| format!("{},{}", px(*x), px(*y))).collect();
    html! {
        @if let [(x, upper, lower)] = ends[..] { line.whisker x1=(px(x)) x2=(px(x)) y1=(px(upper)) y2=(px(lower)) {} }
        @else if !ends.is_empty() { polygon.band points=(outline.join(" ")) {} }
    }
}

/// Draws the line of a curve, with its numbers at its points.
pub fn stroke(plane: &Plane, curve: &Curve<'_>, format: Format) -> Markup {
    let n_points: usize = curve.runs.iter().map(Vec::len).sum();
    let place = |point: &Point| format!("{},{}", px(plane.x(point.x)), px(plane.y(point.y)));
    let is_dotted = |run: &[Point]| n_points <= MAX_DOTS || run.len() == 1;
    html! {
        g class=(curve.class()) {
            @for run in &curve.runs {
                polyline.curve points=(run.iter().map(place).collect::<Vec<_>>().join(" ")) { title { (curve.name) } }
                @for point in run.iter().filter(|_| is_dotted(run)) {
                    circle.dot.lone[run.len() == 1] cx=(px(plane.x(point.x))) cy=(px(plane.y(point.y))) r="3" {
                        title { (curve.name) ", " (format.x(point.x)) ": " (format.y(point)) }
                    }
                }
            }
        }
    }
}

/// Draws names to the right of the plane, moved apart, each tied to its curve's end.
pub fn names(plane: &Plane, named: &[Curve<'_>], room: f64) -> Markup {
    let ends: Vec<(&Curve<'_>, f64, f64)> = named
        .iter()
        .filter_map(|curve| curve.runs.last()?.last().map(|last| (curve, plane.x(last.x), plane.y(last.y))))
        .collect();
    let wanted: Vec<f64> = ends.iter().map(|end| end.2).collect();
    let places = labels::spread(&wanted, GAP, plane.top, plane.top + plane.height);
    let edge = plane.left + plane.width;
    html! {
        @for ((curve, x, y), place) in ends.into_iter().zip(places) {
            g class=(curve.class()) {
                polyline.leader points={
                    (px(x + 5.0)) "," (px(y)) " " (px(edge + 6.0)) "," (px(y)) " " (px(edge + LEADER - 4.0)) "," (px(place))
                } {}
                text.name x=(px(edge + LEADER)) y=(px(place + 4.5)) {
                    (labels::clip(curve.name, room, LETTER)) title { (curve.name) }
                }
            }
        }
    }
}
