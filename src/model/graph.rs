//! Runs a small graph from rows to rows: the heads or the router.

use std::path::Path;

use ndarray::{Array2, ArrayView2, Ix2};
use ort::session::Session;
use ort::value::TensorRef;
use parking_lot::Mutex;

use super::runtime::Runtime;

/// A graph with one float input `[B, n_in]` and one float output `[B, n_out]`; callers take turns.
#[derive(Debug)]
pub struct Graph {
    session: Mutex<Session>,
    n_in: usize,
    n_out: usize,
}

/// The reason why a graph can't be used.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// ONNX Runtime refused the file.
    #[error("can't be opened: {0}")]
    Open(String),
    /// The graph has other inputs.
    #[error("found the inputs {found}, expected {expected}")]
    Inputs {
        /// Their names.
        found: String,
        /// The inputs that this program feeds.
        expected: String,
    },
    /// The graph has other outputs.
    #[error("found the outputs {found}, expected {expected}")]
    Outputs {
        /// Their names.
        found: String,
        /// The outputs that this program reads.
        expected: String,
    },
    /// A matrix has another width.
    #[error("found {found} {what}, expected {expected} ({why})")]
    Width {
        /// Input or output columns.
        what: &'static str,
        /// Number of columns of the graph.
        found: usize,
        /// Number of columns that fit.
        expected: usize,
        /// Origin of the expectation.
        why: String,
    },
    /// ONNX Runtime failed on a batch.
    #[error("failed on a batch: {0}")]
    Run(String),
    /// The output holds a NaN or an infinity.
    #[error("returned a value that is not finite")]
    NotFinite,
}

impl Graph {
    /// Opens the graph and runs two rows of it to check that the widths are as given.
    ///
    /// `why_in` and `why_out` name the origins of the widths.
    ///
    /// # Errors
    /// When the graph can't be opened, has other widths, or returns a value that is not finite.
    pub fn open(
        runtime: &Runtime,
        path: &Path,
        (n_in, why_in): (usize, &str),
        (n_out, why_out): (usize, &str),
    ) -> Result<Self, GraphError> {
        let session = runtime.open(path).map_err(|error| GraphError::Open(error.to_string()))?;
        let names = |outlets: &[ort::value::Outlet]| {
            outlets.iter().map(|outlet| outlet.name().to_owned()).collect::<Vec<_>>().join(", ")
        };
        if session.inputs().len() != 1 {
            return Err(GraphError::Inputs { found: names(session.inputs()), expected: "one".to_owned() });
        }
        if session.outputs().len() != 1 {
            return Err(GraphError::Outputs { found: names(session.outputs()), expected: "one".to_owned() });
        }
        let declared = session.inputs()[0].dtype().tensor_shape().and_then(|shape| shape.last().copied());
        if let Some(found) = declared.and_then(|n| usize::try_from(n).ok()).filter(|&found| found != n_in) {
            return Err(GraphError::Width {
                what: "input columns",
                found,
                expected: n_in,
                why: why_in.to_owned(),
            });
        }
        let graph = Self { session: Mutex::new(session), n_in, n_out };
        let found = graph.raw(Array2::from_elem((2, n_in), 0.1).view())?.ncols();
        if found != n_out {
            return Err(GraphError::Width {
                what: "output columns",
                found,
                expected: n_out,
                why: why_out.to_owned(),
            });
        }
        Ok(graph)
    }

    /// Returns the number of input columns.
    #[must_use]
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// Runs rows `[B, n_in]` to rows `[B, n_out]`, all finite. Blocks; B may be 0.
    ///
    /// # Errors
    /// When ONNX Runtime fails or an output is not finite.
    pub fn run(&self, rows: ArrayView2<'_, f32>) -> Result<Array2<f32>, GraphError> {
        if rows.nrows() == 0 {
            return Ok(Array2::zeros((0, self.n_out)));
        }
        self.raw(rows)
    }

    fn raw(&self, rows: ArrayView2<'_, f32>) -> Result<Array2<f32>, GraphError> {
        let failed = |error: ort::Error| GraphError::Run(error.to_string());
        let n_rows = rows.nrows();
        let mut session = self.session.lock();
        let input = TensorRef::from_array_view(rows).map_err(failed)?;
        let outputs = session.run(ort::inputs![input]).map_err(failed)?;
        let output = outputs[0].try_extract_array::<f32>().map_err(failed)?;
        let shape = format!("{:?}", output.shape());
        let output = output
            .into_dimensionality::<Ix2>()
            .ok()
            .filter(|output| output.nrows() == n_rows)
            .ok_or_else(|| {
                GraphError::Run(format!("found an output of shape {shape}, expected one row per input row"))
            })?;
        if output.iter().all(|x| x.is_finite()) { Ok(output.to_owned()) } else { Err(GraphError::NotFinite) }
    }
}
