//! Replay: the accuracy of routing for users from whom the heads were not learned.
//!
//! A replay takes every user's choices one by one: it predicts, then learns. The module owns the rules that are
//! compared, the orders in which choices are asked for, the curves and their intervals. It deliberately knows no text
//! and no bundle: its input is the heads' rewards for every choice. The law: a prediction sees only labels that were
//! given before it.

mod blend;
mod curve;
mod features;
mod gate;
mod interval;
mod moments;
mod objectives;
mod order;
mod reserve;
mod rules;
mod seen;
mod shuffle;
mod value;
mod walk;

pub use blend::Blend;
pub use curve::{Curve, Point, Setting, replay};
pub use gate::Gate;
pub use interval::{Estimate, estimate, estimate_columns};
pub use objectives::{ObjectiveRow, compare_objectives};
pub use order::Order;
pub use reserve::Reserve;
pub use rules::{Reference, Rule};
pub use seen::{Seen, Served};
pub use value::{RatedResponse, Rater, ValuePoint, ValueRow, values};
pub use walk::{Bin, calibration, weights_over_time};

use crate::mixture::{log_either, log_sigmoid};

/// One choice of a user, as the heads score it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// `beta_k (r_k(chosen) - r_k(rejected))`, shape `[K]`.
    pub margins: Vec<f64>,
    /// `z_k` of the chosen response, shape `[K]`.
    pub chosen: Vec<f64>,
    /// `z_k` of the rejected response, shape `[K]`.
    pub rejected: Vec<f64>,
    /// The router's log-weights for the prompt and its context, shape `[K]`.
    pub log_prior: Vec<f64>,
    /// Log length of the chosen response minus that of the rejected one.
    pub longer: f64,
    /// The log-odds of the choice by a single head, by style and by words; 0 where there were no train pairs to learn
    /// from.
    pub rulers: [f64; 3],
    /// The two responses, or that of a thumb, by numbers that are the same wherever a response comes again.
    pub responses: Vec<usize>,
    /// The key of the context of the choice.
    pub context: Option<u64>,
    /// The label of the choice in reports.
    pub group: Option<usize>,
    /// Its place in the bundle's questionnaire, if it is one of the questions.
    pub question: Option<usize>,
    /// The label that it is a part of, such as a ranking of many; none for a label of its own.
    pub label: Option<usize>,
    /// True if the two responses are equally good: learned from, and not measured on.
    pub is_tie: bool,
    /// Its weight, > 0.
    pub weight: f64,
}

impl Trial {
    /// Returns its log-likelihood by every head, as a ledger adds it up but for a constant, shape `[K]`.
    fn evidence(&self) -> impl Iterator<Item = f64> {
        let nats = |d: f64| if self.is_tie { log_either(d) } else { log_sigmoid(d) };
        self.margins.iter().map(move |&d| self.weight * nats(d))
    }
}

/// All choices of one user, in the order in which they were made.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// The name in the data.
    pub name: String,
    /// The choices, at least one; those of one label follow one another.
    pub trials: Vec<Trial>,
}

impl Person {
    /// Returns positions in `trials` label by label; `positions` are ascending.
    fn labels(&self, positions: &[usize]) -> Vec<Vec<usize>> {
        let label = |position: usize| self.trials[position].label;
        let is_same = |a: &usize, b: &usize| label(*a).is_some() && label(*a) == label(*b);
        positions.chunk_by(is_same).map(<[usize]>::to_vec).collect()
    }
}
