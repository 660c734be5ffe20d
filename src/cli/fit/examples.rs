//! From texts to the numbers that training reads.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::Path;

use indicatif::ProgressBar;
use ndarray::Array2;

use crate::cli::Failure;
use crate::fit::{Dataset, EmbeddingCache, Examples, Pair};
use crate::model::{EncoderParts, Features, Template, Text};
use crate::types::{Embedding, Tokens};

/// Encodes every text that the heads or the router read, once, and lays out the rows of training.
pub(super) fn encode(
    dataset: &Dataset,
    encoder: &mut EncoderParts,
    cache: &Path,
    bar: &ProgressBar,
) -> Result<Examples, Failure> {
    let features = Features::new(&encoder.input, encoder.n_embedding);
    let template = encoder.input.template;
    let is_prompt_read = features.read_the_prompt();
    let text = |idx: usize| dataset.texts[idx].as_str();
    let response = |row: Row| match (template, row.prompt) {
        (Template::Pair, Some(prompt)) => Text::Pair(text(prompt), text(row.response)),
        _ => Text::Single(text(row.response)),
    };

    let mut rows = Interner::default();
    let mut routed = Interner::default();
    let mut pairs = Vec::with_capacity(dataset.pairs.len());
    for choice in &dataset.pairs {
        let prompt = (is_prompt_read || template == Template::Pair).then_some(choice.prompt);
        let chosen = rows.index(Row { prompt, response: choice.chosen });
        let rejected = rows.index(Row { prompt, response: choice.rejected });
        pairs.push(Pair { file: choice.file, prompt: routed.index(choice.routed), chosen, rejected });
    }
    let mut texts = Interner::default();
    for &row in &rows.items {
        texts.index(response(row));
        if let Some(prompt) = row.prompt.filter(|_| is_prompt_read) {
            texts.index(Text::Single(text(prompt)));
        }
    }
    for &prompt in &routed.items {
        texts.index(Text::Single(text(prompt)));
    }

    let embeddings = embed(encoder, &texts.items, cache, bar)?;
    let embedding = |text: Text<'_>| &*embeddings[texts.positions[&text]];
    let mut flat = Vec::with_capacity(rows.items.len() * features.n_columns());
    for &row in &rows.items {
        let prompt = row.prompt.filter(|_| is_prompt_read);
        let prompt = prompt.map_or(&[][..], |prompt| embedding(Text::Single(text(prompt))));
        features.extend(&mut flat, prompt, embedding(response(row)), text(row.response));
    }
    let prompts =
        routed.items.iter().flat_map(|&prompt| embedding(Text::Single(text(prompt))).iter().copied());
    let matrix =
        |n_rows, n_columns, flat| Array2::from_shape_vec((n_rows, n_columns), flat).map_err(Failure::failed);
    Ok(Examples {
        prompts: matrix(routed.items.len(), encoder.n_embedding, prompts.collect())?,
        features: matrix(rows.items.len(), features.n_columns(), flat)?,
        pairs,
    })
}

fn embed(
    encoder: &mut EncoderParts,
    texts: &[Text<'_>],
    cache: &Path,
    bar: &ProgressBar,
) -> Result<Vec<Embedding>, Failure> {
    let tokens: Result<Vec<Tokens>, _> = texts.iter().map(|&text| encoder.tokenizer.tokens(text)).collect();
    let tokens = tokens.map_err(Failure::refused)?;
    let mut cache =
        EmbeddingCache::open(cache, &encoder.revision(), encoder.n_embedding).map_err(Failure::failed)?;
    let progress = |done: usize, of: usize| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    };
    let embeddings = cache.embed(&tokens, &mut encoder.sessions, progress).map_err(Failure::failed)?;
    bar.finish();
    Ok(embeddings)
}

/// What one feature row is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Row {
    /// None where the row does not depend on the prompt.
    prompt: Option<usize>,
    response: usize,
}

/// Numbers things in the order of their first appearance.
struct Interner<T> {
    items: Vec<T>,
    positions: HashMap<T, usize>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { items: Vec::new(), positions: HashMap::new() }
    }
}

impl<T: Copy + Eq + Hash> Interner<T> {
    fn index(&mut self, item: T) -> usize {
        *self.positions.entry(item).or_insert_with(|| {
            self.items.push(item);
            self.items.len() - 1
        })
    }
}
