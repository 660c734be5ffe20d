//! Input flags of `fit`, `tune-router` and `replay`.

use std::path::PathBuf;

use clap::Args;

/// Preference data, and the encoding of its texts.
#[derive(Debug, Args)]
pub(super) struct Inputs {
    /// Preference pairs as JSON lines, plain or .gz.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(super) data: Vec<PathBuf>,
    /// {id, text} rows for data that names responses by id.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(super) responses: Vec<PathBuf>,
    /// Directory that keeps embeddings between runs.
    #[arg(long, value_name = "DIR", default_value = ".cache/embeddings")]
    pub(super) cache: PathBuf,
    /// The ONNX Runtime library.
    #[arg(long, value_name = "FILE", default_value = "vendor/onnxruntime/libonnxruntime.so")]
    pub(super) onnxruntime_library: PathBuf,
}
