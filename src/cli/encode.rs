//! Encodes the texts of a data set into embeddings on disk, and examples that point at them.

use std::path::Path;

use indicatif::ProgressBar;
use rayon::prelude::*;

use super::Failure;
use crate::fit::{Block, Dataset, EmbeddingCache, Examples, FeatureRow, Interner, Layout, Pair};
use crate::model::{EncoderParts, Feature, InputSection, Template, Text, Tokenizer};
use crate::types::Tokens;

/// Texts read, tokenized and encoded at once.
const CHUNK: usize = 1024;

/// One input of the encoder: a text or a pair of texts, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Single(usize),
    Pair(usize, usize),
}

/// Encodes every text that the heads or the router read, once; texts in the cache in `dir` are not encoded again.
/// `more` are texts that the router reads besides those of the pairs; the second result is their positions in
/// `Examples::prompts`. Log lengths are computed from the tokens and not clamped to a range.
pub(super) fn encode(
    dataset: &Dataset,
    more: &[usize],
    layout: Layout,
    encoder: &mut EncoderParts,
    dir: &Path,
    bar: &ProgressBar,
) -> Result<(Examples, Vec<usize>), Failure> {
    let template = encoder.input.template;
    let reads_the_prompt = layout.reads_the_prompt();
    let mut texts = Interner::default();
    let mut rows: Interner<(Option<usize>, usize)> = Interner::default();
    let mut routed = Interner::default();
    let mut pairs = Vec::with_capacity(dataset.pairs.len());
    for choice in &dataset.pairs {
        let mut row = |response: usize| {
            let prompt = reads_the_prompt.then(|| texts.index(Key::Single(choice.prompt)));
            let encoded = texts.index(match template {
                Template::Pair => Key::Pair(choice.prompt, response),
                Template::Separate => Key::Single(response),
            });
            rows.index((prompt, encoded))
        };
        let (chosen, rejected) = (row(choice.chosen), row(choice.rejected));
        let prompt = routed.index(texts.index(Key::Single(choice.routed)));
        pairs.push(Pair { file: choice.file, user: choice.user, prompt, chosen, rejected });
    }

    let more = more.iter().map(|&text| routed.index(texts.index(Key::Single(text)))).collect();

    let mut cache =
        EmbeddingCache::open(dir, &encoder.revision(), encoder.n_embedding).map_err(Failure::failed)?;
    bar.set_length(texts.len() as u64);
    let (mut embeddings, mut log_lengths) =
        (Vec::with_capacity(texts.len()), Vec::with_capacity(texts.len()));
    for chunk in texts.items().chunks(CHUNK) {
        let tokens = chunk
            .par_iter()
            .map(|&key| tokens(dataset, &encoder.tokenizer, key))
            .collect::<Result<Vec<_>, _>>()?;
        let rows = cache.embed(&tokens, &mut encoder.sessions, |n| bar.inc(n)).map_err(Failure::failed)?;
        embeddings.extend(rows);
        log_lengths.extend(tokens.iter().map(|tokens| tokens.kept.log_length()));
    }
    bar.finish();
    let row = |&(prompt, encoded): &(Option<usize>, usize)| FeatureRow {
        prompt: prompt.map(|text| embeddings[text]),
        response: embeddings[encoded],
        log_length: log_lengths[encoded],
    };
    let examples = Examples {
        rows: rows.items().iter().map(row).collect(),
        prompts: routed.items().iter().map(|&text| embeddings[text]).collect(),
        layout,
        cache,
        pairs,
    };
    Ok((examples, more))
}

/// Returns the input columns of a bundle.
pub(super) fn layout(input: &InputSection, n_embedding: usize) -> Layout {
    let block = |feature: &Feature| match feature {
        Feature::Response => Block::Response,
        Feature::Prompt => Block::Prompt,
        Feature::LogLength => Block::LogLength,
    };
    Layout { blocks: input.features.iter().map(block).collect(), n_embedding }
}

/// Returns the columns that `fit` would learn from for a bundle with the input columns `layout`: those of a single
/// head to compare with.
pub(super) fn learnable(layout: &Layout) -> Layout {
    let similarity = |block: &Block| if *block == Block::Prompt { Block::Similarity } else { *block };
    Layout { blocks: layout.blocks.iter().map(similarity).collect(), n_embedding: layout.n_embedding }
}

/// Returns the input section of a bundle for heads over `layout`; `log_lengths` is the range that they were trained
/// on, the least first.
pub(super) fn input(template: Template, layout: &Layout, log_lengths: [f32; 2]) -> InputSection {
    let feature = |block: Block| match block {
        Block::Response => Some(Feature::Response),
        Block::Prompt => Some(Feature::Prompt),
        Block::LogLength => Some(Feature::LogLength),
        Block::Product | Block::Similarity => None,
    };
    let features: Vec<Feature> = layout.inputs().into_iter().filter_map(feature).collect();
    let ranges = features.iter().filter(|feature| feature.is_scalar()).map(|&feature| (feature, log_lengths));
    InputSection { template, ranges: ranges.collect(), features }
}

/// Clamps log lengths to the range that the heads of a bundle were trained on.
pub(super) fn in_range(mut examples: Examples, input: &InputSection) -> Examples {
    if let Some(&range) = input.ranges.get(&Feature::LogLength) {
        examples.clamp_log_lengths(range);
    }
    examples
}

fn tokens(dataset: &Dataset, tokenizer: &Tokenizer, key: Key) -> Result<Tokens, Failure> {
    let text = |idx: usize| dataset.texts.get(idx).map_err(Failure::failed);
    let tokens = match key {
        Key::Single(idx) => tokenizer.tokens(Text::Single(&text(idx)?)),
        Key::Pair(prompt, response) => tokenizer.tokens(Text::Pair(&text(prompt)?, &text(response)?)),
    };
    tokens.map_err(Failure::refused)
}
