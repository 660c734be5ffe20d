//! `[model]`: what is served, and what runs its encoder.

use std::path::PathBuf;

use super::section::Section;

/// What is served.
#[derive(Debug, Clone)]
pub struct Model {
    pub bundle: PathBuf,
    pub onnxruntime_library: PathBuf,
    /// At least one, best first.
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

/// What runs an encoder.
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

    /// As it is spelled in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, provider)| *provider == self).map_or("", |(name, _)| name)
    }
}
