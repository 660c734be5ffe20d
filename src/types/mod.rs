//! The vocabulary of every module above: errors, configuration, clock, requests, events, tokens.

pub mod config;
pub mod json;

mod ack;
mod at;
mod bodies;
mod clock;
mod deadline;
mod elicit;
mod encode;
mod error;
mod event;
mod event_kind;
mod export;
mod feedback;
mod fingerprint;
mod ids;
mod key;
mod liveness;
mod objective;
mod prompt;
mod resent;
mod score;
mod secret;
mod slips;
mod stale;
mod user;

pub use ack::{Ack, AckStatus};
pub use at::optional as optional_time;
pub use bodies::{Bodies, Held, NO_ROOM};
pub use clock::{Clock, SystemClock};
pub use deadline::{deadline, until};
pub use elicit::{Candidate, ElicitAnswer, ElicitRequest, NextQuestion, OpenQuestion, RankedCandidate};
pub use encode::{Embedding, Encode, EncodeError, Encoded, Kept, TextKey, Tokens};
pub use error::{Error, ErrorKind};
pub use event::Event;
pub use event_kind::EventKind;
pub use export::{Export, ExportRow, ExportShape};
pub use feedback::{Feedback, Judgment, ResolvedFeedback, ResolvedResponse, ResponseRef};
pub use fingerprint::HeadsFingerprint;
pub use ids::{EventId, UserId};
pub use key::key64;
pub use liveness::{Liveness, Part};
pub use objective::{Objective, ObjectiveKind, Over, ShareOf};
pub use prompt::{Message, Role, routed};
pub(crate) use prompt::{render, turns};
pub use resent::Resent;
pub use score::{
    CompareAnswer, CompareRequest, RankAnswer, RankRequest, RankedItem, Response, ScoreAnswer, ScoreItem,
    ScoreRequest, ScoredItem,
};
pub use secret::Secret;
pub use stale::Stale;
pub use user::{
    Erased, HeadView, LedgerView, LedgersView, MergeAnswer, MergeRequest, ModelView, Retracted, UserImport,
    UserView,
};
