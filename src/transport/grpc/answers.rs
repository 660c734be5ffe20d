//! Converts the service's answers to messages. Doubles stay as they are.

use jiff::Timestamp;

use super::pb;
use crate::types::{
    CompareAnswer, ElicitAnswer, Erased, Error, HeadView, ModelView, NextQuestion, ObjectiveKind,
    OpenQuestion, RankAnswer, RankedCandidate, RankedItem, ScoreAnswer, ScoredItem, Stale, UserView,
};

impl From<ScoreAnswer> for pb::ScoreResponse {
    fn from(answer: ScoreAnswer) -> Self {
        Self {
            revision: answer.revision,
            objective: objective(answer.objective),
            users: answer.users.map(count),
            items: answer.items.into_iter().map(Into::into).collect(),
            stale: answer.stale.map(Into::into),
        }
    }
}

impl From<ScoredItem> for pb::ScoredItem {
    fn from(item: ScoredItem) -> Self {
        let heads = item.heads.unwrap_or_default();
        let ids = item.ids.unwrap_or_default();
        Self {
            rewards: item.rewards,
            truncated: item.truncated,
            prompt_truncated: item.prompt_truncated,
            disagreement: item.disagreement,
            weights: item.weights.unwrap_or_default(),
            heads: heads.into_iter().map(|rewards| pb::HeadRewards { rewards }).collect(),
            ids: ids.into_iter().map(Option::unwrap_or_default).collect(),
        }
    }
}

impl From<RankAnswer> for pb::RankResponse {
    fn from(answer: RankAnswer) -> Self {
        Self {
            revision: answer.revision,
            objective: objective(answer.objective),
            users: answer.users.map(count),
            items: answer.items.into_iter().map(Into::into).collect(),
            stale: answer.stale.map(Into::into),
        }
    }
}

impl From<RankedItem> for pb::RankedItem {
    fn from(item: RankedItem) -> Self {
        let order = item.order.into_iter().map(count).collect();
        Self { order, best: item.best, scored: Some(item.scored.into()) }
    }
}

impl From<CompareAnswer> for pb::CompareResponse {
    fn from(answer: CompareAnswer) -> Self {
        let CompareAnswer { revision, preference, scored, stale } = answer;
        Self { revision, preference, scored: Some(scored.into()), stale: stale.map(Into::into) }
    }
}

impl From<Stale> for pb::Stale {
    fn from(stale: Stale) -> Self {
        Self { age_ms: stale.age_ms }
    }
}

impl From<UserView> for pb::GetUserResponse {
    fn from(view: UserView) -> Self {
        Self {
            user: view.user,
            merged_into: view.merged_into,
            revision: view.revision,
            context: view.context,
            weights: view.weights,
            evidence: view.evidence,
            effective_heads: view.effective_heads,
            n: view.n,
            last_event: view.last_event.as_deref().and_then(timestamp),
            contexts: count(view.contexts),
            version: view.version,
            stale: view.stale.map(Into::into),
            ledger: Some(view.ledger.into()),
        }
    }
}

impl From<Erased> for pb::EraseUserResponse {
    fn from(erased: Erased) -> Self {
        let erased_at = timestamp(&erased.erased_at);
        Self { user: erased.user, existed: erased.existed, n: erased.n, erased_at }
    }
}

impl From<ElicitAnswer> for pb::ElicitResponse {
    fn from(answer: ElicitAnswer) -> Self {
        let ranked = |ranked: RankedCandidate| pb::RankedCandidate {
            index: count(ranked.index),
            id: ranked.id,
            information: ranked.information,
            preference: ranked.preference,
        };
        let candidates = answer.candidates.into_iter().map(ranked).collect();
        Self { revision: answer.revision, candidates, stale: answer.stale.map(Into::into) }
    }
}

impl From<NextQuestion> for pb::NextQuestionResponse {
    fn from(next: NextQuestion) -> Self {
        let open = |OpenQuestion { id, prompt, a, b, information }| pb::OpenQuestion {
            id,
            prompt,
            a,
            b,
            information,
        };
        Self {
            revision: next.revision,
            question: next.question.map(open),
            answered: count(next.answered),
            of: count(next.of),
            stale: next.stale.map(Into::into),
        }
    }
}

impl From<ModelView> for pb::ListModelsResponse {
    fn from(view: ModelView) -> Self {
        let head = |HeadView { name, prior, beta }| pb::Head { name, prior, beta };
        let model = pb::Model {
            name: view.name,
            revision: view.revision,
            heads: view.heads.into_iter().map(head).collect(),
            max_tokens: count(view.max_tokens),
            questions: count(view.questions),
        };
        Self { models: vec![model] }
    }
}

/// An error of one message, after which the stream continues.
impl From<&Error> for pb::Error {
    fn from(error: &Error) -> Self {
        Self {
            status: error.kind().grpc_code(),
            code: error.code().to_owned(),
            detail: error.detail().to_owned(),
            field: error.field().map(str::to_owned),
            retryable: error.is_retryable(),
        }
    }
}

fn objective(kind: ObjectiveKind) -> i32 {
    let kind = match kind {
        ObjectiveKind::Mixture => pb::Objective::Mixture,
        ObjectiveKind::Maxmin => pb::Objective::Maxmin,
        ObjectiveKind::Quantile => pb::Objective::Quantile,
        ObjectiveKind::Population => pb::Objective::Population,
    };
    kind.into()
}

fn count(n: usize) -> u64 {
    n as u64
}

/// Converts a time as answers write it; before 1970, nanoseconds still count forward.
fn timestamp(text: &str) -> Option<prost_types::Timestamp> {
    let at: Timestamp = text.parse().ok()?;
    let (seconds, nanos) = (at.as_second(), at.subsec_nanosecond());
    let (seconds, nanos) = if nanos < 0 { (seconds - 1, nanos + 1_000_000_000) } else { (seconds, nanos) };
    Some(prost_types::Timestamp { seconds, nanos })
}
