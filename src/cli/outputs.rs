//! The figures of a run beside its table: as JSON, and as a page.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Failure;
use super::files::{check_place, write};
use crate::page::Page;

/// Where figures go; nowhere, unless named.
#[derive(Debug, Args)]
pub(super) struct Outputs {
    /// Where the figures are written as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the report is written: one file that needs no other.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Outputs {
    /// Refuses places that are not there, before the work is done.
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
