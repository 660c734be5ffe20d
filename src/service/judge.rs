//! From prompts and responses to every head's reward: read, then one matmul.

use std::ops::Range;
use std::sync::{Arc, Weak};

use super::Service;
use super::items::{Item, Route};
use super::read::Reading;
use super::unread::{Part, Paths, Spoils, Unread, model_failed};
use super::work::work;
use crate::model::{Bundle, GraphError, Rewards};
use crate::types::{Error, ErrorKind};

/// Responses scored without a pause on an async thread, at about 1 us each for ten heads.
const ROWS_AT_ONCE: usize = 128;

/// What the heads and the router say of the items of one request.
pub(super) struct Judged {
    /// Rows are the responses of all items, one after another.
    pub(super) rewards: Rewards,
    pub(super) items: Vec<JudgedItem>,
}

pub(super) struct JudgedItem {
    /// Its rows in `rewards`.
    pub(super) rows: Range<usize>,
    pub(super) truncated: Vec<bool>,
    pub(super) prompt_truncated: bool,
    /// Shape `[K]`; empty where the router was not asked.
    pub(super) router_logits: Vec<f64>,
}

/// Every head's log-odds of every response of an item, shape `[n][K]`.
type LogOdds = Vec<Vec<f64>>;

/// Why an item of several has no rewards.
#[derive(Debug)]
pub(super) enum Unjudged {
    /// One of its texts can't be read.
    Text(Part, Unread),
    /// Anything else, be it of all of them.
    Other(Error),
}

impl Service {
    /// Scores all responses of all items with every head. The items are one caller's: a text that can't be read refuses
    /// them all, and the error names it by its path.
    pub(super) async fn judge(
        &self,
        items: Arc<[Item]>,
        route: Route,
        paths: Paths,
    ) -> Result<Judged, Error> {
        let n_rows = self.check_rows(&items)?;
        let reading = self.read(&items, route, Spoils::All).await?;
        let unread = (0..items.len()).flat_map(|idx| reading.unread(idx).map(move |unread| (idx, unread)));
        // Others may have been left because of it.
        if let Some((idx, (part, unread))) = unread.min_by_key(|(_, (_, unread))| unread.is_left()) {
            return Err(unread.error(|| paths.of(idx, part)));
        }
        let bundle = self.bundle.clone();
        let score = move |_: &Weak<()>| score(&bundle, &reading, 0..items.len());
        let judged = work("heads", n_rows <= ROWS_AT_ONCE, score).await?;
        judged.map_err(|error| model_failed("the heads failed", error))
    }

    /// Every head's log-odds of every response, `[n][K]`, for each of any number of items. What is wrong with one is its
    /// own error, and they are judged in as many calls as they need.
    pub(super) async fn judge_each(&self, items: Vec<Item>) -> Vec<Result<LogOdds, Unjudged>> {
        let mut judged = Vec::with_capacity(items.len());
        let mut items = items.into_iter().peekable();
        loop {
            let part = self.part(&mut items);
            if part.is_empty() {
                return judged;
            }
            let n_items = part.len();
            match self.judge_part(part.into()).await {
                Ok(part) => judged.extend(part),
                Err(error) => {
                    judged.extend(error.for_each_of(n_items).map(|error| Err(Unjudged::Other(error))));
                }
            }
        }
    }

    /// Items that fit into one call; an error is of all of them.
    async fn judge_part(&self, items: Arc<[Item]>) -> Result<Vec<Result<LogOdds, Unjudged>>, Error> {
        let n_rows = self.check_rows(&items)?;
        let reading = self.read(&items, Route::No, Spoils::Itself).await?;
        let bundle = self.bundle.clone();
        let n_items = items.len();
        let score = move |_: &Weak<()>| score_each(&bundle, n_items, &reading);
        work("heads", n_rows <= ROWS_AT_ONCE, score).await
    }

    pub(super) fn check_rows(&self, items: &[Item]) -> Result<usize, Error> {
        let n_rows: usize = items.iter().map(|item| item.responses.len()).sum();
        let most = self.queue.max_texts();
        if n_rows <= most {
            return Ok(n_rows);
        }
        let detail = format!("found {n_rows} responses, expected at most {most} in one request");
        Err(Error::new(ErrorKind::TooLarge, detail).with_code("too_many_texts"))
    }
}

/// Scores those of the items that can be read.
fn score_each(bundle: &Bundle, n_items: usize, reading: &Reading) -> Vec<Result<LogOdds, Unjudged>> {
    let log_odds = |judged: &Judged| -> Vec<LogOdds> {
        let of = |item: &JudgedItem| item.rows.clone().map(|row| judged.rewards.log_odds(row)).collect();
        judged.items.iter().map(of).collect()
    };
    let whole = (0..n_items).filter(|idx| reading.unread(*idx).next().is_none());
    let mut together = score(bundle, reading, whole).map(|judged| log_odds(&judged).into_iter());
    let each = (0..n_items).map(|idx| {
        if let Some((part, unread)) = reading.unread(idx).next() {
            return Err(Unjudged::Text(part, unread.clone()));
        }
        // Where the heads fail, it may be one item that they fail on.
        let own = match &mut together {
            Ok(together) => together.next(),
            Err(_) => match score(bundle, reading, std::iter::once(idx)) {
                Ok(judged) => log_odds(&judged).pop(),
                Err(error) => return Err(Unjudged::Other(model_failed("the heads failed", error))),
            },
        };
        Ok(own.unwrap_or_default())
    });
    each.collect()
}

/// What is said of the items that are `chosen`, all of whose texts could be read.
fn score(
    bundle: &Bundle,
    reading: &Reading,
    chosen: impl Iterator<Item = usize>,
) -> Result<Judged, GraphError> {
    let embedding = |idx: usize| reading.text(idx).map_or(&[][..], |text| &text.embedding);
    let kept = |idx: usize| reading.text(idx).map(|text| text.kept).unwrap_or_default();
    let chosen: Vec<usize> = chosen.collect();
    let plans = || chosen.iter().map(|&idx| &reading.plans[idx]);
    let mut rows = Vec::new();
    for plan in plans() {
        let prompt = plan.prompt.map_or(&[][..], embedding);
        for text in plan.responses.iter().filter_map(|&idx| reading.text(idx)) {
            bundle.features().extend(&mut rows, prompt, text);
        }
    }
    let rewards = bundle.rewards(rows)?;
    let asked = plans().filter_map(|plan| Some(reading.text(plan.router?)?.embedding.clone()));
    let mut router_logits = bundle.router_logits(&asked.collect::<Vec<_>>())?.into_iter();
    let mut start = 0;
    let judged = plans().map(|plan| {
        let rows = start..start + plan.responses.len();
        start = rows.end;
        JudgedItem {
            rows,
            truncated: plan.responses.iter().map(|&idx| kept(idx).truncated).collect(),
            prompt_truncated: plan.router.or(plan.prompt).is_some_and(|idx| kept(idx).truncated)
                || plan.responses.iter().any(|&idx| kept(idx).prompt_truncated),
            router_logits: plan.router.and_then(|_| router_logits.next()).unwrap_or_default(),
        }
    });
    Ok(Judged { items: judged.collect(), rewards })
}
