//! Input flags of `fit`, `tune-router` and `replay`.

use std::path::PathBuf;

use clap::Args;

use super::numbers::share;
use super::{Failure, say};
use crate::fit::{COLUMNS, Dataset, Fields};

/// Preference data, and the encoding of its texts.
#[derive(Debug, Args)]
pub(super) struct Inputs {
    /// Feedback in any layout of docs/data.md: JSON lines or a JSON array, plain, .gz or .zst; or parquet, in a build
    /// with it.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(super) data: Vec<PathBuf>,
    /// {id, text} rows for data that names responses by id.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(super) responses: Vec<PathBuf>,
    /// Columns that have another name in the data, such as prompt=question,chosen=better,rejected=worse.
    #[arg(long, value_name = "NAME=COLUMN", value_delimiter = ',', value_parser = named)]
    map: Vec<(String, String)>,
    /// The field that holds the user; by default, the one that the layout has for it.
    #[arg(long, value_name = "NAME", default_value = "user")]
    user_field: String,
    /// Share of the people who are the test split, where no row names its split; rows without a user are drawn by
    /// prompt. The same data have the same test people in every command.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    test_share: f64,
    /// Directory that keeps embeddings between runs.
    #[arg(long, value_name = "DIR", default_value = ".cache/embeddings")]
    pub(super) cache: PathBuf,
    /// The ONNX Runtime library.
    #[arg(long, value_name = "FILE", default_value = "vendor/onnxruntime/libonnxruntime.so")]
    pub(super) onnxruntime_library: PathBuf,
}

impl Inputs {
    /// Makes the drawn share of the people the test split; true if one is drawn.
    pub(super) fn hold_out(&self, dataset: &mut Dataset) -> Result<bool, Failure> {
        match self.test_share {
            0.0 => Ok(false),
            share if dataset.hold_out(share) => Ok(true),
            _ => Err(Failure::refused(
                "--test-share: found rows that name their split, expected none beside it",
            )),
        }
    }

    /// Returns the names of columns. A label that --map names has that name.
    pub(super) fn fields(&self, context: &str, group: &str) -> Fields {
        let mut fields = Fields {
            context: context.to_owned(),
            group: group.to_owned(),
            user: self.user_field.clone(),
            columns: self.map.iter().cloned().collect(),
        };
        for (label, name) in
            [("context", &mut fields.context), ("group", &mut fields.group), ("user", &mut fields.user)]
        {
            if let Some(column) = fields.columns.remove(label) {
                *name = column;
            }
        }
        fields
    }
}

/// Says as what each file was read.
pub(super) fn say_notes(dataset: &Dataset) {
    for line in &dataset.notes {
        say(&mut std::io::stderr(), line);
    }
}

fn named(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, column)) if COLUMNS.contains(&name) && !column.is_empty() => {
            Ok((name.to_owned(), column.to_owned()))
        }
        Some((name, _)) if !COLUMNS.contains(&name) => {
            Err(format!("found the name \"{name}\", expected one of {}", COLUMNS.join(", ")))
        }
        _ => Err("expected a name and a column, such as prompt=question".to_owned()),
    }
}
