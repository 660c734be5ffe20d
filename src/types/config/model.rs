//! `[model]`: the bundle that is served, and the runtime of its encoder.

use std::path::PathBuf;

use super::section::Section;

/// The bundle that is served, and the runtime of its encoder.
#[derive(Debug, Clone)]
pub struct Model {
    pub bundle: PathBuf,
    pub onnxruntime_library: PathBuf,
    /// Execution providers, best first; at least one.
    pub execution_providers: Vec<Provider>,
}

impl Model {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self {
            bundle: section.path("bundle"),
            onnxruntime_library: section.path("onnxruntime_library"),
            execution_providers: section.choices("execution_providers", Provider::NAMES),
        }
    }
}

/// The execution provider of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The cores of this machine.
    Cpu,
    /// A GPU by CUDA.
    Cuda,
    /// A GPU by TensorRT.
    Tensorrt,
}

impl Provider {
    const NAMES: &[(&str, Self)] = &[("cpu", Self::Cpu), ("cuda", Self::Cuda), ("tensorrt", Self::Tensorrt)];

    /// Returns the name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, provider)| *provider == self).map_or("", |(name, _)| name)
    }
}
