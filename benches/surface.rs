//! Times style and lexical columns beside the tokenizer, per text, on one thread.
//!
//! usage: `cargo bench --bench surface [-- BUNDLE]`, of a bundle that reads both; by default `models/default`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking and prints its figures"
)]

use std::hint::black_box;
use std::path::PathBuf;

use micro_reward::model::{MANIFEST, Manifest, Text, Tokenizer};
use micro_reward::surface::{Lexical, buckets};
use tokio::time::Instant;

/// Runs of a text, of which the median counts.
const RUNS: usize = 301;

const SENTENCE: &str = "You could ask a doctor first, because seven of ten people (maybe more) sleep better without tea; \
                        I can't say how 12 others feel. ";

fn main() {
    let dir = std::env::args()
        .skip(1)
        .find(|arg| !arg.starts_with("--"))
        .map_or_else(|| PathBuf::from("models/default"), PathBuf::from);
    let manifest: Manifest = toml::from_str(&std::fs::read_to_string(dir.join(MANIFEST)).unwrap()).unwrap();
    let file = &manifest.encoder.tokenizer.file;
    let tokenizer = Tokenizer::load(&dir.join(file), manifest.encoder.max_tokens).unwrap();
    let lexical = manifest.input.lexical.as_ref().map(|file| std::fs::read(dir.join(&file.file)).unwrap());
    let lexical = lexical.map(|bytes| Lexical::from_bytes(&bytes).unwrap());
    println!("tokens   tokenizer     style   lexical   (microseconds per text, median of {RUNS})");
    for n_sentences in [1, 4, 16, 64] {
        // Words of their own keep n-grams from repeating, as in real text.
        let text: String = (0..n_sentences).map(|i| format!("{SENTENCE} {} ", i * 7919)).collect();
        let (_, own) = tokenizer.tokens_and_own(Text::Single(&text)).unwrap();
        let tokens = median(|| drop(black_box(tokenizer.tokens_and_own(Text::Single(&text)))));
        let style = median(|| {
            black_box(tokenizer.style(&own));
        });
        let lexical =
            lexical.as_ref().map_or(0.0, |table| median(|| drop(black_box(table.columns(&buckets(&own))))));
        println!("{:>6} {tokens:>11.1} {style:>9.1} {lexical:>9.1}", own.len());
    }
}

fn median(mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}
