//! `[state]`: the engine that keeps the ledgers, and its bounds.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::section::{HOUR, Section};

/// The engine that keeps the ledgers, and its bounds.
#[derive(Debug, Clone)]
pub struct State {
    pub engine: Engine,
    /// Never empty, except for the shared engine, where empty means no outbox.
    pub data_dir: PathBuf,
    /// True if an ack waits for the disk.
    pub is_sync: bool,
    pub max_users: NonZeroUsize,
    pub resident_users: NonZeroUsize,
    pub checkpoint_every: Duration,
    /// Upper bound of the age of a row of the shared engine that is served without asking the store.
    pub max_staleness: Duration,
}

impl State {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let engine = section.choice("engine", Engine::NAMES);
        Self {
            engine,
            data_dir: match engine {
                Engine::Valkey => section.value("data_dir"),
                Engine::Embedded | Engine::Memory => section.path("data_dir"),
            },
            is_sync: section.choice("durability", &[("sync", true), ("async", false)]),
            max_users: section.count("max_users"),
            resident_users: section.count("resident_users"),
            checkpoint_every: section.duration_above_zero("checkpoint_every", HOUR),
            max_staleness: section.duration("max_staleness", HOUR),
        }
    }
}

/// The state engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Memory of this process alone.
    Memory,
    /// Memory of this process, and a directory across restarts.
    Embedded,
    /// Valkey or Redis, shared by any number of replicas.
    Valkey,
}

impl Engine {
    const NAMES: &[(&str, Self)] =
        &[("embedded", Self::Embedded), ("valkey", Self::Valkey), ("memory", Self::Memory)];
}
