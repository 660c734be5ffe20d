//! JSON requests as messages, and messages as the answers that HTTP writes.

use micro_reward::transport::grpc::pb;
use micro_reward::types::{
    Ack, AckStatus, CompareAnswer, ElicitAnswer, HeadView, ModelView, NextQuestion, ObjectiveKind,
    OpenQuestion, RankAnswer, RankedCandidate, RankedItem, ScoreAnswer, ScoredItem, Stale, UserView,
};
use serde_json::Value;

/// Returns a text of a request; none if it is absent.
fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn each<T>(value: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().into_iter().flatten().map(read).collect()
}

/// Returns the value of an enum by its name in JSON; an invalid one where `proto/` has no such name.
fn named(prefix: &str, value: &Value, find: impl Fn(&str) -> Option<i32>) -> i32 {
    value.as_str().map_or(0, |name| find(&format!("{prefix}_{}", name.to_uppercase())).unwrap_or(99))
}

fn message(value: &Value) -> pb::Message {
    let find = |name: &str| pb::Role::from_str_name(name).map(i32::from);
    let role = named("ROLE", &value["role"], find);
    pb::Message { role, content: text(&value["content"]).unwrap_or_default() }
}

pub fn response(value: &Value) -> pb::Response {
    match value {
        Value::String(text) => pb::Response { id: None, text: text.clone() },
        named => pb::Response { id: text(&named["id"]), text: text(&named["text"]).unwrap_or_default() },
    }
}

fn item(value: &Value) -> pb::ScoreItem {
    pb::ScoreItem {
        prompt: text(&value["prompt"]),
        messages: each(&value["messages"], message),
        responses: each(&value["responses"], response),
    }
}

pub fn score_request(value: &Value) -> pb::ScoreRequest {
    pb::ScoreRequest {
        user: text(&value["user"]),
        context: text(&value["context"]),
        items: each(&value["items"], item),
        detail: value["detail"].as_bool().unwrap_or_default(),
        objective: named("OBJECTIVE", &value["objective"], |n| {
            pb::Objective::from_str_name(n).map(i32::from)
        }),
        min_share: value["min_share"].as_f64(),
        share_of: named("SHARE_OF", &value["share_of"], |n| pb::ShareOf::from_str_name(n).map(i32::from)),
        q: value["q"].as_f64(),
        over: named("OVER", &value["over"], |n| pb::Over::from_str_name(n).map(i32::from)),
        min_version: value["min_version"].as_u64(),
    }
}

pub fn rank_request(value: &Value) -> pb::RankRequest {
    let pb::ScoreRequest {
        user,
        context,
        items,
        detail,
        objective,
        min_share,
        share_of,
        q,
        over,
        min_version,
    } = score_request(value);
    pb::RankRequest { user, context, items, detail, objective, min_share, share_of, q, over, min_version }
}

fn there<T>(value: &Value, read: impl Fn(&Value) -> T) -> Option<T> {
    (!value.is_null()).then(|| read(value))
}

pub fn compare_request(value: &Value) -> pb::CompareRequest {
    pb::CompareRequest {
        user: text(&value["user"]),
        context: text(&value["context"]),
        prompt: text(&value["prompt"]),
        messages: each(&value["messages"], message),
        a: there(&value["a"], response),
        b: there(&value["b"], response),
        detail: value["detail"].as_bool().unwrap_or_default(),
        min_version: value["min_version"].as_u64(),
    }
}

fn candidate(value: &Value) -> pb::Candidate {
    pb::Candidate {
        id: text(&value["id"]),
        prompt: text(&value["prompt"]),
        messages: each(&value["messages"], message),
        a: there(&value["a"], response),
        b: there(&value["b"], response),
    }
}

pub fn elicit_request(value: &Value) -> pb::ElicitRequest {
    pb::ElicitRequest {
        user: text(&value["user"]),
        context: text(&value["context"]),
        candidates: each(&value["candidates"], candidate),
        limit: value["limit"].as_u64(),
    }
}

pub fn event(value: &Value) -> pb::Event {
    let at = value["at"].as_str().map(|at| {
        let at: jiff::Timestamp = at.parse().unwrap();
        prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
    });
    pb::Event {
        event_id: text(&value["event_id"]).unwrap_or_default(),
        user: text(&value["user"]).unwrap_or_default(),
        kind: named("EVENT_KIND", &value["kind"], |n| pb::EventKind::from_str_name(n).map(i32::from)),
        prompt: text(&value["prompt"]),
        messages: each(&value["messages"], message),
        at,
        context: text(&value["context"]),
        chosen: text(&value["chosen"]),
        rejected: text(&value["rejected"]),
        responses: each(&value["responses"], |value| text(value).unwrap()),
        response: text(&value["response"]),
        up: value["up"].as_bool(),
        ratings: each(&value["ratings"], |value| value.as_f64().unwrap()),
        original: text(&value["original"]),
        edited: text(&value["edited"]),
        chosen_id: text(&value["chosen_id"]),
        rejected_id: text(&value["rejected_id"]),
        response_ids: each(&value["response_ids"], |value| text(value).unwrap()),
        response_id: text(&value["response_id"]),
        original_id: text(&value["original_id"]),
        replaces: text(&value["replaces"]),
        comment: text(&value["comment"]),
        metadata: value["metadata"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), text(value).unwrap()))
            .collect(),
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn objective(found: i32) -> ObjectiveKind {
    match pb::Objective::try_from(found).unwrap() {
        pb::Objective::Unspecified => panic!("answers say what they are for"),
        pb::Objective::Mixture => ObjectiveKind::Mixture,
        pb::Objective::Maxmin => ObjectiveKind::Maxmin,
        pb::Objective::Quantile => ObjectiveKind::Quantile,
        pb::Objective::Population => ObjectiveKind::Population,
    }
}

fn scored(item: pb::ScoredItem) -> ScoredItem {
    ScoredItem {
        rewards: item.rewards,
        truncated: item.truncated,
        prompt_truncated: item.prompt_truncated,
        disagreement: item.disagreement,
        weights: some(item.weights),
        heads: some(item.heads.into_iter().map(|heads| heads.rewards).collect()),
        ids: some(item.ids.into_iter().map(|id| Some(id).filter(|id| !id.is_empty())).collect()),
    }
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

fn stale(stale: pb::Stale) -> Stale {
    Stale { age_ms: stale.age_ms }
}

pub fn score_answer(answer: pb::ScoreResponse) -> ScoreAnswer {
    ScoreAnswer {
        revision: answer.revision,
        objective: objective(answer.objective),
        users: answer.users.map(size),
        items: answer.items.into_iter().map(scored).collect(),
        stale: answer.stale.map(stale),
    }
}

pub fn rank_answer(answer: pb::RankResponse) -> RankAnswer {
    let ranked = |item: pb::RankedItem| RankedItem {
        order: item.order.into_iter().map(size).collect(),
        best: item.best,
        scored: scored(item.scored.unwrap()),
    };
    RankAnswer {
        revision: answer.revision,
        objective: objective(answer.objective),
        users: answer.users.map(size),
        items: answer.items.into_iter().map(ranked).collect(),
        stale: answer.stale.map(stale),
    }
}

pub fn compare_answer(answer: pb::CompareResponse) -> CompareAnswer {
    let pb::CompareResponse { revision, preference, scored: item, stale: age } = answer;
    CompareAnswer { revision, preference, scored: scored(item.unwrap()), stale: age.map(stale) }
}

pub fn elicit_answer(answer: pb::ElicitResponse) -> ElicitAnswer {
    let ranked = |ranked: pb::RankedCandidate| RankedCandidate {
        index: size(ranked.index),
        id: ranked.id,
        information: ranked.information,
        preference: ranked.preference,
    };
    ElicitAnswer {
        revision: answer.revision,
        candidates: answer.candidates.into_iter().map(ranked).collect(),
        stale: answer.stale.map(stale),
    }
}

pub fn next_question(next: pb::NextQuestionResponse) -> NextQuestion {
    let question = next.question.map(|question| {
        let pb::OpenQuestion { id, prompt, a, b, information } = question;
        OpenQuestion { id, prompt, a, b, information }
    });
    NextQuestion {
        revision: next.revision,
        question,
        answered: size(next.answered),
        of: size(next.of),
        stale: next.stale.map(stale),
    }
}

pub fn user_view(view: pb::GetUserResponse) -> UserView {
    let last_event =
        view.last_event.map(|at| jiff::Timestamp::new(at.seconds, at.nanos).unwrap().to_string());
    UserView {
        user: view.user,
        merged_into: view.merged_into,
        revision: view.revision,
        context: view.context,
        weights: view.weights,
        evidence: view.evidence,
        effective_heads: view.effective_heads,
        n: view.n,
        last_event,
        contexts: size(view.contexts),
        version: view.version,
        stale: view.stale.map(stale),
        ledger: view.ledger.unwrap().try_into().unwrap(),
    }
}

pub fn model_view(mut answer: pb::ListModelsResponse) -> ModelView {
    let model = answer.models.remove(0);
    let head = |pb::Head { name, prior, beta }| HeadView { name, prior, beta };
    ModelView {
        name: model.name,
        revision: model.revision,
        heads: model.heads.into_iter().map(head).collect(),
        max_tokens: size(model.max_tokens),
        questions: size(model.questions),
    }
}

/// Returns an ack as HTTP writes it. Codes are static, so the code, which equals that of HTTP, is leaked.
pub fn ack(found: pb::FeedbackResponse, http: &Value) -> Ack {
    let status = match pb::AckStatus::try_from(found.status).unwrap() {
        pb::AckStatus::Unspecified => panic!("acks say what became of the event"),
        pb::AckStatus::Applied => AckStatus::Applied,
        pb::AckStatus::Duplicate => AckStatus::Duplicate,
        pb::AckStatus::Queued => AckStatus::Queued,
        pb::AckStatus::Late => AckStatus::Late,
        pb::AckStatus::Rejected => AckStatus::Rejected,
        pb::AckStatus::Retracted => AckStatus::Retracted,
        pb::AckStatus::Conflict => AckStatus::Conflict,
    };
    assert_eq!(found.code.as_deref(), http["code"].as_str());
    let code = found.code.map(|code| &*code.leak());
    Ack {
        event_id: found.event_id,
        status,
        code,
        detail: found.detail,
        field: None,
        retryable: found.retryable,
        retry_after_ms: found.retry_after_ms,
        version: found.version,
        replaced: found.replaced,
        content: found.content.map(String::into_boxed_str),
    }
}
