//! A reward server with a routed mixture of heads, personalised online.
//!
//! It serves MiCRo (arXiv 2505.24846): one frozen encoder, K reward heads learned from plain binary preferences,
//! and a router whose per-user mixture weights follow streamed feedback while the server scores.
//!
//! The floors, in reading order; imports go down only (`tests/tidy.rs` checks it):
//!
//! - [`mixture`]: the mathematics. Pure.
//! - [`types`]: the vocabulary and the configuration.
//! - [`model`], [`batch`], [`state`], [`fit`], [`replay`], [`page`]: the engines. They do not know one another.
//! - [`service`]: one function per verb, free of any transport.
//! - [`http`], [`grpc`]: routes and handlers.
//! - [`app`] and its neighbours: the process. [`cli`]: the commands.

pub mod mixture;

pub mod types;

pub mod batch;
pub mod fit;
pub mod model;
pub mod page;
pub mod replay;
pub mod state;

pub mod service;

pub mod grpc;
pub mod http;

pub mod app;
pub mod cli;

mod admin;
mod admission;
mod connections;
mod guarded;
mod health;
mod metrics;
mod observe;
mod pace;
mod parts;
mod refusal;
mod reload;
mod shutdown;
mod socket;
mod telemetry;
