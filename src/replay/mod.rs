//! Replay: what routing would have given people who were not there when the heads were learned.
//!
//! Every person's choices are gone through one by one: predict, then learn. Owns the rules that are compared, the orders
//! in which choices are asked for, the curves and their intervals. Deliberately knows no text and no bundle: it is
//! given what the heads say of every choice. The law: a prediction sees only labels that were given before it.

mod curve;
mod interval;
mod objectives;
mod order;
mod rules;
mod walk;

pub use curve::{Curve, Point, Setting, replay};
pub use interval::{Estimate, estimate, estimate_columns};
pub use objectives::{ObjectiveRow, compare_objectives};
pub use order::Order;
pub use rules::{Reference, Rule, Seen, Served};
pub use walk::{Bin, calibration, weights_over_time};

/// One choice of a person, as the heads see it.
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
    /// The key of what the person had in mind.
    pub context: Option<u64>,
    /// The label of the choice in reports.
    pub group: Option<usize>,
    /// Its place in the bundle's questionnaire, if it is one of the questions.
    pub question: Option<usize>,
}

/// All choices of one person, in the order in which they were made.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// The name in the data.
    pub name: String,
    /// At least one.
    pub trials: Vec<Trial>,
}
