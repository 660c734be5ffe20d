//! /rank and /compare: orders and probabilities on top of the routed rewards.

use super::Service;
use super::items::Item;
use super::judge::JudgedItem;
use super::route::Ask;
use super::unread::Paths;
use crate::mixture::{best_probabilities, preference};
use crate::types::{CompareAnswer, CompareRequest, Error, RankAnswer, RankRequest, RankedItem, ScoreItem};

impl Service {
    /// Every item's responses, best first by the objective's reward, with the probability that each is the best.
    ///
    /// # Errors
    /// As [`Service::score`].
    pub async fn rank(&self, request: RankRequest) -> Result<RankAnswer, Error> {
        let (objective, routed) = self.route_request(request).await?;
        let rank = |(idx, item): (usize, &JudgedItem)| {
            let scored = routed.scored(idx);
            let scaled: Vec<Vec<f64>> =
                item.rows.clone().map(|row| routed.judged.rewards.log_odds(row)).collect();
            let mut order: Vec<usize> = (0..scored.rewards.len()).collect();
            order.sort_by(|&a, &b| scored.rewards[b].total_cmp(&scored.rewards[a]));
            let item = &routed.items[idx];
            let weights = item.population.as_ref().unwrap_or(&item.weights);
            RankedItem { order, best: best_probabilities(weights, &scaled), scored }
        };
        Ok(RankAnswer {
            revision: self.revision(),
            objective: objective.kind(),
            users: routed.n_users,
            stale: routed.stale,
            items: routed.judged.items.iter().enumerate().map(rank).collect(),
        })
    }

    /// The probability that the user prefers `a` to `b`.
    ///
    /// # Errors
    /// As [`Service::score`].
    pub async fn compare(&self, request: CompareRequest) -> Result<CompareAnswer, Error> {
        let CompareRequest { user, context, min_version, prompt, messages, a, b, detail: with_detail } =
            request;
        let prompt = ScoreItem { prompt, messages, responses: Vec::new() }.prompt_text("")?;
        for (field, text) in [("prompt", &prompt), ("a", &a.text), ("b", &b.text)] {
            self.check_size(text, || field.to_owned())?;
        }
        let ids = vec![vec![a.id, b.id]];
        let items = vec![Item { prompt: prompt.into(), responses: vec![a.text.into(), b.text.into()] }];
        let min_version = min_version.unwrap_or_default();
        let paths = Paths::Pair;
        let ask = Ask { user, context, min_version, with_detail, paths, ..Ask::default() };
        let routed = self.route(ask, (items, ids)).await?;
        Ok(CompareAnswer {
            revision: self.revision(),
            preference: preference(&routed.items[0].weights, &routed.judged.rewards.margins(0, 1)),
            stale: routed.stale,
            scored: routed.scored(0),
        })
    }
}
