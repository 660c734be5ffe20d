//! Encodes the texts of a data set into embeddings on disk, and examples that point at them.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use super::Failure;
use super::progress::Progress;
use crate::fit::{
    Block, Dataset, EmbeddingCache, Examples, FeatureRow, Interner, Layout, Pair, Preference, Surfaces,
    learn_lexical,
};
use crate::model::{EncoderParts, Feature, InputSection, Ranges, Template, Text, Tokenizer};
use crate::surface::{Lexical, buckets};
use crate::types::Tokens;

/// Texts read, tokenized and encoded at once.
const CHUNK: usize = 1024;

/// One input of the encoder: a text or a pair of texts, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Single(usize),
    Pair(usize, usize),
}

/// The texts of a data set, encoded.
pub(super) struct EncodedData {
    pub(super) examples: Examples,
    /// Positions in [`Examples::prompts`] of the further texts that the router reads.
    pub(super) more: Vec<usize>,
    /// The prompt (of [`Examples::prompts`]) and the rows of every [`Dataset::rated`].
    pub(super) rated: Vec<(usize, Vec<usize>)>,
    /// A line that says how many texts are longer than the encoder reads; none if all are read whole.
    pub(super) cut: Option<String>,
}

/// Encodes every text that the heads or the router read, once; texts in the cache in `dir` are not encoded again.
/// `more` are texts that the router reads besides those of the pairs. Log lengths and styles are computed from the
/// tokens and not clamped to a range; there are no lexical columns yet.
pub(super) fn encode(
    dataset: &Dataset,
    more: &[usize],
    layout: Layout,
    encoder: &mut EncoderParts,
    dir: &Path,
    bar: &Progress,
) -> Result<EncodedData, Failure> {
    let template = encoder.input.template;
    let reads_the_prompt = layout.reads_the_prompt();
    let mut texts = Interner::default();
    let mut rows: Interner<(Option<usize>, Option<usize>)> = Interner::default();
    let mut routed = Interner::default();
    let mut pairs = Vec::with_capacity(dataset.pairs.len());
    let mut row = |texts: &mut Interner<Key>, prompt: usize, response: Option<usize>| {
        let Some(response) = response else { return rows.index((None, None)) };
        let read = reads_the_prompt.then(|| texts.index(Key::Single(prompt)));
        let encoded = texts.index(match template {
            Template::Pair => Key::Pair(prompt, response),
            Template::Separate => Key::Single(response),
        });
        rows.index((read, Some(encoded)))
    };
    for choice in &dataset.pairs {
        let chosen = row(&mut texts, choice.prompt, choice.chosen);
        let rejected = row(&mut texts, choice.prompt, choice.rejected);
        let prompt = routed.index(texts.index(Key::Single(choice.routed)));
        let Preference { file, user, is_tie, weight, .. } = *choice;
        pairs.push(Pair { file, user, prompt, chosen, rejected, is_tie, weight });
    }

    let rated = dataset.rated.iter().map(|rated| {
        let of = |&(response, _): &(usize, f64)| row(&mut texts, rated.prompt, Some(response));
        let rows = rated.responses.iter().map(of).collect();
        (routed.index(texts.index(Key::Single(rated.prompt))), rows)
    });
    let rated: Vec<(usize, Vec<usize>)> = rated.collect();
    let more = more.iter().map(|&text| routed.index(texts.index(Key::Single(text)))).collect();

    let mut surfaces = Surfaces::new().map_err(Failure::failed)?;
    let mut cache =
        EmbeddingCache::open(dir, &encoder.revision(), encoder.n_embedding).map_err(Failure::failed)?;
    bar.set_length(texts.len() as u64);
    let mut n_cut = 0;
    let (mut embeddings, mut log_lengths) =
        (Vec::with_capacity(texts.len()), Vec::with_capacity(texts.len()));
    for chunk in texts.items().chunks(CHUNK) {
        let read = |&key: &Key| -> Result<_, Failure> {
            let (tokens, own) = tokens(dataset, &encoder.tokenizer, key)?;
            Ok((tokens, (encoder.tokenizer.style(&own), buckets(&own))))
        };
        let (tokens, of_surface): (Vec<Tokens>, Vec<_>) =
            chunk.par_iter().map(read).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        for (style, buckets) in &of_surface {
            surfaces.push(style, buckets).map_err(Failure::failed)?;
        }
        let rows = cache.embed(&tokens, &mut encoder.sessions, |n| bar.inc(n)).map_err(Failure::failed)?;
        embeddings.extend(rows);
        n_cut += tokens.iter().filter(|tokens| tokens.kept.truncated || tokens.kept.prompt_truncated).count();
        log_lengths.extend(tokens.iter().map(|tokens| tokens.kept.log_length()));
    }
    bar.finish();
    let cut = (n_cut > 0).then(|| {
        let (n, most) = (texts.len(), encoder.section.max_tokens);
        format!("{n_cut} of {n} texts are longer than {most} tokens: their ends are read")
    });
    let row = |&(prompt, encoded): &(Option<usize>, Option<usize>)| FeatureRow {
        prompt: prompt.map(|text| embeddings[text]),
        response: encoded.map(|text| embeddings[text]),
        log_length: encoded.map_or(0.0, |text| log_lengths[text]),
        surface: encoded.unwrap_or_default() as u32,
    };
    let examples = Examples {
        rows: rows.items().iter().map(row).collect(),
        prompts: routed.items().iter().map(|&text| embeddings[text]).collect(),
        layout,
        cache,
        pairs,
        surfaces,
        averaged: Vec::new(),
        average: Vec::new(),
    };
    Ok(EncodedData { examples, more, rated, cut })
}

/// Returns the input columns of a bundle, with `n_lexical` lexical ones.
pub(super) fn layout(input: &InputSection, n_embedding: usize, n_lexical: usize) -> Layout {
    let block = |feature: &Feature| match feature {
        Feature::Response => Block::Response,
        Feature::Prompt => Block::Prompt,
        Feature::LogLength => Block::LogLength,
        Feature::Style => Block::Style,
        Feature::Lexical => Block::Lexical,
    };
    Layout { blocks: input.features.iter().map(block).collect(), n_embedding, n_lexical }
}

/// Returns the columns that `fit` would learn from for a bundle with the input columns `layout`: those of a single
/// head to compare with.
pub(super) fn learnable(layout: &Layout) -> Layout {
    let similarity = |block: &Block| if *block == Block::Prompt { Block::Similarity } else { *block };
    Layout { blocks: layout.blocks.iter().map(similarity).collect(), ..*layout }
}

/// Returns the input section of a bundle for heads that learn from `train` (positions); the file of the lexical columns
/// is still to be named.
pub(super) fn input(
    template: Template,
    examples: &Examples,
    train: &[usize],
) -> Result<InputSection, Failure> {
    let feature = |block: Block| match block {
        Block::Response => Some(Feature::Response),
        Block::Prompt => Some(Feature::Prompt),
        Block::LogLength => Some(Feature::LogLength),
        Block::Style => Some(Feature::Style),
        Block::Lexical => Some(Feature::Lexical),
        Block::Product | Block::Similarity => None,
    };
    let features: Vec<Feature> = examples.layout.inputs().into_iter().filter_map(feature).collect();
    let mut ranges = BTreeMap::new();
    if features.contains(&Feature::LogLength) {
        ranges.insert(Feature::LogLength, Ranges::One(examples.log_length_range(train)));
    }
    if features.contains(&Feature::Style) {
        let styles = examples.style_ranges(train).map_err(Failure::failed)?;
        ranges.insert(Feature::Style, Ranges::Each(styles));
    }
    Ok(InputSection { template, ranges, features, lexical: None })
}

/// Clamps log lengths and styles to the ranges that the heads of a bundle were trained on.
pub(super) fn in_range(mut examples: Examples, input: &InputSection) -> Examples {
    if let Some(Ranges::One(range)) = input.ranges.get(&Feature::LogLength) {
        examples.clamp_log_lengths(*range);
    }
    if let Some(ranges) = input.ranges.get(&Feature::Style) {
        examples.surfaces.clamp_styles(ranges.as_slice());
    }
    examples
}

/// Learns lexical columns from the responses of `train` (positions), and gives them to the examples; none where no two
/// responses share a word.
pub(super) fn read_lexical(
    examples: &mut Examples,
    train: &[usize],
    seed: u64,
) -> Result<Option<Lexical>, Failure> {
    let responses = examples.responses(train).into_iter().map(|row| examples.rows[row].surface);
    let mut texts: Vec<u32> = responses.collect();
    texts.sort_unstable();
    texts.dedup();
    let table = learn_lexical(&examples.surfaces, &texts, seed).map_err(Failure::failed)?;
    if let Some(table) = &table {
        project(examples, table)?;
    }
    Ok(table)
}

/// Gives the examples the lexical columns of a table.
pub(super) fn project(examples: &mut Examples, table: &Lexical) -> Result<(), Failure> {
    examples.surfaces.project(table).map_err(Failure::failed)?;
    examples.layout.n_lexical = table.n_columns();
    Ok(())
}

fn tokens(dataset: &Dataset, tokenizer: &Tokenizer, key: Key) -> Result<(Tokens, Vec<u32>), Failure> {
    let text = |idx: usize| dataset.texts.get(idx).map_err(Failure::failed);
    let tokens = match key {
        Key::Single(idx) => tokenizer.tokens_and_own(Text::Single(&text(idx)?)),
        Key::Pair(prompt, response) => tokenizer.tokens_and_own(Text::Pair(&text(prompt)?, &text(response)?)),
    };
    tokens.map_err(Failure::refused)
}
