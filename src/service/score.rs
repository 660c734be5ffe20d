//! /score: routed rewards.

use super::judge::{Item, Judged, JudgedItem, Route};
use super::{Service, context_key};
use crate::mixture::{Weights, disagreement, log_softmax};
use crate::types::{Error, Response, ScoreAnswer, ScoreItem, ScoreRequest, ScoredItem, UserId, metric};

/// A judged request with the user's weights for each of its items.
pub(super) struct Routed {
    pub(super) judged: Judged,
    pub(super) weights: Vec<Weights>,
    ids: Vec<Vec<Option<String>>>,
    with_detail: bool,
}

impl Service {
    /// The reward of every response, in the request's order. A reward does not depend on what else is asked.
    ///
    /// # Errors
    /// `Invalid` and `TooLarge` name the field; `Overloaded`, `ModelUnavailable` and `StoreUnavailable` may pass.
    pub async fn score(&self, request: ScoreRequest) -> Result<ScoreAnswer, Error> {
        let routed = self.route(request).await?;
        let items = (0..routed.weights.len()).map(|idx| routed.scored(idx)).collect();
        Ok(ScoreAnswer { revision: self.revision(), items })
    }

    pub(super) async fn route(&self, request: ScoreRequest) -> Result<Routed, Error> {
        let ScoreRequest { user, context, items, detail: with_detail } = request;
        let mut ids = Vec::with_capacity(items.len());
        let mut checked = Vec::with_capacity(items.len());
        for (idx, item) in items.into_iter().enumerate() {
            let (item, item_ids) = self.check_item(item, &format!("items[{idx}]"))?;
            checked.push(item);
            ids.push(item_ids);
        }
        self.route_checked(user.as_ref(), context, (checked, ids), with_detail).await
    }

    /// Routes items whose texts and ids have been checked.
    pub(super) async fn route_checked(
        &self,
        user: Option<&UserId>,
        context: Option<String>,
        (items, ids): (Vec<Item>, Vec<Vec<Option<String>>>),
        with_detail: bool,
    ) -> Result<Routed, Error> {
        let context = self.check_context(context)?;
        let asked = context_key(context.as_deref());
        let judged = self.judge(items, Route::By(context)).await?;
        let evidence = self.evidence(self.row(user).await?.as_ref());
        let weigh = |item: &JudgedItem| self.weights(&log_softmax(&item.router_logits), &evidence, asked);
        let weights: Vec<Weights> = judged.items.iter().map(weigh).collect();
        metrics::counter!(metric::RESPONSES).increment(judged.rewards.n_responses() as u64);
        for weights in &weights {
            metrics::histogram!(metric::EFFECTIVE_HEADS).record(weights.effective_heads());
        }
        Ok(Routed { judged, weights, ids, with_detail })
    }

    fn check_item(&self, mut item: ScoreItem, at: &str) -> Result<(Item, Vec<Option<String>>), Error> {
        let prompt = item.prompt_text(at)?;
        self.check_size(&prompt, || format!("{at}.prompt"))?;
        if item.responses.is_empty() {
            return Err(Error::invalid_field(
                format!("{at}.responses"),
                "found no response, expected at least one",
            ));
        }
        for (idx, response) in item.responses.iter().enumerate() {
            self.check_size(&response.text, || format!("{at}.responses[{idx}]"))?;
        }
        let (ids, responses) = item.responses.into_iter().map(|Response { id, text }| (id, text)).unzip();
        Ok((Item { prompt, responses }, ids))
    }
}

impl Routed {
    /// The answer for one item.
    pub(super) fn scored(&self, idx: usize) -> ScoredItem {
        let (item, weights, ids) = (&self.judged.items[idx], &self.weights[idx], &self.ids[idx]);
        let heads: Vec<Vec<f64>> = item.rows.clone().map(|row| self.judged.rewards.calibrated(row)).collect();
        ScoredItem {
            rewards: heads.iter().map(|z| weights.mean_of(z)).collect(),
            truncated: item.truncated.clone(),
            prompt_truncated: item.prompt_truncated,
            disagreement: heads.iter().map(|z| disagreement(weights, z)).collect(),
            weights: self.with_detail.then(|| weights.as_slice().to_vec()),
            heads: self.with_detail.then_some(heads),
            ids: ids.iter().any(Option::is_some).then(|| ids.clone()),
        }
    }
}
