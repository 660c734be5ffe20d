//! Draws bars as a table whose middle column is drawn.

use maud::html;

use super::number::{Digits, is_drawable};
use super::{Drawn, labels as label, nothing};

/// Pixels of a label above which labels may take several lines.
const MAX_LABEL: f64 = 180.0;

pub fn draw(title: &str, labels: &[String], values: &[f64], range: (f64, f64)) -> Drawn {
    if labels.is_empty() || values.is_empty() {
        return Drawn { picture: nothing(), numbers: None, n_left_out: 0 };
    }
    let (low, high) = usable(range, values);
    let base = 0.0_f64.clamp(low, high);
    let digits = Digits::of(values.iter().copied());
    let share = |value: f64| 100.0 * (value - low) / (high - low);
    let bar = |value: f64| {
        let end = share(value.clamp(low, high));
        let (from, to) = (end.min(share(base)), end.max(share(base)));
        format!("margin-left:{from:.2}%;width:{:.2}%", to - from)
    };
    let is_long = labels.iter().any(|text| label::width(text, 13.0) > MAX_LABEL);
    let picture = html! {
        div.scroll tabindex="0" role="region" aria-label=(title) {
            table.bars.long[is_long] style={ "--base:" (format!("{:.2}%", share(base))) } {
                tbody {
                    @for (label, &value) in labels.iter().zip(values) {
                        tr {
                            th scope="row" { (label) }
                            td.bar {
                                @if is_drawable(value) {
                                    div.below[value < base].beyond[!(low..=high).contains(&value)]
                                        style=(bar(value)) {}
                                }
                            }
                            td.number { (digits.show(value)) }
                        }
                    }
                }
            }
        }
    };
    let n_left_out = values.iter().filter(|&&value| !is_drawable(value)).count();
    Drawn { picture, numbers: None, n_left_out }
}

/// Returns `range` if it is one, else the span of the values and 0.
fn usable((low, high): (f64, f64), values: &[f64]) -> (f64, f64) {
    if is_drawable(low) && is_drawable(high) && low < high {
        return (low, high);
    }
    let drawn = values.iter().copied().filter(|&value| is_drawable(value));
    let (low, high) = drawn.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    if low < high { (low, high) } else { (0.0, 1.0) }
}
