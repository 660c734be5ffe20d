//! Replay: the accuracy of routing for users from whom the heads were not learned.
//!
//! A replay takes every user's choices one by one: it predicts, then learns. The module owns the rules that are
//! compared, the orders in which choices are asked for, the curves and their intervals. It deliberately knows no text
//! and no bundle: its input is the heads' rewards for every choice. The law: a prediction sees only labels that were
//! given before it.

mod curve;
mod interval;
mod objectives;
mod order;
mod reserve;
mod rules;
mod walk;

pub use curve::{Curve, Point, Setting, replay};
pub use interval::{Estimate, estimate, estimate_columns};
pub use objectives::{ObjectiveRow, compare_objectives};
pub use order::Order;
pub use reserve::Reserve;
pub use rules::{Reference, Rule, Seen, Served};
pub use walk::{Bin, calibration, weights_over_time};

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
    /// The log-odds of the choice by a single head; 0 where there were no train pairs to learn one from.
    pub single: f64,
    /// The two responses, by numbers that are the same wherever a response comes again.
    pub responses: [usize; 2],
    /// The key of the context of the choice.
    pub context: Option<u64>,
    /// The label of the choice in reports.
    pub group: Option<usize>,
    /// Its place in the bundle's questionnaire, if it is one of the questions.
    pub question: Option<usize>,
}

/// All choices of one user, in the order in which they were made.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// The name in the data.
    pub name: String,
    /// The choices, at least one.
    pub trials: Vec<Trial>,
}
