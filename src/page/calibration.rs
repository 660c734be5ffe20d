//! Draws calibration as small squares side by side: dots off the diagonal show a miscalibrated predictor.

use maud::{Markup, html};

use super::axes::{Plane, px};
use super::number::{Digits, count, is_drawable};
use super::scale::Scale;
use super::{Binned, Drawn, nothing, table};

/// Sizes of a square, its labels and its dots, in pixels.
const SIDE: f64 = 176.0;
const LEFT: f64 = 38.0;
const TOP: f64 = 28.0;
const LARGEST_DOT: f64 = 9.0;

pub fn draw(series: &[Binned]) -> Drawn {
    let drawn = || series.iter().flat_map(|binned| binned.bins.iter()).filter(|bin| is_bin(bin));
    let n_left_out = series.iter().flat_map(|binned| &binned.bins).filter(|bin| !is_bin(bin)).count();
    let numbers = (!series.is_empty()).then(|| numbers(series));
    if drawn().next().is_none() {
        return Drawn { picture: nothing(), numbers, n_left_out };
    }
    let scale = Scale::round(drawn().flat_map(|bin| [bin.0, bin.1]), 5);
    let most = drawn().map(|bin| bin.2).max().unwrap_or_default().max(1);
    let picture = html! {
        div.squares { @for binned in series { (square(binned, &scale, most)) } }
        p.note { "On the diagonal, what was predicted is what happened. The largest dot stands for " (count(most)) "." }
    };
    Drawn { picture, numbers, n_left_out }
}

fn is_bin(bin: &(f64, f64, usize)) -> bool {
    is_drawable(bin.0) && is_drawable(bin.1)
}

/// Draws one predictor; a dot's area is its share of `most`.
fn square(binned: &Binned, scale: &Scale, most: usize) -> Markup {
    let plane = Plane { left: LEFT, top: TOP, width: SIDE, height: SIDE, x: scale.clone(), y: scale.clone() };
    let mut bins: Vec<_> = binned.bins.iter().filter(|bin| is_bin(bin)).collect();
    bins.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n: usize = bins.iter().map(|bin| bin.2).sum();
    let gap: f64 = bins.iter().map(|bin| (bin.0 - bin.1).abs() * bin.2 as f64).sum::<f64>() / n.max(1) as f64;
    let path: Vec<String> =
        bins.iter().map(|bin| format!("{},{}", px(plane.x(bin.0)), px(plane.y(bin.1)))).collect();
    let digits = Digits::of(bins.iter().flat_map(|bin| [bin.0, bin.1]));
    let radius = |n: usize| (LARGEST_DOT * (n as f64 / most as f64).sqrt()).max(1.5);
    let alt =
        format!("{}: predicted against observed, {gap:.3} apart on average over {}", binned.name, count(n));
    html! {
        div {
            h3 { (binned.name) }
            p.gap { "off by " b { (Digits::of_step(0.001, gap).show(gap)) } " on average, n = " (count(n)) }
            svg viewBox={ "0 0 " (px(LEFT + SIDE + 14.0)) " " (px(TOP + SIDE + 46.0)) } role="img" aria-label=(alt) {
                (plane.axes("predicted", "observed"))
                line.diagonal x1=(px(LEFT)) x2=(px(LEFT + SIDE)) y1=(px(TOP + SIDE)) y2=(px(TOP)) {}
                g.c0 {
                    polyline.thread points=(path.join(" ")) {}
                    @for bin in bins {
                        circle.bin cx=(px(plane.x(bin.0))) cy=(px(plane.y(bin.1))) r=(px(radius(bin.2))) {
                            title { (binned.name) ": predicted " (digits.show(bin.0)) ", observed " (digits.show(bin.1)) ", n = " (count(bin.2)) }
                        }
                    }
                }
            }
        }
    }
}

fn numbers(series: &[Binned]) -> Markup {
    let columns = ["", "predicted", "observed", "n"].map(ToOwned::to_owned);
    let digits = Digits::of(series.iter().flat_map(|binned| &binned.bins).flat_map(|bin| [bin.0, bin.1]));
    let rows: Vec<Vec<String>> = series
        .iter()
        .flat_map(|binned| binned.bins.iter().map(move |bin| (&binned.name, bin)))
        .map(|(name, bin)| vec![name.clone(), digits.show(bin.0), digits.show(bin.1), count(bin.2)])
        .collect();
    table::grid("Predicted and observed", &columns, &rows)
}
