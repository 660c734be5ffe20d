//! The encoder's work queue: texts in, embeddings out.
//!
//! It owns the order of the work, the model threads and the cache of embeddings. It knows no model by design: it
//! calls an encoder through [`crate::types::Encode`]. The laws: a batch never waits while a model thread is idle; a
//! text that no request awaits is never encoded, and one that several await is encoded once; an embedding does not
//! depend on the texts that share its batch; a request's size delays that request and no smaller one.

mod budget;
mod cache;
mod flight;
mod order;
mod queue;
mod refused;
mod ticket;
mod worker;

pub use budget::{Budgets, Measured};
pub use cache::EmbeddingCache;
pub use queue::{Queue, QueueConfig};
pub use refused::Refused;
pub use ticket::{Answers, Ticket};
pub use worker::{Encoders, Workers};
