//! Routes checked items: scores every head, weights the heads for the user, applies the objective.

use std::sync::{Arc, Weak};

use super::items::{Item, RouterInput};
use super::response_ids::check_ids;
use super::score_heads::{HeadScores, ItemScores};
use super::text_error::Paths;
use crate::mixture::{Evidence, Routing, Weights, disagreement, log_softmax, maxmin, population, quantile};
use crate::model::Rewards;
use crate::service::work::work;
use crate::service::{Service, context_key};
use crate::telemetry::metric;
use crate::types::{Error, Objective, ScoredItem, ShareOf, Stale, UserId};

/// Weights computed on an async thread at most, at about 0.2 us each; more run on the blocking pool.
const WEIGHTS_AT_ONCE: usize = 1000;

/// The items to score, their user and context, and the objective of the rewards.
#[derive(Default)]
pub struct RoutingRequest {
    pub user: Option<UserId>,
    pub context: Option<String>,
    /// Oldest version of the user's row that is accepted; 0 accepts any.
    pub min_version: u64,
    pub objective: Objective,
    pub with_detail: bool,
    /// The items, whose texts have been checked one by one.
    pub items: Vec<Item>,
    /// The paths that errors give the texts.
    pub paths: Paths,
}

/// The rewards of a request's objective, and the scores and weights behind them.
pub struct Routed {
    pub user: Option<UserId>,
    pub objective: Objective,
    /// The items of the caller.
    pub items: Arc<[Item]>,
    pub scores: HeadScores,
    /// One per item.
    pub routed: Vec<RoutedItem>,
    /// Number of users that the objective is over; none where it is over none.
    pub n_users: Option<usize>,
    /// Staleness of the evidence behind the weights, while the store can't be reached.
    pub stale: Option<Stale>,
    with_detail: bool,
}

pub struct RoutedItem {
    /// The user's mixture weights.
    pub weights: Weights,
    /// The mean weights of the population, where that is the objective.
    pub population: Option<Weights>,
    /// The objective's reward of each response.
    rewards: Vec<f64>,
    /// Every head's calibrated reward `z`, shape `[n][K]`.
    heads: Vec<Vec<f64>>,
}

impl Service {
    /// Checks the items together, scores them with every head, and weights the heads for the user.
    pub async fn apply_router(&self, request: RoutingRequest) -> Result<Routed, Error> {
        let RoutingRequest { user, context, min_version, objective, with_detail, items, paths } = request;
        let context = self.check_context(context)?;
        let asked = context_key(context.as_deref());
        self.check_rows(&items)?;
        check_ids(&items, paths).await?;
        let items: Arc<[Item]> = items.into();
        let scores = self.score_heads(items.clone(), RouterInput::Prompt(context), paths).await?;
        let (row, own_stale) = self.row(user.as_ref(), min_version).await?;
        let own = self.evidence(row.as_ref());
        let (users, stale) = match objective.is_over_users() {
            true => self.population().await.map(|(users, stale)| (Some(users), own_stale.or(stale)))?,
            false => (None, own_stale),
        };
        let n_users = users.as_ref().map(|users| users.len());
        let unknown_user = || Arc::from([Evidence::none(self.bundle.n_heads())]);
        let view = RewardView {
            routing: self.routing(),
            transfer: self.settings.posterior.transfer,
            objective,
            shares: log_softmax(&self.bundle.log_prior()).into_iter().map(f64::exp).collect(),
            asked,
            // A population without feedback counts as one user without evidence.
            users: users.filter(|users| !users.is_empty()).unwrap_or_else(unknown_user),
            own,
        };
        metrics::counter!(metric::RESPONSES).increment(scores.rewards.n_responses() as u64);
        let is_a_moment = view.n_weights(&scores) <= WEIGHTS_AT_ONCE;
        let route = move |awaited: &Weak<()>| {
            let awaited = scores.items.iter().take_while(|_| awaited.strong_count() > 0);
            let routed: Vec<RoutedItem> = awaited.map(|item| view.route(&scores.rewards, item)).collect();
            (scores, routed)
        };
        let (scores, routed) = work("route", is_a_moment, route).await?;
        for item in &routed {
            metrics::histogram!(metric::EFFECTIVE_HEADS).record(item.weights.effective_heads());
        }
        Ok(Routed { user, objective, items, scores, routed, n_users, stale, with_detail })
    }
}

/// The prior, evidence and objective that turn the heads' rewards into those of one request.
struct RewardView {
    routing: Routing,
    transfer: f64,
    objective: Objective,
    /// Every head's share of the population, from the bundle; sums to 1.
    shares: Vec<f64>,
    asked: Option<u64>,
    own: Evidence,
    /// The evidence of at least one user; read only by the objectives over users.
    users: Arc<[Evidence]>,
}

impl RewardView {
    fn route(&self, rewards: &Rewards, item: &ItemScores) -> RoutedItem {
        let log_prior = log_softmax(&item.router_logits);
        let weights_of =
            |evidence: &Evidence| evidence.weights(&log_prior, self.asked, self.routing, self.transfer);
        let of_users = || self.users.iter().map(weights_of).collect::<Vec<Weights>>();
        let weights = weights_of(&self.own);
        let heads: Vec<Vec<f64>> = item.rows.clone().map(|row| rewards.calibrated(row)).collect();
        let each = |reward: &dyn Fn(&[f64]) -> f64| heads.iter().map(|z| reward(z)).collect();
        let mut mean = None;
        let rewards: Vec<f64> = match self.objective {
            Objective::Mixture => each(&|z| weights.mean_of(z)),
            Objective::Maxmin { min_share, share_of } => {
                each(&|z| maxmin(z, self.shares_of(share_of, &weights), min_share))
            }
            Objective::QuantileOfHeads { q, share_of } => {
                each(&|z| quantile(z, self.shares_of(share_of, &weights), q))
            }
            Objective::QuantileOfUsers { q } => {
                let (users, shares) = (of_users(), vec![1.0; self.users.len()]);
                each(&|z| quantile(&users.iter().map(|w| w.mean_of(z)).collect::<Vec<_>>(), &shares, q))
            }
            Objective::Population => {
                mean = population(&of_users());
                each(&|z| mean.as_ref().unwrap_or(&weights).mean_of(z))
            }
        };
        RoutedItem { weights, population: mean, rewards, heads }
    }

    fn shares_of<'a>(&'a self, share_of: ShareOf, weights: &'a Weights) -> &'a [f64] {
        match share_of {
            ShareOf::Weights => weights.as_slice(),
            ShareOf::Population => &self.shares,
        }
    }

    /// Estimates how many weights are to be computed; a reward takes as long.
    fn n_weights(&self, scores: &HeadScores) -> usize {
        let n_items = scores.items.len();
        let n_users = if self.objective.is_over_users() { self.users.len() } else { 0 };
        let n_responses = scores.rewards.n_responses();
        n_items * (1 + self.own.contexts.len()) + n_responses + n_users * (n_items + n_responses)
    }
}

impl Routed {
    /// Returns the answer for one item.
    pub fn scored(&self, idx: usize) -> ScoredItem {
        let (scores, routed, ids) = (&self.scores.items[idx], &self.routed[idx], &self.items[idx].ids);
        let RoutedItem { weights, heads, rewards, .. } = routed;
        ScoredItem {
            rewards: rewards.clone(),
            truncated: scores.truncated.clone(),
            prompt_truncated: scores.prompt_truncated,
            disagreement: heads.iter().map(|z| disagreement(weights, z)).collect(),
            weights: self.with_detail.then(|| weights.as_slice().to_vec()),
            heads: self.with_detail.then(|| heads.clone()),
            ids: ids.iter().any(Option::is_some).then(|| ids.clone()),
        }
    }
}
