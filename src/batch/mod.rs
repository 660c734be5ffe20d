//! The encoder's work queue: texts in, embeddings out, batched by token budget.
//!
//! Owns the order of the work and the model threads. Deliberately knows no model: it sees an encoder through
//! [`crate::types::Encode`]. The laws: a batch never waits while a model thread is idle; a text whose caller is
//! gone is never encoded; which texts share a batch changes no embedding.

mod queue;
mod worker;

pub use queue::{Full, Queue, QueueConfig};
pub use worker::Workers;
