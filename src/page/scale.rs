//! Maps values to places on an axis.

use super::number::Digits;

/// An axis' range with its ticks.
#[derive(Debug, Clone)]
pub struct Scale {
    stops: Stops,
    /// Values to mark, ascending, with their labels.
    pub ticks: Vec<(f64, String)>,
}

#[derive(Debug, Clone)]
enum Stops {
    Linear(f64, f64),
    Even(Vec<f64>),
}

impl Scale {
    /// Returns a scale over `values`, which can be drawn, from round number to round number, with about `n` ticks.
    pub fn round(values: impl IntoIterator<Item = f64>, n: usize) -> Self {
        let (low, high) = extent(values);
        let step = step(high - low, n);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        Self { stops: Stops::Linear(first * step, last * step), ticks: ticks(first, last, step) }
    }

    /// Returns a scale over `values`, which can be drawn, and no more, with about `n` ticks.
    pub fn tight(values: impl IntoIterator<Item = f64>, n: usize) -> Self {
        let (low, high) = extent(values);
        let step = step(high - low, n);
        let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
        Self { stops: Stops::Linear(low, high), ticks: ticks(first, last, step) }
    }

    /// Returns a scale with the different `values` at equal distances, and at most `n` ticks.
    pub fn even(values: impl IntoIterator<Item = f64>, n: usize) -> Self {
        let mut stops: Vec<f64> = values.into_iter().collect();
        stops.sort_by(f64::total_cmp);
        stops.dedup();
        let digits = Digits::of(stops.iter().copied());
        let every = stops.len().div_ceil(n.max(1)).max(1);
        let ticks = stops.iter().step_by(every).map(|&stop| (stop, digits.show(stop))).collect();
        Self { stops: Stops::Even(stops), ticks }
    }

    /// Returns the place of `value`, from 0 to 1.
    pub fn at(&self, value: f64) -> f64 {
        match &self.stops {
            Stops::Linear(low, high) => ((value - low) / (high - low)).clamp(0.0, 1.0),
            Stops::Even(stops) if stops.len() < 2 => 0.5,
            Stops::Even(stops) => {
                stops.partition_point(|&stop| stop < value) as f64 / (stops.len() - 1) as f64
            }
        }
    }
}

/// Returns the least and the greatest value, pulled apart if they are one.
fn extent(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let wider = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
    let (low, high) = values.into_iter().fold((f64::INFINITY, f64::NEG_INFINITY), wider);
    let size = low.abs().max(high.abs());
    match (low <= high, high - low > size * 1e-9) {
        (false, _) => (0.0, 1.0),
        (true, true) => (low, high),
        _ if size < 1e-90 => (low - 1.0, high + 1.0),
        _ => (low - size * 0.1, high + size * 0.1),
    }
}

/// Returns the round distance, 1, 2 or 5 times a power of ten, nearest above a span's `n`-th part.
fn step(span: f64, n: usize) -> f64 {
    let rough = span / n.max(1) as f64;
    let power = 10.0_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * 0.999).unwrap_or(10.0);
    factor * power
}

fn ticks(first: f64, last: f64, step: f64) -> Vec<(f64, String)> {
    let digits = Digits::of_step(step, first.abs().max(last.abs()) * step);
    let value = |i: usize| (first + i as f64) * step;
    (0..=(last - first).max(0.0) as usize).map(|i| (value(i), digits.show(value(i)))).collect()
}
