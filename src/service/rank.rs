//! /rank and /compare: orders and probabilities on top of the routed rewards.

use super::Service;
use super::pipeline::{Item, ItemScores, Paths, RoutingRequest};
use crate::mixture::{best_probabilities, preference};
use crate::types::{
    CompareAnswer, CompareRequest, Error, Objective, RankAnswer, RankRequest, RankedItem, ScoreItem,
};

impl Service {
    /// Ranks every item's responses, best first by the objective's reward, with the probability that each is the best.
    ///
    /// # Errors
    /// The errors of [`Service::score`].
    pub async fn rank(&self, request: RankRequest) -> Result<RankAnswer, Error> {
        let routed = self.apply_router(self.routing_request(request)?).await?;
        self.remember(&routed).await;
        let rank = |(idx, item): (usize, &ItemScores)| {
            let scored = routed.scored(idx);
            let scaled: Vec<Vec<f64>> =
                item.rows.clone().map(|row| routed.scores.rewards.log_odds(row)).collect();
            let mut order: Vec<usize> = (0..scored.rewards.len()).collect();
            order.sort_by(|&a, &b| scored.rewards[b].total_cmp(&scored.rewards[a]));
            let item = &routed.routed[idx];
            let weights = item.population.as_ref().unwrap_or(&item.weights);
            RankedItem { order, best: best_probabilities(weights, &scaled), scored }
        };
        Ok(RankAnswer {
            revision: self.revision(),
            objective: routed.objective.kind(),
            users: routed.n_users,
            stale: routed.stale,
            items: routed.scores.items.iter().enumerate().map(rank).collect(),
        })
    }

    /// Returns the probability that the user prefers `a` to `b`.
    ///
    /// # Errors
    /// The errors of [`Service::score`].
    pub async fn compare(&self, request: CompareRequest) -> Result<CompareAnswer, Error> {
        let CompareRequest { user, context, min_version, prompt, messages, a, b, detail: with_detail } =
            request;
        let prompt = ScoreItem { prompt, messages, responses: Vec::new() }.prompt_text("")?;
        for (field, text) in [("prompt", &prompt), ("a", &a.text), ("b", &b.text)] {
            self.check_size(text, || field.to_owned())?;
        }
        let (ids, responses) = (vec![a.id, b.id], vec![a.text.into(), b.text.into()]);
        let items = vec![Item { prompt: prompt.into(), responses, ids }];
        let min_version = min_version.unwrap_or_default();
        let paths = Paths::Pair;
        let objective = Objective::default();
        let request = RoutingRequest { user, context, min_version, objective, with_detail, items, paths };
        let routed = self.apply_router(request).await?;
        self.remember(&routed).await;
        Ok(CompareAnswer {
            revision: self.revision(),
            preference: preference(&routed.routed[0].weights, &routed.scores.rewards.margins(0, 1)),
            stale: routed.stale,
            scored: routed.scored(0),
        })
    }
}
