//! What `fit`, `route` and `replay` read.

use std::path::PathBuf;

use clap::Args;

/// Data, and where its texts become embeddings.
#[derive(Debug, Args)]
pub(super) struct Inputs {
    /// Preference pairs as JSON lines, plain or .gz.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(super) data: Vec<PathBuf>,
    /// {id, text} rows for data that names responses by id.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(super) responses: Vec<PathBuf>,
    /// Where embeddings are kept between runs.
    #[arg(long, value_name = "DIR", default_value = ".cache/embeddings")]
    pub(super) cache: PathBuf,
    /// The ONNX Runtime library.
    #[arg(long, value_name = "FILE", default_value = "vendor/onnxruntime/libonnxruntime.so")]
    pub(super) onnxruntime_library: PathBuf,
}
