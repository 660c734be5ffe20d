//! Draws texts with their scores, behind a notice; long ones are cut, with the rest behind a click.

use maud::{Markup, html};

use super::number::{Digits, count};
use super::{Drawn, Scored, TextGroup, nothing};

/// Characters of a text that are shown at once.
const SHOWN: usize = 420;

/// Characters of a prompt that are shown at once.
const SHOWN_OF_PROMPT: usize = 160;

pub fn draw(groups: &[TextGroup]) -> Drawn {
    let scores =
        || groups.iter().flat_map(|group| group.high.iter().chain(&group.low)).map(|text| text.score);
    let n = scores().count();
    if n == 0 {
        return Drawn { picture: nothing(), numbers: None, n_left_out: 0 };
    }
    let digits = Digits::of(scores());
    let picture = html! {
        details.texts {
            summary {
                "Show " (count(n)) @if n == 1 { " text" } @else { " texts" }
                small { "As people and models wrote them. Some may be offensive or wrong." }
            }
            @for group in groups {
                h3 dir="auto" { (group.heading) }
                div.columns {
                    (column("Highest", &group.high, digits))
                    (column("Lowest", &group.low, digits))
                }
            }
        }
    };
    Drawn { picture, numbers: None, n_left_out: 0 }
}

fn column(name: &str, texts: &[Scored], digits: Digits) -> Markup {
    html! {
        div {
            h4 { (name) }
            @if texts.is_empty() { (nothing()) }
            @for text in texts {
                article {
                    span.score { (digits.show(text.score)) }
                    @if let Some(prompt) = &text.prompt { (clamped("prompt", prompt, SHOWN_OF_PROMPT)) }
                    (clamped("text", &text.text, SHOWN))
                }
            }
        }
    }
}

/// Draws a text whose end opens on a click.
fn clamped(class: &str, text: &str, most: usize) -> Markup {
    let (start, rest) = cut(text, most);
    html! {
        @if rest.is_empty() { div class=(class) dir="auto" { (start) } }
        @else {
            details class=(class) {
                summary dir="auto" { (start) span.more { " … " (count(rest.chars().count())) " more characters" } }
                div dir="auto" { (rest) }
            }
        }
    }
}

/// Splits after about `most` characters, at a space if there is one near; a little more is not worth a click.
fn cut(text: &str, most: usize) -> (&str, &str) {
    let Some((end, _)) =
        text.char_indices().nth(most).filter(|_| text.chars().nth(most + most / 4).is_some())
    else {
        return (text, "");
    };
    let near = text[..end].char_indices().rev().take(most / 4).find(|(_, c)| c.is_whitespace());
    text.split_at(near.map_or(end, |(idx, _)| idx))
}
