//! Rewards for training one policy that many users share: from per-head rewards to one number.
//!
//! The mixture's reward `sum_k w_k z_k` serves one user. These serve a population: its worst-off part, a cautious
//! quantile, its mean. Each is within [min z, max z], does not depend on the order of heads or users, and is finite
//! wherever its inputs are.

use super::weights::Weights;

/// Tolerance of shares, which are sums of rounded numbers: one just below the bound counts as at it.
const SHARE_SLACK: f64 = 1e-9;

/// Returns the least of the rewards `z` of all heads that have at least `min_share`: the egalitarian reward.
///
/// MaxMin-RLHF (Chakraborty et al., arXiv 2402.08925) maximizes the least mean reward over the groups of a
/// population. Here every single reward is that of the worst-off group, which is the stricter reading. `z` and
/// `shares` have shape `[K]`; shares are >= 0 and sum to 1, so a head that hardly any user has does not decide for
/// all. If no head has `min_share`, only those with the largest share count.
#[must_use]
pub fn maxmin(z: &[f64], shares: &[f64], min_share: f64) -> f64 {
    let largest = shares.iter().copied().fold(0.0, f64::max);
    let bound = min_share.min(largest) - SHARE_SLACK;
    let eligible = z.iter().zip(shares).filter(|(_, share)| **share >= bound);
    eligible.fold(f64::INFINITY, |least, (z, _)| least.min(*z))
}

/// Returns the `q`-quantile of `values` weighted by `shares`: the least value that has at least `q` of the share at
/// or below it.
///
/// With a small q this is the risk-averse reward of distributional preference learning (Siththaranjan et al., arXiv
/// 2312.08358): all but a share q of the heads, or of the users, find the response at least as good. No value is
/// interpolated: a head or user gives exactly this reward. `values` and `shares` have equal, non-zero length; shares
/// are >= 0, not all 0, and need not sum to 1; a value without share does not count. q is in [0, 1]: 0 gives the
/// least value, 1 the greatest.
#[must_use]
pub fn quantile(values: &[f64], shares: &[f64], q: f64) -> f64 {
    let mut sorted: Vec<(f64, f64)> =
        values.iter().copied().zip(shares.iter().copied()).filter(|(_, share)| *share > 0.0).collect();
    sorted.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
    // At 1 the slack must not cut off the greatest value, however small its share.
    let wanted = if q < 1.0 { q * sorted.iter().map(|(_, share)| share).sum::<f64>() } else { f64::INFINITY };
    let mut reached = 0.0;
    let mut quantile = f64::NAN;
    for (value, share) in sorted {
        reached += share;
        quantile = value;
        if reached >= wanted - SHARE_SLACK {
            break;
        }
    }
    quantile
}

/// Returns the mean of many users' weights: with it, `sum_k w_k z_k` is the mean reward over those users.
///
/// The utilitarian aggregate, for one policy for all users; the mean over users of a reward that is linear in the
/// weights is the reward of the mean. Every user counts the same, whatever the number of their events. None without
/// users.
#[must_use]
pub fn population(users: &[Weights]) -> Option<Weights> {
    Weights::mean(users)
}
