//! Formats numbers for readers, and tests which of them can be drawn.

/// Bound of drawn numbers: beyond it, their differences could overflow.
const LARGEST: f64 = 1e100;

/// True if a picture can show `value`.
pub fn is_drawable(value: f64) -> bool {
    value.is_finite() && value.abs() <= LARGEST
}

/// Returns the page's note on numbers that it could not draw.
pub fn left_out(n: usize) -> String {
    let values = if n == 1 { "value is" } else { "values are" };
    format!("{n} {values} not finite or too large to draw: left out of the picture, given as text.")
}

/// Formats a count with its thousands apart.
pub fn count(n: usize) -> String {
    let digits = n.to_string();
    let is_start = |idx: usize| idx > 0 && (digits.len() - idx).is_multiple_of(3);
    digits
        .chars()
        .enumerate()
        .flat_map(|(idx, c)| is_start(idx).then_some(',').into_iter().chain([c]))
        .collect()
}

/// The digits that a set of numbers needs: as many as they have, but no more than about three that differ.
#[derive(Debug, Clone, Copy)]
pub struct Digits {
    places: usize,
    is_scientific: bool,
}

impl Digits {
    /// Returns the digits that fit all of `values`.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let exponent = if largest > 0.0 { largest.log10().floor() } else { 0.0 };
        let most = if exponent < 0.0 { 2.0 - exponent } else { (3.0 - exponent).max(0.0) };
        let is_exact = |places: usize, value: f64| {
            let shifted = value * 10.0_f64.powi(places as i32);
            (shifted - shifted.round()).abs() < 1e-9 * shifted.abs().max(1.0)
        };
        let most = most.min(8.0) as usize;
        let places = (0..most).find(|&places| values.iter().all(|&value| is_exact(places, value)));
        Self { places: places.unwrap_or(most), is_scientific: !(-6.0..9.0).contains(&exponent) }
    }

    /// Returns the digits that fit ticks `step` apart, none farther than `farthest` from 0.
    pub fn of_step(step: f64, farthest: f64) -> Self {
        let places = (-(step * 1.000_001).log10().floor()).clamp(0.0, 8.0) as usize;
        Self { places, is_scientific: !(1e-7..1e9).contains(&step) || farthest >= 1e9 }
    }

    /// Formats `value` with a true minus sign.
    pub fn show(self, value: f64) -> String {
        if value.is_nan() {
            return "not a number".to_owned();
        }
        let size = value.abs();
        let digits = match (size.is_infinite(), self.is_scientific && size > 0.0) {
            (true, _) => "∞".to_owned(),
            (_, true) => format!("{size:.2e}"),
            _ => format!("{size:.0$}", self.places),
        };
        let is_zero = digits.chars().all(|c| matches!(c, '0' | '.'));
        if value < 0.0 && !is_zero { format!("−{digits}") } else { digits }
    }
}
