//! The vocabulary that every floor above speaks: errors, config, clock, requests, events, tokens.

pub mod config;
pub mod metric;

mod clock;
mod deadline;
mod elicit;
mod encode;
mod error;
mod event;
mod export;
mod feedback;
mod ids;
mod key;
mod objective;
mod prompt;
mod score;
mod secret;
mod stale;
mod user;

pub use clock::{Clock, SystemClock};
pub use deadline::{deadline, until};
pub use elicit::{Candidate, ElicitAnswer, ElicitRequest, NextQuestion, OpenQuestion, RankedCandidate};
pub use encode::{Embedding, Encode, EncodeError, Encoded, Kept, TextKey, Tokens};
pub use error::{Error, ErrorKind};
pub use event::{Event, EventKind};
pub use export::{Export, ExportRow, ExportShape};
pub use feedback::{Ack, AckStatus, Feedback, Heard, HeardResponse, Mention, Opinion};
pub use ids::{EventId, UserId};
pub use key::key64;
pub use objective::{Objective, ObjectiveKind, Over, ShareOf};
pub use prompt::{Message, Role, routed};
pub use score::{
    CompareAnswer, CompareRequest, RankAnswer, RankRequest, RankedItem, Response, ScoreAnswer, ScoreItem,
    ScoreRequest, ScoredItem,
};
pub use secret::Secret;
pub use stale::Stale;
pub use user::{Erased, HeadView, LedgerView, LedgersView, ModelView, Retracted, UserImport, UserView};
