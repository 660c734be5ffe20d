//! From the texts of a data set to embeddings on disk and the examples that point at them.

use std::path::Path;

use indicatif::ProgressBar;
use rayon::prelude::*;

use super::Failure;
use crate::fit::{Block, Dataset, EmbeddingCache, Examples, FeatureRow, Interner, Layout, Pair};
use crate::model::{EncoderParts, Feature, InputSection, Template, Text, Tokenizer};
use crate::types::Tokens;

/// Texts that are read, tokenized and encoded at once.
const CHUNK: usize = 1024;

/// What is encoded as one: numbers of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Single(usize),
    Pair(usize, usize),
}

/// Encodes every text that heads or router read, once; what the cache in `dir` holds is not encoded again. `more` are
/// texts that the router reads beside those of the pairs; the second answer is where they are in `Examples::prompts`. Log
/// lengths are as the tokens have them, in no range.
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

/// The columns that a bundle is fed.
pub(super) fn layout(input: &InputSection, n_embedding: usize) -> Layout {
    let block = |feature: &Feature| match feature {
        Feature::Response => Block::Response,
        Feature::Prompt => Block::Prompt,
        Feature::LogLength => Block::LogLength,
    };
    Layout { blocks: input.features.iter().map(block).collect(), n_embedding }
}

/// The columns that `fit` would learn from, where a bundle is fed `layout`: for a single head to compare with.
pub(super) fn learnable(layout: &Layout) -> Layout {
    let similarity = |block: &Block| if *block == Block::Prompt { Block::Similarity } else { *block };
    Layout { blocks: layout.blocks.iter().map(similarity).collect(), n_embedding: layout.n_embedding }
}

/// What a bundle has to be fed for heads over `layout` that were trained on `log_lengths`, from the least to the largest.
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

/// Log lengths in the range that the heads of a bundle were trained on.
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
