//! Draws tables: a figure of its own, and the numbers under a chart.

use maud::{Markup, html};

use super::{Drawn, nothing};

pub fn draw(title: &str, columns: &[String], rows: &[Vec<String>]) -> Drawn {
    let picture = if columns.is_empty() && rows.is_empty() { nothing() } else { grid(title, columns, rows) };
    Drawn { picture, numbers: None, n_left_out: 0 }
}

/// Draws a table that scrolls by itself where it is too wide. The first column names the rows; columns of numbers are
/// set to the right.
pub fn grid(title: &str, columns: &[String], rows: &[Vec<String>]) -> Markup {
    let width = rows.iter().map(Vec::len).chain([columns.len()]).max().unwrap_or_default();
    let is_number: Vec<bool> =
        (0..width).map(|column| rows.iter().all(|row| starts(row.get(column)))).collect();
    let class = |column: usize| is_number[column].then_some("number");
    html! {
        div.scroll tabindex="0" role="region" aria-label=(title) {
            table {
                @if !columns.is_empty() {
                    thead { tr {
                        @for (idx, column) in columns.iter().enumerate() {
                            th scope="col" class=[class(idx)] { (column) }
                        }
                    } }
                }
                tbody {
                    @for row in rows { tr {
                        @for (idx, cell) in row.iter().enumerate() {
                            @if idx == 0 { th scope="row" class=[class(idx)] { (cell) } }
                            @else { td class=[class(idx)] { (cell) } }
                        }
                    } }
                }
            }
        }
    }
}

/// True if a cell reads as a number or is empty.
fn starts(cell: Option<&String>) -> bool {
    let mut rest =
        cell.map_or("", String::as_str).trim_start_matches(['+', '-', '−', '±', '<', '>', ' ', '.']).chars();
    rest.next().is_none_or(|c| c.is_ascii_digit() || matches!(c, '–' | '∞'))
}
