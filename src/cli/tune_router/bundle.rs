//! Writes the tuned bundle to disk.

use std::fs;

use super::Args;
use crate::cli::Failure;
use crate::cli::files::{at, bring, write as write_file};
use crate::fit::{Router, router_graph};
use crate::model::{FileHash, MANIFEST, Manifest, fingerprint, sha256};

const ROUTER: &str = "router.onnx";

/// Writes the bundle with another router; the manifest last. Returns the revision.
pub(super) fn write(args: &Args, router: &Router) -> Result<String, Failure> {
    let path = args.bundle.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(|error| at(&path, &error))?;
    let mut manifest: Manifest = toml::from_str(&text).map_err(Failure::refused)?;
    fs::create_dir_all(&args.out).map_err(|error| at(&args.out, &error))?;
    let files = manifest.encoder.files().chain([&manifest.heads_graph]).chain(&manifest.questions);
    for file in files {
        bring(&args.bundle.join(&file.file), &args.out.join(&file.file))?;
    }
    let path = args.out.join(ROUTER);
    write_file(&path, router_graph(router).into_bytes())?;
    let sha256 = sha256(&path).map_err(|error| at(&path, &error))?;
    manifest.router_graph = FileHash { file: ROUTER.to_owned(), sha256 };
    manifest.revision = fingerprint(&manifest);
    let path = args.out.join(MANIFEST);
    write_file(&path, toml::to_string(&manifest).map_err(Failure::failed)?)?;
    Ok(manifest.revision)
}
