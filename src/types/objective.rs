//! The objective of a reward: the preferences of one user, or a policy that many users share.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Error;

/// The share that a head needs to count in `maxmin`, unless the request sets another.
const MIN_SHARE: f64 = 0.1;

/// The definition of a response's reward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveKind {
    /// The user's reward: `sum_k w_k z_k`.
    #[default]
    Mixture,
    /// The least reward of the heads that have at least `min_share` (the egalitarian reward of arXiv 2402.08925).
    Maxmin,
    /// The reward that all but a share `q` of the heads or users find at least as good.
    Quantile,
    /// The mean over the users' routers: one policy for all users. The request's own `user` does not count.
    Population,
}

/// The share of a head that counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShareOf {
    /// Its mixture weight for this user and prompt.
    #[default]
    Weights,
    /// Its share of the population, from the bundle.
    Population,
}

/// The heads or users over whose rewards a quantile is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// The heads, weighted by their shares.
    #[default]
    Heads,
    /// The users, a sample of whom counts equally. The request's own `user` does not count.
    Users,
}

/// An objective with its parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Objective {
    /// The user's own reward.
    #[default]
    Mixture,
    /// The least reward of the heads that have at least `min_share`, in [0, 1].
    Maxmin { min_share: f64, share_of: ShareOf },
    /// The `q`-quantile over heads, q in [0, 1].
    QuantileOfHeads { q: f64, share_of: ShareOf },
    /// The `q`-quantile over users, q in [0, 1].
    QuantileOfUsers { q: f64 },
    /// The mean over users.
    Population,
}

/// The parameters of objectives as clients send them, flat beside `objective`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parameters {
    pub(super) min_share: Option<f64>,
    pub(super) share_of: Option<ShareOf>,
    pub(super) q: Option<f64>,
    pub(super) over: Option<Over>,
}

impl Objective {
    /// Joins an objective with its parameters.
    ///
    /// # Errors
    /// Names the parameter that is missing, out of range, or does not belong to this objective.
    pub(super) fn new(kind: ObjectiveKind, given: Parameters) -> Result<Self, Error> {
        use ObjectiveKind::{Maxmin, Mixture, Population, Quantile};
        let over = given.over.unwrap_or_default();
        let over_heads = kind == Quantile && over == Over::Heads;
        let belongs = [
            ("min_share", given.min_share.is_some(), kind == Maxmin),
            ("share_of", given.share_of.is_some(), kind == Maxmin || over_heads),
            ("q", given.q.is_some(), kind == Quantile),
            ("over", given.over.is_some(), kind == Quantile),
        ];
        if let Some((field, ..)) = belongs.iter().find(|(_, is_given, belongs)| *is_given && !belongs) {
            let over = if kind == Quantile { " over users" } else { "" };
            return Err(Error::invalid_field(
                *field,
                format!("does not belong to the objective {}{over}", kind.label()),
            ));
        }
        let share_of = given.share_of.unwrap_or_default();
        Ok(match kind {
            Mixture => Self::Mixture,
            Population => Self::Population,
            Maxmin => Self::Maxmin {
                min_share: share("min_share", given.min_share.unwrap_or(MIN_SHARE))?,
                share_of,
            },
            Quantile => {
                let missing =
                    || Error::invalid_field("q", "missing; the objective quantile needs it".to_owned());
                let q = share("q", given.q.ok_or_else(missing)?)?;
                match over {
                    Over::Heads => Self::QuantileOfHeads { q, share_of },
                    Over::Users => Self::QuantileOfUsers { q },
                }
            }
        })
    }

    /// Returns the kind of objective.
    #[must_use]
    pub const fn kind(self) -> ObjectiveKind {
        match self {
            Self::Mixture => ObjectiveKind::Mixture,
            Self::Maxmin { .. } => ObjectiveKind::Maxmin,
            Self::QuantileOfHeads { .. } | Self::QuantileOfUsers { .. } => ObjectiveKind::Quantile,
            Self::Population => ObjectiveKind::Population,
        }
    }

    /// True if it is taken over users.
    #[must_use]
    pub const fn is_over_users(self) -> bool {
        matches!(self, Self::QuantileOfUsers { .. } | Self::Population)
    }
}

impl ObjectiveKind {
    const fn label(self) -> &'static str {
        match self {
            Self::Mixture => "mixture",
            Self::Maxmin => "maxmin",
            Self::Quantile => "quantile",
            Self::Population => "population",
        }
    }
}

fn share(field: &'static str, found: f64) -> Result<f64, Error> {
    let is_share = (0.0..=1.0).contains(&found);
    is_share
        .then_some(found)
        .ok_or_else(|| Error::invalid_field(field, format!("found {found}, expected a number from 0 to 1")))
}
