//! `[state]`: where ledgers live.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::section::{HOUR, Section};

/// Where ledgers live.
#[derive(Debug, Clone)]
pub struct State {
    pub engine: Engine,
    /// Never empty for the embedded engine; for the shared one, empty is no outbox.
    pub data_dir: PathBuf,
    /// Whether an ack waits for the disk.
    pub is_sync: bool,
    pub max_users: NonZeroUsize,
    pub resident_users: NonZeroUsize,
    pub checkpoint_every: Duration,
    /// How old a row of the shared engine may be that is served without asking.
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
    /// In this process alone.
    Memory,
    /// In this process, and in a directory across restarts.
    Embedded,
    /// In Valkey or Redis, shared by any number of replicas.
    Valkey,
}

impl Engine {
    const NAMES: &[(&str, Self)] =
        &[("embedded", Self::Embedded), ("valkey", Self::Valkey), ("memory", Self::Memory)];
}
