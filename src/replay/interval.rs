//! Estimates means over users, with intervals.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Number of resamples of users.
const RESAMPLES: usize = 1000;

/// A mean over users.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// The mean; users count alike, however many choices they made.
    pub mean: f64,
    /// Its standard error: the standard deviation over resampled users.
    pub standard_error: f64,
    /// The 2.5th percentile of the mean over resampled users (bootstrap).
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

/// Returns the mean of one value per user; none without users.
#[must_use]
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let of_all = |people: &[usize]| people.iter().map(|&i| values[i]).sum::<f64>() / people.len() as f64;
    bootstrap(values.len(), of_all)
}

/// Returns the mean over columns of (sum, count) pooled over users, `[users][columns]`; none without users.
#[must_use]
pub fn estimate_columns(people: &[Vec<(f64, f64)>]) -> Option<Estimate> {
    let n_columns = people.first()?.len();
    bootstrap(people.len(), |chosen| {
        let column = |c: usize| {
            let pooled = chosen.iter().map(|&i| people[i][c]).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
            (pooled.1 > 0.0).then(|| pooled.0 / pooled.1)
        };
        let means: Vec<f64> = (0..n_columns).filter_map(column).collect();
        means.iter().sum::<f64>() / means.len().max(1) as f64
    })
}

fn bootstrap(n: usize, of: impl Fn(&[usize]) -> f64) -> Option<Estimate> {
    if n == 0 {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let resample = |_| of(&(0..n).map(|_| rng.random_range(0..n)).collect::<Vec<_>>());
    let mut means: Vec<f64> = (0..RESAMPLES).map(resample).collect();
    means.sort_by(f64::total_cmp);
    let center = means.iter().sum::<f64>() / RESAMPLES as f64;
    let variance = means.iter().map(|x| (x - center).powi(2)).sum::<f64>() / (RESAMPLES - 1) as f64;
    let percentile = |q: f64| means[((RESAMPLES - 1) as f64 * q).round() as usize];
    Some(Estimate {
        mean: of(&(0..n).collect::<Vec<_>>()),
        standard_error: variance.sqrt(),
        low: percentile(0.025),
        high: percentile(0.975),
    })
}
