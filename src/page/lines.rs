//! Draws curves with intervals, named at their ends, and a second, narrower drawing with a key for phones.

use maud::{Markup, html};

use super::axes::Plane;
use super::curves::{Curve, Format, curves, numbers};
use super::number::is_drawable;
use super::scale::Scale;
use super::strokes::{GAP, LEADER, LETTER, bands, names, stroke};
use super::{Axis, Drawn, Series, labels, nothing};

/// Pixels above and below the plane.
const TOP: f64 = 30.0;
const BOTTOM: f64 = 48.0;

/// A drawing's size and whether its curves are named in it.
struct Size {
    class: &'static str,
    width: f64,
    /// Its height with few curves.
    least: f64,
    /// Its height with many.
    most: f64,
    names: bool,
}

impl Size {
    /// Returns a height with room for the names of `n` curves, within the bounds of the size.
    fn height(&self, n: usize) -> f64 {
        (TOP + BOTTOM + GAP * n as f64).clamp(self.least, self.most)
    }

    /// Returns how many of `n` curves can be named.
    fn room(&self, n: usize) -> usize {
        n.min(((self.height(n) - TOP - BOTTOM) / GAP) as usize)
    }
}

const SIZES: [Size; 2] = [
    Size { class: "wide", width: 720.0, least: 430.0, most: 670.0, names: true },
    Size { class: "narrow", width: 340.0, least: 330.0, most: 330.0, names: false },
];

pub fn draw(title: &str, x: &Axis, y: &Axis, series: &[Series]) -> Drawn {
    let format = Format::of(series);
    let numbers = (!series.is_empty()).then(|| numbers(title, &x.label, series, format));
    let (curves, n_left_out) = curves(series);
    if curves.is_empty() {
        return Drawn { picture: nothing(), numbers, n_left_out };
    }
    let chart = Chart {
        alt: format!("{title}: {} against {}, {} curves", y.label, x.label, curves.len()),
        x,
        y,
        xs: series
            .iter()
            .flat_map(|one| &one.points)
            .map(|point| point.x)
            .filter(|&x| is_drawable(x))
            .collect(),
        curves: &curves,
        format,
    };
    let n_unnamed = curves.len() - SIZES[0].room(curves.len());
    let picture = html! {
        @for size in &SIZES { (chart.picture(size)) }
        (key(&curves))
        @if n_unnamed > 0 {
            p.note.wide { (n_unnamed) " more have no room for a name: point at a curve, or see the numbers." }
        }
    };
    Drawn { picture, numbers, n_left_out }
}

/// Lists the names of the curves for the narrow drawing.
fn key(curves: &[Curve<'_>]) -> Markup {
    let (colored, gray): (Vec<_>, Vec<_>) = curves.iter().partition(|curve| curve.style.is_some());
    html! {
        ul.key {
            @for curve in colored { li { i class=(curve.class()) {} (curve.name) } }
            @if !gray.is_empty() {
                li { i.gray {} @for (idx, curve) in gray.iter().enumerate() {
                    @if idx > 0 { ", " } bdi { (curve.name) }
                } }
            }
        }
    }
}

/// The content of a drawing of any size.
struct Chart<'a> {
    alt: String,
    x: &'a Axis,
    y: &'a Axis,
    /// Every x, including those of gaps.
    xs: Vec<f64>,
    /// The curves; not empty.
    curves: &'a [Curve<'a>],
    format: Format,
}

impl Chart<'_> {
    fn picture(&self, size: &Size) -> Markup {
        let named = &self.curves[..if size.names { size.room(self.curves.len()) } else { 0 }];
        let widest = named.iter().map(|curve| labels::width(curve.name, LETTER)).fold(0.0, f64::max);
        let room = widest.min(size.width / 3.0);
        let plane = self.plane(size, if size.names { LEADER + room } else { 12.0 });
        let (width, height) = (size.width, size.height(self.curves.len()));
        html! {
            svg class=(size.class) viewBox={ "0 0 " (width) " " (height) } role="img" aria-label=(self.alt) {
                (plane.axes(&self.x.label, &self.y.label))
                @for curve in self.curves.iter().filter(|curve| curve.style.is_some()) { (bands(&plane, curve)) }
                @for curve in self.curves.iter().rev() { (stroke(&plane, curve, self.format)) }
                (names(&plane, named, room))
            }
        }
    }

    /// Returns the plane that leaves `right` pixels beside it.
    fn plane(&self, size: &Size, right: f64) -> Plane {
        let ends = |curve: &Curve<'_>| {
            let is_colored = curve.style.is_some();
            let shown = curve.runs.iter().flatten().flat_map(move |point| {
                let interval = point.interval.filter(|_| is_colored).unwrap_or((point.y, point.y));
                [point.y, interval.0, interval.1]
            });
            shown.collect::<Vec<_>>()
        };
        let y = Scale::round(self.curves.iter().flat_map(ends), 5);
        let widest = y.ticks.iter().map(|(_, label)| labels::width(label, LETTER)).fold(0.0, f64::max);
        let left = widest + 12.0;
        let width = size.width - left - right;
        let widest = self.xs.iter().map(|&x| labels::width(&self.format.x(x), LETTER)).fold(0.0, f64::max);
        let n_ticks = (width / (widest + 16.0)) as usize;
        let xs = self.xs.iter().copied();
        let x = if self.x.even { Scale::even(xs, n_ticks) } else { Scale::tight(xs, n_ticks.min(8)) };
        Plane { left, top: TOP, width, height: size.height(self.curves.len()) - TOP - BOTTOM, x, y }
    }
}
