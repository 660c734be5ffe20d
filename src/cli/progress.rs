//! Shows progress on a terminal, and nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// Returns a bar of unknown length.
pub(super) fn bar(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {eta} {msg}");
    let bar = ProgressBar::new(0).with_prefix(what);
    // A template that does not parse leaves the default style.
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
