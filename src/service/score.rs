//! /score: routed rewards.

use super::Service;
use super::pipeline::{Item, Paths, RoutingRequest};
use crate::types::{Error, Response, ScoreAnswer, ScoreItem, ScoreRequest};

impl Service {
    /// Returns the reward of every response, in the request's order. A reward does not depend on what else is asked.
    ///
    /// # Errors
    /// `Invalid` and `TooLarge` name the field; `Overloaded`, `ModelUnavailable` and `StoreUnavailable` may pass.
    pub async fn score(&self, request: ScoreRequest) -> Result<ScoreAnswer, Error> {
        let routed = self.apply_router(self.routing_request(request)?).await?;
        self.remember(&routed).await;
        Ok(ScoreAnswer {
            revision: self.revision(),
            objective: routed.objective.kind(),
            users: routed.n_users,
            stale: routed.stale,
            items: (0..routed.items.len()).map(|idx| routed.scored(idx)).collect(),
        })
    }

    /// Checks the texts of a request one by one.
    pub(super) fn routing_request(&self, request: ScoreRequest) -> Result<RoutingRequest, Error> {
        let objective = request.objective()?;
        let ScoreRequest { user, context, min_version, items, detail: with_detail, .. } = request;
        let check = |(idx, item)| self.check_item(item, &format!("items[{idx}]"));
        let items = items.into_iter().enumerate().map(check).collect::<Result<_, _>>()?;
        let min_version = min_version.unwrap_or_default();
        let paths = Paths::Items;
        Ok(RoutingRequest { user, context, min_version, objective, with_detail, items, paths })
    }

    fn check_item(&self, mut item: ScoreItem, at: &str) -> Result<Item, Error> {
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
        Ok(Item { prompt: prompt.into(), responses, ids })
    }
}
