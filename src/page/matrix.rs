//! Draws a matrix as a table with colored cells.

use maud::html;

use super::number::{Digits, is_drawable};
use super::{Drawn, labels, nothing};

/// Numbers of columns, and of pixels of all headings, above which headings are set upright.
const MAX_FLAT_COLUMNS: usize = 8;
const MAX_HEADINGS: f64 = 600.0;

pub fn draw(
    title: &str,
    rows: &[String],
    columns: &[String],
    cells: &[Vec<Option<f64>>],
    center: f64,
) -> Drawn {
    if rows.is_empty() || columns.is_empty() {
        return Drawn { picture: nothing(), numbers: None, n_left_out: 0 };
    }
    let center = if is_drawable(center) { center } else { 0.0 };
    let cell =
        |row: usize, column: usize| cells.get(row).and_then(|cells| cells.get(column).copied().flatten());
    let all =
        || (0..rows.len()).flat_map(|row| (0..columns.len()).filter_map(move |column| cell(row, column)));
    let drawn = || all().filter(|&value| is_drawable(value));
    let (low, high) = drawn().fold((center, center), |(low, high), value| (value.min(low), value.max(high)));
    let farthest = (center - low).max(high - center);
    let digits = if drawn().all(|value| value.abs() <= 1.0) {
        Digits::of_step(0.01, 1.0)
    } else {
        Digits::of(drawn())
    };
    let best: Vec<Option<f64>> = (0..columns.len())
        .map(|column| {
            (0..rows.len())
                .filter_map(|row| cell(row, column))
                .filter(|&v| is_drawable(v))
                .max_by(f64::total_cmp)
        })
        .collect();
    let strength =
        |value: f64| format!("--s:{:.0}%", 100.0 * (value - center).abs() / farthest.max(f64::MIN_POSITIVE));
    let words =
        |name: &String| name.split_whitespace().map(|word| labels::width(word, 13.0)).fold(0.0, f64::max);
    let is_upright =
        columns.len() > MAX_FLAT_COLUMNS || columns.iter().map(words).sum::<f64>() > MAX_HEADINGS;
    let width = (!is_upright).then(|| format!("width:{:.2}%", 84.0 / columns.len() as f64));
    let exact = Digits::of(all());
    let picture = html! {
        div.scroll tabindex="0" role="region" aria-label=(title) {
            table.matrix.upright[is_upright] {
                thead { tr {
                    td {}
                    @for column in columns { th scope="col" style=[&width] { span { (column) } } }
                } }
                tbody {
                    @for (row, name) in rows.iter().enumerate() { tr {
                        th scope="row" { (name) }
                        @for (column, heading) in columns.iter().enumerate() {
                            @match cell(row, column) {
                                None => td.none { "–" },
                                Some(value) if !is_drawable(value) => td.none { (exact.show(value)) },
                                Some(value) => td
                                    class=(if value < center { "under" } else { "over" })
                                    style=(strength(value)) title={ (name) ", " (heading) ": " (exact.show(value)) }
                                {
                                    @if best[column] == Some(value) { b { (digits.show(value)) } }
                                    @else { (digits.show(value)) }
                                },
                            }
                        }
                    } }
                }
            }
        }
        p.ramp aria-hidden="true" {
            @if low < center { span { (digits.show(low)) } i style=(strength(low)) {} }
            span { (digits.show(center)) }
            @if high > center { i.over style=(strength(high)) {} span { (digits.show(high)) } }
        }
        p.note { "Bold: the highest of its column." @if all().count() < rows.len() * columns.len() { " –: not measured." } }
    };
    Drawn { picture, numbers: None, n_left_out: all().filter(|&value| !is_drawable(value)).count() }
}
