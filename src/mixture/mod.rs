//! The mathematics of the routed mixture: weights, evidence, ledgers, decay, scores.
//!
//! Pure functions and values: no async, no I/O, no clock, and nothing here can fail. Times are parameters,
//! in milliseconds since the Unix epoch. The symbols are those of MiCRo (arXiv 2505.24846): `K` reward heads,
//! `r_k` the reward of head `k`, `pi_k` the router's prior, `w_k` the mixture weights.

mod contexts;
mod decay;
mod evidence;
mod information;
mod ledger;
mod ledgers;
mod objective;
mod scores;
mod weights;

/// Upper bound of K. A row keeps each event's increment within 64 KiB, and is read as a whole for every score.
pub const MAX_HEADS: usize = 1024;

pub use contexts::contextual;
pub use decay::Decay;
pub use evidence::{Increment, log_either, log_sigmoid, pair, ranking, rating, sigmoid, thumb, tie};
pub use information::mutual_information;
pub use ledger::Ledger;
pub use ledgers::{Evidence, Ledgers, MAX_CONTEXTS};
pub use objective::{maxmin, population, quantile};
pub use scores::{best_probabilities, disagreement, preference, win};
pub use weights::{MAX_LEARNING_RATE, Routing, Weights, log_softmax, log_sum_exp};
