//! Writes the figures of a run as JSON and as a page.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Failure;
use super::files::{check_place, write};
use crate::page::Page;

/// Files to write figures to; none by default.
#[derive(Debug, Args)]
pub(super) struct Outputs {
    /// File to write the figures to, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// File to write the report to, as self-contained HTML.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Outputs {
    /// Refuses files whose directory does not exist, before the work is done.
    pub(super) fn check(&self) -> Result<(), Failure> {
        check_place("--json", self.json.as_ref())?;
        check_place("--html", self.html.as_ref())
    }

    pub(super) fn write(&self, figures: &impl Serialize, page: impl FnOnce() -> Page) -> Result<(), Failure> {
        if let Some(path) = &self.json {
            write(path, serde_json::to_string_pretty(figures).map_err(Failure::failed)?)?;
        }
        self.html.as_ref().map_or(Ok(()), |path| write(path, page().html()))
    }
}
