//! Writes the tuned bundle to disk.

use std::fs;

use super::Args;
use crate::cli::Failure;
use crate::cli::files::at;
use crate::cli::staged::Staged;
use crate::fit::{Router, router_graph};
use crate::model::{MANIFEST, Manifest, fingerprint};

const ROUTER: &str = "router.onnx";

/// Writes the bundle with another router. Returns the revision.
pub(super) fn write(args: &Args, staged: &Staged, router: &Router) -> Result<String, Failure> {
    let path = args.bundle.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(|error| at(&path, &error))?;
    let mut manifest: Manifest = toml::from_str(&text).map_err(Failure::refused)?;
    let files = manifest.encoder.files().chain([&manifest.heads_graph]);
    let files = files.chain(&manifest.questions).chain(&manifest.input.lexical);
    for file in files {
        staged.bring(&args.bundle.join(&file.file), &file.file)?;
    }
    manifest.router_graph = staged.write(ROUTER, router_graph(router).into_bytes())?;
    manifest.revision = fingerprint(&manifest);
    staged.write(MANIFEST, toml::to_string(&manifest).map_err(Failure::failed)?)?;
    Ok(manifest.revision)
}
