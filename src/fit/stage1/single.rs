//! A single Bradley-Terry head: the ruler that a mixture has to beat.

use ndarray::Array2;

use crate::fit::calibrate::inverse_temperature;
use crate::fit::data::Examples;
use crate::fit::differences::RowsError;
use crate::fit::prompt_mixture::unscaled;
use crate::fit::scales::scales;
use crate::fit::user_mixture::{self, Ridges, UserMixture, Votes};

/// Learns a single Bradley-Terry head from `pairs` (positions, not empty): K = 1, for unscaled feature rows, shape
/// `[D, 1]`.
///
/// # Errors
/// As [`super::learn`].
pub fn single(
    examples: &Examples,
    pairs: &[usize],
    ridge: f64,
    scalar_scale: f64,
) -> Result<Array2<f32>, RowsError> {
    Ok(learn_single(examples, pairs, ridge, scalar_scale)?.head)
}

/// Learns a head as [`single`] does, and its inverse temperature on users that it was not learned from.
pub(super) fn calibrated_single(
    examples: &Examples,
    pairs: &[usize],
    ridge: f64,
    scalar_scale: f64,
) -> Result<(Array2<f32>, f64), RowsError> {
    let Single { votes, mixture, head } = learn_single(examples, pairs, ridge, scalar_scale)?;
    let margins = votes.out_of_fold(&mixture, Ridges { ridge, deviation_ridge: 0.0 }, 0)?;
    let held_out: Vec<(f64, f64)> = margins.iter().map(|&margin| (margin, 1.0)).collect();
    Ok((head, inverse_temperature(&held_out)))
}

/// A single head with the votes and the mixture that it comes from.
struct Single {
    votes: Votes,
    mixture: UserMixture,
    head: Array2<f32>,
}

fn learn_single(
    examples: &Examples,
    pairs: &[usize],
    ridge: f64,
    scalar_scale: f64,
) -> Result<Single, RowsError> {
    let scales = scales(examples, &examples.responses(pairs), scalar_scale)?;
    let votes = Votes::new(examples, pairs, &scales)?;
    let all_users = vec![1.0; votes.n_users()];
    let pull = Ridges { ridge, deviation_ridge: 0.0 }.pull(&votes, &all_users)?;
    let mixture = user_mixture::learn(&votes, &all_users, 1, &pull, 0, &|| ())?;
    let head = unscaled(&mixture.heads, &scales);
    if !head.iter().all(|x| x.is_finite()) {
        return Err(RowsError::NotFinite);
    }
    Ok(Single { votes, mixture, head })
}
