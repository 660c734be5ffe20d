//! From prompts and responses to every head's reward: tokenise, encode, one matmul.

use std::ops::Range;
use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::Service;
use crate::batch::Full;
use crate::model::{Bundle, GraphError, Rewards, Text, TokenizerError};
use crate::types::{Embedding, EncodeError, Error, ErrorKind, Tokens, metric, routed};

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

/// Which texts of a request belong to one item.
struct Plan {
    prompt: Option<usize>,
    router: Option<usize>,
    responses: Range<usize>,
}

impl Service {
    /// Scores all responses of all items with every head. Every prompt is encoded once.
    pub(super) async fn judge(&self, items: Arc<[Item]>, route: Route) -> Result<Judged, Error> {
        let (tokens, plans) = {
            let (bundle, items) = (self.bundle.clone(), items.clone());
            // A blocking task can't be cancelled: it looks whether this future, the other owner, is still there.
            let awaited = Arc::new(());
            let awaits = Arc::downgrade(&awaited);
            let answer = blocking("tokenize", move || tokenize(&bundle, &items, &route, &awaits)).await;
            drop(awaited);
            answer?.map_err(untokenizable)?
        };
        let truncated: Vec<bool> = tokens.iter().map(|text| text.truncated).collect();
        metrics::counter!(metric::TRUNCATED).increment(truncated.iter().filter(|&&cut| cut).count() as u64);
        let embeddings = self.encode(tokens).await?;
        let bundle = self.bundle.clone();
        blocking("heads", move || score(&bundle, &items, &plans, &embeddings, &truncated))
            .await?
            .map_err(|error| model_failed("the heads failed", error))
    }

    async fn encode(&self, tokens: Vec<Tokens>) -> Result<Vec<Embedding>, Error> {
        let receivers = self.queue.push(tokens).map_err(overloaded)?;
        let mut embeddings = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            let answer = receiver.await.unwrap_or(Err(EncodeError::Gone));
            embeddings.push(answer.map_err(|error| model_failed("the encoder failed", error))?);
        }
        Ok(embeddings)
    }
}

/// Stops early once nobody waits for it.
fn tokenize(
    bundle: &Bundle,
    items: &[Item],
    route: &Route,
    awaited: &Weak<()>,
) -> Result<(Vec<Tokens>, Vec<Plan>), TokenizerError> {
    let tokenizer = bundle.tokenizer();
    let mut tokens = Vec::new();
    let mut plans = Vec::new();
    for item in items.iter().take_while(|_| awaited.strong_count() > 0) {
        let mut add = |text: Text<'_>| {
            tokens.push(tokenizer.tokens(text)?);
            Ok(tokens.len() - 1)
        };
        let is_prompt_read = bundle.features().read_the_prompt() || matches!(route, Route::By(None));
        let prompt = is_prompt_read.then(|| add(Text::Single(&item.prompt))).transpose()?;
        let router = match route {
            Route::No => None,
            Route::By(None) => prompt,
            Route::By(Some(context)) => Some(add(Text::Single(&routed(&item.prompt, Some(context))))?),
        };
        let start = tokens.len();
        for response in item.responses.iter().take_while(|_| awaited.strong_count() > 0) {
            tokens.push(tokenizer.tokens(bundle.response_text(&item.prompt, response))?);
        }
        plans.push(Plan { prompt, router, responses: start..tokens.len() });
    }
    Ok((tokens, plans))
}

fn score(
    bundle: &Bundle,
    items: &[Item],
    plans: &[Plan],
    embeddings: &[Embedding],
    truncated: &[bool],
) -> Result<Judged, GraphError> {
    let mut rows = Vec::new();
    for (item, plan) in items.iter().zip(plans) {
        let prompt = plan.prompt.map_or(&[][..], |idx| &embeddings[idx]);
        for (response, embedding) in item.responses.iter().zip(&embeddings[plan.responses.clone()]) {
            bundle.features().extend(&mut rows, prompt, embedding, response);
        }
    }
    let rewards = bundle.rewards(rows)?;
    let asked: Vec<Embedding> =
        plans.iter().filter_map(|plan| plan.router.map(|idx| embeddings[idx].clone())).collect();
    let mut router_logits = bundle.router_logits(&asked)?.into_iter();
    let mut start = 0;
    let judged = plans.iter().map(|plan| {
        let rows = start..start + plan.responses.len();
        start = rows.end;
        JudgedItem {
            rows,
            truncated: truncated[plan.responses.clone()].to_vec(),
            prompt_truncated: plan.router.or(plan.prompt).is_some_and(|idx| truncated[idx]),
            router_logits: plan.router.and_then(|_| router_logits.next()).unwrap_or_default(),
        }
    });
    Ok(Judged { items: judged.collect(), rewards })
}

/// Runs work that takes longer than a moment off the async threads, and times it.
pub(super) async fn blocking<T: Send + 'static>(
    stage: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let timed = move || {
        let start = Instant::now();
        let answer = work();
        metrics::histogram!(metric::STAGE_SECONDS, "stage" => stage).record(start.elapsed());
        answer
    };
    let failed =
        |error| Error::new(ErrorKind::Internal, "the request could not be worked on").with_source(error);
    tokio::task::spawn_blocking(timed).await.map_err(failed)
}

fn untokenizable(error: TokenizerError) -> Error {
    Error::new(ErrorKind::Invalid, error.to_string()).with_code("untokenizable_text")
}

fn model_failed(detail: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::ModelUnavailable, detail).with_source(error)
}

fn overloaded(full: Full) -> Error {
    if full.new > full.max_texts {
        let detail = format!("found {} texts, expected at most {} in one request", full.new, full.max_texts);
        return Error::new(ErrorKind::TooLarge, detail).with_code("too_many_texts");
    }
    metrics::counter!(metric::SHED, "reason" => "queue").increment(1);
    Error::new(ErrorKind::Overloaded, "too many texts are waiting for the encoder").with_source(full)
}
