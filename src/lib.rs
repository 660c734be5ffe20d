//! A reward server with a routed mixture of heads, personalized online.
//!
//! It serves MiCRo (arXiv 2505.24846): one frozen encoder, K reward heads learned from plain binary preferences,
//! and a router whose per-user mixture weights follow streamed feedback while the server scores.
//!
//! The floors, in reading order; imports point down only (`tests/tidy/` checks it):
//!
//! - [`telemetry`]: the log and the metrics. [`mixture`], [`surface`]: the mathematics; pure.
//! - [`types`]: the vocabulary and the configuration.
//! - [`model`], [`batch`], [`state`], [`fit`], [`replay`], [`page`]: the engines. They do not import one another.
//! - [`service`]: one function per verb, free of any transport.
//! - [`transport`]: routes and handlers.
//! - [`server`]: the process. [`cli`]: the commands.

pub mod mixture;
pub mod surface;
pub mod telemetry;

pub mod types;

pub mod batch;
pub mod fit;
pub mod model;
pub mod page;
pub mod replay;
pub mod state;

pub mod service;

pub mod transport;

pub mod server;

pub mod cli;
