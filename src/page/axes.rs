//! The plane that curves and dots are drawn on.

use maud::{Markup, html};

use super::scale::Scale;

/// A plane inside a picture, in pixels, with the scales of its sides.
#[derive(Debug)]
pub struct Plane {
    /// Position of the left side.
    pub left: f64,
    /// Position of the upper side.
    pub top: f64,
    /// Extent from left to right.
    pub width: f64,
    /// Extent from top to bottom.
    pub height: f64,
    /// The horizontal scale.
    pub x: Scale,
    /// The vertical scale.
    pub y: Scale,
}

impl Plane {
    /// Returns the place of a value from left to right.
    pub fn x(&self, value: f64) -> f64 {
        self.left + self.x.at(value) * self.width
    }

    /// Returns the place of a value from top to bottom.
    pub fn y(&self, value: f64) -> f64 {
        self.top + (1.0 - self.y.at(value)) * self.height
    }

    /// Draws the grid, the ticks and the labels of the axes: the vertical one on top, the horizontal one below.
    pub fn axes(&self, x_label: &str, y_label: &str) -> Markup {
        let (right, bottom) = (self.left + self.width, self.top + self.height);
        html! {
            text.axis x="0" y="13" { (y_label) }
            @for (value, label) in &self.y.ticks {
                line.grid x1=(px(self.left)) x2=(px(right)) y1=(px(self.y(*value))) y2=(px(self.y(*value))) {}
                text.tick.end x=(px(self.left - 8.0)) y=(px(self.y(*value) + 4.0)) { (label) }
            }
            line.base x1=(px(self.left)) x2=(px(right)) y1=(px(bottom)) y2=(px(bottom)) {}
            @for (value, label) in &self.x.ticks {
                line.base x1=(px(self.x(*value))) x2=(px(self.x(*value))) y1=(px(bottom)) y2=(px(bottom + 5.0)) {}
                text.tick.middle x=(px(self.x(*value))) y=(px(bottom + 19.0)) { (label) }
            }
            text.axis.middle x=(px(self.left + self.width / 2.0)) y=(px(bottom + 39.0)) { (x_label) }
        }
    }
}

/// Formats a coordinate to a tenth of a pixel.
pub fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}
