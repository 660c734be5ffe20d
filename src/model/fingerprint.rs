//! Hashes files, and everything that makes a bundle score as it does.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::manifest::{EncoderSection, Feature, InputSection, Manifest, Ranges};
use super::tokenizer::Text;
use crate::types::{HeadsFingerprint, TextKey};

/// Returns the SHA-256 of a file, as 64 hex digits.
///
/// # Errors
/// When the file can't be read.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
    }
}

/// Returns the revision of a bundle: 16 hex digits over its files' hashes, its input and its calibration.
///
/// Name, license, questions, report and the revision itself do not count: they change no score.
#[must_use]
pub fn fingerprint(manifest: &Manifest) -> String {
    let mut hasher = Sha256::new();
    hasher.update(encoder_fingerprint(&manifest.encoder));
    hasher.update(input(&manifest.input));
    for file in [&manifest.heads_graph, &manifest.router_graph] {
        hasher.update(file.sha256.to_lowercase());
    }
    for head in &manifest.heads {
        hasher
            .update(format!("{} {:e} {:e} {:e} {:e}", head.name, head.mean, head.std, head.beta, head.prior));
    }
    // Bayes' rule is what a bundle without a learning rate has.
    if manifest.learning_rate != 1.0 {
        hasher.update(format!("learning rate {:e}", manifest.learning_rate));
    }
    short(hasher)
}

/// Returns the identity of the heads; see [`HeadsFingerprint`].
#[must_use]
pub fn heads_fingerprint(manifest: &Manifest) -> HeadsFingerprint {
    let mut hasher = Sha256::new();
    hasher.update(encoder_fingerprint(&manifest.encoder));
    hasher.update(input(&manifest.input));
    hasher.update(manifest.heads_graph.sha256.to_lowercase());
    for head in &manifest.heads {
        hasher.update(format!("{:e} {:e}", head.mean, head.beta));
    }
    short(hasher).as_str().into()
}

/// Returns the input section as a text to hash: how a prompt and a response become a row.
fn input(input: &InputSection) -> String {
    let range = |feature: &Feature| {
        let ranges = input.ranges.get(feature).filter(|_| feature.n_ranges() > 0);
        let ranges = ranges.map(Ranges::as_slice).unwrap_or_default();
        ranges.iter().map(|[low, high]| format!(" {low:e} {high:e}")).collect::<String>()
    };
    let features = input.features.iter().map(|feature| name(feature) + &range(feature));
    let features = features.collect::<Vec<_>>().join(" ");
    format!("{} {features}{}", name(&input.template), lexical(input))
}

/// Returns the hash of the file of the lexical columns as a text to hash; nothing without.
fn lexical(input: &InputSection) -> String {
    input.lexical.as_ref().map_or_else(String::new, |file| format!(" {}", file.sha256.to_lowercase()))
}

/// Returns 16 hex digits over everything that an embedding depends on.
#[must_use]
pub fn encoder_fingerprint(encoder: &EncoderSection) -> String {
    let EncoderSection { output, pooling, normalize, max_tokens, .. } = encoder;
    let mut hasher = Sha256::new();
    for file in encoder.files() {
        hasher.update(file.sha256.to_lowercase());
    }
    hasher.update(format!("{output} {} {normalize} {max_tokens}", name(pooling)));
    short(hasher)
}

/// Begins the hash of a text with all else that its embedding and its surface depend on.
pub(super) fn text_hasher(manifest: &Manifest) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(encoder_fingerprint(&manifest.encoder).as_bytes());
    let surface = [Feature::Style, Feature::Lexical];
    for feature in surface.into_iter().filter(|feature| manifest.input.features.contains(feature)) {
        hasher.update(name(&feature).as_bytes());
    }
    hasher.update(lexical(&manifest.input).as_bytes());
    hasher
}

/// Returns 128 bits over an encoder, the surface that is read and a text.
pub(super) fn text_key(mut hasher: blake3::Hasher, text: Text<'_>) -> TextKey {
    match text {
        Text::Single(text) => hasher.update(&[0]).update(text.as_bytes()),
        // The end of the prompt is part of the key.
        Text::Pair(prompt, response) => {
            let n_prompt = (prompt.len() as u64).to_le_bytes();
            hasher.update(&[1]).update(&n_prompt).update(prompt.as_bytes()).update(response.as_bytes())
        }
    };
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    TextKey(key)
}

/// Returns a variant as manifests spell it, so that the code may be renamed.
fn name(variant: &impl Serialize) -> String {
    serde_json::to_string(variant).unwrap_or_default()
}

fn short(hasher: Sha256) -> String {
    hex(&hasher.finalize())[..16].to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
