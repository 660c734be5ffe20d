//! Computes every head's reward for prompts and responses: embeds the texts, then runs one matmul.

use std::ops::Range;
use std::sync::{Arc, Weak};

use super::embed::Embeddings;
use super::items::{Item, RouterInput};
use super::text_error::{FailurePolicy, Part, Paths, TextError, model_failed};
use crate::model::{Bundle, GraphError, Rewards};
use crate::service::Service;
use crate::service::work::work;
use crate::types::{Error, ErrorKind, Kept};

/// Responses scored without a pause on an async thread, at about 1 us each for ten heads.
const ROWS_AT_ONCE: usize = 128;

/// The scores of the heads and the router for the items of one request.
pub struct HeadScores {
    /// The rewards; rows are the responses of all items, one after another.
    pub rewards: Rewards,
    pub items: Vec<ItemScores>,
}

pub struct ItemScores {
    /// Rows of the item in `rewards`.
    pub rows: Range<usize>,
    pub truncated: Vec<bool>,
    pub prompt_truncated: bool,
    /// Logits of shape `[K]`; empty where the router was not asked.
    pub router_logits: Vec<f64>,
}

/// Every head's log-odds of every response of an item, shape `[n][K]`.
type LogOdds = Vec<Vec<f64>>;

/// The reason that one of several items has no rewards.
#[derive(Debug)]
pub enum Unscored {
    /// A text of the item can't be read.
    Text(Part, TextError),
    /// Any other error, also one of all items.
    Other(Error),
}

impl Service {
    /// Scores all responses of all items with every head. The items are one caller's: a text that can't be read
    /// refuses them all, and the error names it by its path.
    pub async fn score_heads(
        &self,
        items: Arc<[Item]>,
        router_input: RouterInput,
        paths: Paths,
    ) -> Result<HeadScores, Error> {
        let n_rows = self.check_rows(&items)?;
        let embeddings = self.embed(&items, router_input, FailurePolicy::RefuseAll).await?;
        let errors = (0..items.len()).flat_map(|idx| embeddings.errors(idx).map(move |error| (idx, error)));
        // The other texts may have been left because of the one that failed, whose error comes first.
        if let Some((idx, (part, text))) = errors.min_by_key(|(_, (_, error))| error.is_left()) {
            return Err(text.error(|| paths.of(idx, part)));
        }
        let bundle = self.bundle.clone();
        let score = move |_: &Weak<()>| score(&bundle, &embeddings, 0..items.len());
        let scored = work("heads", n_rows <= ROWS_AT_ONCE, score).await?;
        scored.map_err(|error| model_failed("the heads failed", error))
    }

    /// Returns every head's log-odds of every response, `[n][K]`, for each of any number of items. An item that fails
    /// has its own error, and the items are scored in as many calls as they need.
    pub async fn score_heads_of_each(&self, items: Vec<Item>) -> Vec<Result<LogOdds, Unscored>> {
        let mut scored = Vec::with_capacity(items.len());
        let mut items = items.into_iter().peekable();
        loop {
            let part = self.part(&mut items);
            if part.is_empty() {
                return scored;
            }
            let n_items = part.len();
            match self.score_heads_of_part(part.into()).await {
                Ok(part) => scored.extend(part),
                Err(error) => {
                    scored.extend(error.for_each_of(n_items).map(|error| Err(Unscored::Other(error))));
                }
            }
        }
    }

    /// Scores items that fit into one call; an error is of all of them.
    async fn score_heads_of_part(&self, items: Arc<[Item]>) -> Result<Vec<Result<LogOdds, Unscored>>, Error> {
        let n_rows = self.check_rows(&items)?;
        let embeddings = self.embed(&items, RouterInput::Nothing, FailurePolicy::RefuseItem).await?;
        let bundle = self.bundle.clone();
        let n_items = items.len();
        let score = move |_: &Weak<()>| score_each(&bundle, n_items, &embeddings);
        work("heads", n_rows <= ROWS_AT_ONCE, score).await
    }

    pub fn check_rows(&self, items: &[Item]) -> Result<usize, Error> {
        let n_rows: usize = items.iter().map(|item| item.responses.len()).sum();
        let most = self.queue.max_texts();
        if n_rows <= most {
            return Ok(n_rows);
        }
        let detail = format!("found {n_rows} responses, expected at most {most} in one request");
        Err(Error::new(ErrorKind::TooLarge, detail).with_code("too_many_texts"))
    }
}

/// Scores the items that can be read; the others get their own errors.
fn score_each(bundle: &Bundle, n_items: usize, embeddings: &Embeddings) -> Vec<Result<LogOdds, Unscored>> {
    let log_odds = |scored: &HeadScores| -> Vec<LogOdds> {
        let of = |item: &ItemScores| item.rows.clone().map(|row| scored.rewards.log_odds(row)).collect();
        scored.items.iter().map(of).collect()
    };
    let whole = (0..n_items).filter(|idx| embeddings.errors(*idx).next().is_none());
    let mut together = score(bundle, embeddings, whole).map(|scored| log_odds(&scored).into_iter());
    let each = (0..n_items).map(|idx| {
        if let Some((part, error)) = embeddings.errors(idx).next() {
            return Err(Unscored::Text(part, error.clone()));
        }
        // One item alone may make the heads fail, so that each is then scored by itself.
        let own = match &mut together {
            Ok(together) => together.next(),
            Err(_) => match score(bundle, embeddings, std::iter::once(idx)) {
                Ok(scored) => log_odds(&scored).pop(),
                Err(error) => return Err(Unscored::Other(model_failed("the heads failed", error))),
            },
        };
        Ok(own.unwrap_or_default())
    });
    each.collect()
}

/// Scores the `chosen` items, all of whose texts could be read.
fn score(
    bundle: &Bundle,
    embeddings: &Embeddings,
    chosen: impl Iterator<Item = usize>,
) -> Result<HeadScores, GraphError> {
    let embedding = |idx: usize| embeddings.text(idx).map_or(&[][..], |text| &text.embedding);
    let is = |idx: usize, of: fn(&Kept) -> bool| embeddings.text(idx).is_some_and(|text| of(&text.kept));
    let chosen: Vec<usize> = chosen.collect();
    let item_texts = || chosen.iter().map(|&idx| &embeddings.item_texts[idx]);
    let mut rows = Vec::new();
    for texts in item_texts() {
        let prompt = texts.prompt.map_or(&[][..], embedding);
        for text in texts.responses.iter().filter_map(|&idx| embeddings.text(idx)) {
            bundle.features().extend(&mut rows, prompt, text);
        }
    }
    let rewards = bundle.rewards(rows)?;
    let asked = item_texts().filter_map(|texts| Some(embeddings.text(texts.router?)?.embedding.clone()));
    let mut router_logits = bundle.router_logits(&asked.collect::<Vec<_>>())?.into_iter();
    let mut start = 0;
    let scored = item_texts().map(|texts| {
        let rows = start..start + texts.responses.len();
        start = rows.end;
        ItemScores {
            rows,
            truncated: texts.responses.iter().map(|&idx| is(idx, |kept| kept.truncated)).collect(),
            prompt_truncated: texts.router.or(texts.prompt).is_some_and(|idx| is(idx, |kept| kept.truncated))
                || texts.responses.iter().any(|&idx| is(idx, |kept| kept.prompt_truncated)),
            router_logits: texts.router.and_then(|_| router_logits.next()).unwrap_or_default(),
        }
    });
    Ok(HeadScores { items: scored.collect(), rewards })
}
