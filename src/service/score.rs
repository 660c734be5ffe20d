//! /score: routed rewards.

use super::Service;
use super::items::Item;
use super::route::{Ask, Routed};
use crate::types::{Error, Objective, Response, ScoreAnswer, ScoreItem, ScoreRequest};

impl Service {
    /// The reward of every response, in the request's order. A reward does not depend on what else is asked.
    ///
    /// # Errors
    /// `Invalid` and `TooLarge` name the field; `Overloaded`, `ModelUnavailable` and `StoreUnavailable` may pass.
    pub async fn score(&self, request: ScoreRequest) -> Result<ScoreAnswer, Error> {
        let (objective, routed) = self.route_request(request).await?;
        Ok(ScoreAnswer {
            revision: self.revision(),
            objective: objective.kind(),
            users: routed.n_users,
            stale: routed.stale,
            items: (0..routed.items.len()).map(|idx| routed.scored(idx)).collect(),
        })
    }

    /// Checks a request as a whole, then routes it.
    pub(super) async fn route_request(&self, request: ScoreRequest) -> Result<(Objective, Routed), Error> {
        let objective = request.objective()?;
        let ScoreRequest { user, context, min_version, items, detail: with_detail, .. } = request;
        let mut ids = Vec::with_capacity(items.len());
        let mut checked = Vec::with_capacity(items.len());
        for (idx, item) in items.into_iter().enumerate() {
            let (item, item_ids) = self.check_item(item, &format!("items[{idx}]"))?;
            checked.push(item);
            ids.push(item_ids);
        }
        let min_version = min_version.unwrap_or_default();
        let ask = Ask { user, context, min_version, objective, with_detail, ..Ask::default() };
        Ok((objective, self.route(ask, (checked, ids)).await?))
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
        let named = item.responses.into_iter().map(|Response { id, text }| (id, text.into()));
        let (ids, responses) = named.unzip();
        Ok((Item { prompt: prompt.into(), responses }, ids))
    }
}
