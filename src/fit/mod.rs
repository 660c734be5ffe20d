//! Stage 1: K reward heads and a router from plain binary preferences, on frozen embeddings.
//!
//! Owns reading preference data, the mixture loss and its gradient, the optimiser, calibration, the report and
//! writing ONNX graphs. Deliberately knows no bundle and no tokeniser: it is given tokens, an encoder and feature
//! rows. The law: the same data, options and seed give the same bytes.

mod calibrate;
mod dataset;
mod embed;
mod mixture_loss;
mod onnx;
mod optimizer;
mod report;
mod train;

pub use calibrate::{Calibration, calibrate};
pub use dataset::{DataError, Dataset, Preference, Split};
pub use embed::{EmbedError, EmbeddingCache};
pub use mixture_loss::{Parameters, Regularisers};
pub use onnx::{Graph as OnnxGraph, Operation};
pub use report::{Report, Slice, report};
pub use train::{Examples, Options, Pair, train};
