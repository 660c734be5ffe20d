//! Figures as one HTML page that needs nothing else: no network, no script, no asset.
//!
//! The module owns the look of results: charts, tables and texts, in light, dark, on a phone and on paper. It
//! deliberately knows nothing of rewards: its input is labels and numbers. The laws: the same page gives the same
//! bytes; no text of the caller becomes markup; a number that can't be drawn is left out and the page notes it; every
//! chart has its numbers as text.

mod axes;
mod bars;
mod calibration;
mod curves;
mod figure;
mod labels;
mod lines;
mod matrix;
mod number;
mod scale;
mod strokes;
mod table;
mod texts;

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub use figure::{Axis, Binned, Body, Figure, Page, Point, Scored, Series, TextGroup};

/// Tags that a browser must read first. The policy forbids it every request, whatever a text contains.
const HEAD: &str = concat!(
    r#"<meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/>"#,
    r#"<meta name="color-scheme" content="light dark"/><meta http-equiv="Content-Security-Policy" "#,
    r#"content="default-src 'none'; style-src 'unsafe-inline'"/>"#,
);

/// A figure's body as markup.
struct Drawn {
    picture: Markup,
    /// Its numbers as a table, where the picture does not hold them as text.
    numbers: Option<Markup>,
    n_left_out: usize,
}

impl Page {
    /// Renders the page as a file.
    #[must_use]
    pub fn html(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    (PreEscaped(HEAD))
                    title { (self.title) }
                    style { (PreEscaped(include_str!("style.css"))) }
                }
                body {
                    header {
                        h1 { (self.title) }
                        @if !self.lead.is_empty() { p.lead { (self.lead) } }
                        @if !self.facts.is_empty() {
                            dl { @for (name, value) in &self.facts { div { dt { (name) } dd { (value) } } } }
                        }
                    }
                    main { @for figure in &self.figures { (figure.markup()) } }
                }
            }
        };
        visible(&page.into_string())
    }
}

impl Figure {
    fn markup(&self) -> Markup {
        let drawn = match &self.body {
            Body::Lines { x, y, series } => lines::draw(&self.title, x, y, series),
            Body::Matrix { rows, columns, cells, center } => {
                matrix::draw(&self.title, rows, columns, cells, *center)
            }
            Body::Calibration { series } => calibration::draw(series),
            Body::Bars { labels, values, range } => bars::draw(&self.title, labels, values, *range),
            Body::Table { columns, rows } => table::draw(&self.title, columns, rows),
            Body::Texts(groups) => texts::draw(groups),
        };
        html! {
            section {
                h2 { (self.title) }
                @if !self.caption.is_empty() { p.caption { (self.caption) } }
                (drawn.picture)
                @if drawn.n_left_out > 0 { p.note { (number::left_out(drawn.n_left_out)) } }
                @if let Some(numbers) = drawn.numbers {
                    details.numbers { summary { "The numbers" } (numbers) }
                }
            }
        }
    }
}

/// Draws a figure without content.
fn nothing() -> Markup {
    html! { p.nothing { "Nothing to show." } }
}

/// Replaces control characters by their pictures, as no parser takes them as they are.
fn visible(html: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        _ => c,
    };
    html.replace("\r\n", "\n").chars().map(shown).collect()
}
