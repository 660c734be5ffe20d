//! The native verbs: body in, service call, body out.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::Json;
use super::query::Query;
use crate::service::Service;
use crate::transport::shared::Problem;
use crate::types::{
    CompareAnswer, CompareRequest, ElicitAnswer, ElicitRequest, Erased, Error, EventId, MergeAnswer,
    MergeRequest, ModelView, NextQuestion, RankAnswer, RankRequest, Retracted, ScoreAnswer, ScoreRequest,
    UserId, UserImport, UserView,
};

/// Time that the caller waits, as in `2s`; `server.request_timeout` without it. A request that would wait too long
/// for its turn is refused at once.
#[derive(IntoParams)]
#[into_params(parameter_in = Header, names("X-Request-Timeout"))]
#[expect(dead_code, reason = "the process reads it, for every route; this is its description")]
struct Waits(Option<String>);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NextQuestionQuery {
    #[param(value_type = String)]
    user: UserId,
    /// The criterion to ask about.
    context: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UserQuery {
    /// Context of the weights.
    context: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RetractQuery {
    /// User of the feedback; event ids are unique within a user.
    #[param(value_type = String)]
    user: UserId,
}

type Verb<T> = Result<Answer<T>, Problem>;
type Shared = State<Arc<Service>>;
type PathId = Result<Path<String>, PathRejection>;

#[utoipa::path(post, path = "/score", request_body = ScoreRequest, params(Waits), responses(
    (status = 200, body = ScoreAnswer), (status = "4XX", body = super::problem::ProblemBody<'static>)))]
pub(super) async fn score(State(service): Shared, Json(request): Json<ScoreRequest>) -> Verb<ScoreAnswer> {
    Ok(Answer(service.score(request).await?))
}

#[utoipa::path(post, path = "/rank", request_body = RankRequest, params(Waits), responses(
    (status = 200, body = RankAnswer), (status = "4XX", body = super::problem::ProblemBody<'static>)))]
pub(super) async fn rank(State(service): Shared, Json(request): Json<RankRequest>) -> Verb<RankAnswer> {
    Ok(Answer(service.rank(request).await?))
}

#[utoipa::path(post, path = "/compare", request_body = CompareRequest, params(Waits), responses(
    (status = 200, body = CompareAnswer), (status = "4XX", body = super::problem::ProblemBody<'static>)))]
pub(super) async fn compare(
    State(service): Shared,
    Json(request): Json<CompareRequest>,
) -> Verb<CompareAnswer> {
    Ok(Answer(service.compare(request).await?))
}

#[utoipa::path(post, path = "/elicit", request_body = ElicitRequest, params(Waits), responses(
    (status = 200, body = ElicitAnswer), (status = "4XX", body = super::problem::ProblemBody<'static>)))]
pub(super) async fn elicit(State(service): Shared, Json(request): Json<ElicitRequest>) -> Verb<ElicitAnswer> {
    Ok(Answer(service.elicit(request).await?))
}

#[utoipa::path(get, path = "/elicit",
    params(NextQuestionQuery), responses((status = 200, body = NextQuestion),
    (status = "4XX", body = super::problem::ProblemBody<'static>, description = "`no_questions`: the bundle has none")))]
pub(super) async fn next_question(
    State(service): Shared,
    Query(query): Query<NextQuestionQuery>,
) -> Verb<NextQuestion> {
    Ok(Answer(service.next_question(&query.user, query.context).await?))
}

#[utoipa::path(get, path = "/users/{id}",
    params(("id" = String, Path), UserQuery),
    responses((status = 200, body = UserView), (status = 404, body = super::problem::ProblemBody<'static>)))]
pub(super) async fn user(
    State(service): Shared,
    id: PathId,
    Query(query): Query<UserQuery>,
) -> Verb<UserView> {
    Ok(Answer(service.user(&user_id(id)?, query.context).await?))
}

#[utoipa::path(put, path = "/users/{id}", params(("id" = String, Path)), request_body = UserImport,
    responses((status = 200, body = UserView),
    (status = 409, body = super::problem::ProblemBody<'static>, description = "`other_heads`: evidence of another bundle")))]
pub(super) async fn import(
    State(service): Shared,
    id: PathId,
    Json(import): Json<UserImport>,
) -> Verb<UserView> {
    Ok(Answer(service.import(&user_id(id)?, import.ledger).await?))
}

/// Merges `from` into this user: its feedback, past and future, counts exactly for this user.
#[utoipa::path(post, path = "/users/{id}/merge", params(("id" = String, Path)), request_body = MergeRequest,
    responses((status = 200, body = MergeAnswer),
    (status = 404, body = super::problem::ProblemBody<'static>, description = "`not_supported`: this `state.engine` can't"),
    (status = 409, body = super::problem::ProblemBody<'static>,
    description = "`merged_user`: `from` belongs to another account; `merge_cycle`: this user was merged into `from`; `too_many_ids`")))]
pub(super) async fn merge(
    State(service): Shared,
    id: PathId,
    Json(request): Json<MergeRequest>,
) -> Verb<MergeAnswer> {
    Ok(Answer(service.merge(&request.from, &user_id(id)?).await?))
}

#[utoipa::path(delete, path = "/feedback/{event_id}", params(("event_id" = String, Path), RetractQuery),
    responses((status = 200, body = Retracted), (status = 404, body = super::problem::ProblemBody<'static>,
    description = "`unknown_event`: its raw event is not kept (without the embedded engine: it came before `feedback.max_age`), an import or an erasure came after it, or it is still to come, and then it will not count"),
    (status = 503, body = super::problem::ProblemBody<'static>, description = "`unreadable_journal`: nothing was taken back")))]
pub(super) async fn retract(
    State(service): Shared,
    id: PathId,
    Query(RetractQuery { user }): Query<RetractQuery>,
) -> Verb<Retracted> {
    let Path(id) = id.map_err(|rejection| Error::invalid_field("event_id", rejection.body_text()))?;
    let id = EventId::try_from(id).map_err(|error| Error::invalid_field("event_id", error.to_string()))?;
    Ok(Answer(service.retract(&user, &id).await?))
}

/// Erases the user, with the ids that were merged into it; a merged id alone is erased without the evidence that counts
/// for its account. Takes no parameter: a client that wants to erase one context alone must not lose all of them.
#[utoipa::path(delete, path = "/users/{id}", params(("id" = String, Path)), responses((status = 200, body = Erased)))]
pub(super) async fn erase(State(service): Shared, id: PathId) -> Verb<Erased> {
    Ok(Answer(service.erase(&user_id(id)?).await?))
}

#[utoipa::path(get, path = "/models", responses((status = 200, body = ModelView)))]
pub(super) async fn models(State(service): Shared) -> Answer<ModelView> {
    Answer(service.model())
}

fn user_id(id: PathId) -> Result<UserId, Error> {
    let Path(id) = id.map_err(|rejection| Error::invalid_field("id", rejection.body_text()))?;
    UserId::try_from(id).map_err(|error| Error::invalid_field("id", error.to_string()))
}
