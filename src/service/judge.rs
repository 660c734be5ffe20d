//! From prompts and responses to every head's reward: read, then one matmul.

use std::ops::Range;
use std::sync::{Arc, Weak};

use super::Service;
use super::read::Reading;
use super::work::work;
use crate::model::{Bundle, GraphError, Rewards};
use crate::types::{Error, ErrorKind};

/// Responses scored without a pause on an async thread, at about 1 us each for ten heads.
const ROWS_AT_ONCE: usize = 128;

/// A checked prompt with its responses.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) prompt: Arc<str>,
    pub(super) responses: Vec<Arc<str>>,
}

/// Whether the router is asked, and about which context.
#[derive(Debug, Clone)]
pub(super) enum Route {
    /// Feedback: evidence does not depend on the router.
    No,
    /// By the prompt, and the criterion after it.
    By(Option<String>),
}

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

impl Service {
    /// Scores all responses of all items with every head.
    pub(super) async fn judge(&self, items: Arc<[Item]>, route: Route) -> Result<Judged, Error> {
        let n_rows: usize = items.iter().map(|item| item.responses.len()).sum();
        let most = self.queue.max_texts();
        if n_rows > most {
            let detail = format!("found {n_rows} responses, expected at most {most} in one request");
            return Err(Error::new(ErrorKind::TooLarge, detail).with_code("too_many_texts"));
        }
        let reading = self.read(&items, route).await?;
        let bundle = self.bundle.clone();
        let score = move |_: &Weak<()>| score(&bundle, &reading);
        let judged = work("heads", n_rows <= ROWS_AT_ONCE, score).await?;
        judged.map_err(|error| model_failed("the heads failed", error))
    }
}

fn score(bundle: &Bundle, Reading { texts, plans }: &Reading) -> Result<Judged, GraphError> {
    let mut rows = Vec::new();
    for plan in plans {
        let prompt = plan.prompt.map_or(&[][..], |idx| &texts[idx].embedding);
        for &idx in &plan.responses {
            bundle.features().extend(&mut rows, prompt, &texts[idx]);
        }
    }
    let rewards = bundle.rewards(rows)?;
    let asked = plans.iter().filter_map(|plan| Some(texts[plan.router?].embedding.clone()));
    let mut router_logits = bundle.router_logits(&asked.collect::<Vec<_>>())?.into_iter();
    let mut start = 0;
    let judged = plans.iter().map(|plan| {
        let rows = start..start + plan.responses.len();
        start = rows.end;
        JudgedItem {
            rows,
            truncated: plan.responses.iter().map(|&idx| texts[idx].kept.truncated).collect(),
            prompt_truncated: plan.router.or(plan.prompt).is_some_and(|idx| texts[idx].kept.truncated)
                || plan.responses.iter().any(|&idx| texts[idx].kept.prompt_truncated),
            router_logits: plan.router.and_then(|_| router_logits.next()).unwrap_or_default(),
        }
    });
    Ok(Judged { items: judged.collect(), rewards })
}

pub(super) fn model_failed(
    detail: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::new(ErrorKind::ModelUnavailable, detail).with_source(error)
}
