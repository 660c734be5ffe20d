//! The verbs: message in, service call, message out.

use tonic::{Request, Response, Status, Streaming};

use super::pb;
use super::pb::reward_service_server::RewardService;
use super::requests::{event_id, required, user_id};
use super::status::status;
use super::streams::{Answers, acks, scores};
use crate::service::ServiceHandle;
use crate::transport::shared::streams::Stopped;
use crate::types::{Error, UserId};

type Verb<T> = Result<Response<T>, Status>;

/// All verbs, each over the service that is current when it is called.
pub(super) struct Verbs {
    handle: ServiceHandle,
    stopped: Stopped,
}

impl Verbs {
    pub(super) fn new(handle: ServiceHandle, stopped: Stopped) -> Self {
        Self { handle, stopped }
    }
}

/// Returns the answer of a verb, or its error as a status.
async fn answer<A, T: From<A>>(work: impl Future<Output = Result<A, Error>>) -> Verb<T> {
    work.await.map(|answer| Response::new(answer.into())).map_err(status)
}

#[tonic::async_trait]
impl RewardService for Verbs {
    type ScoreStreamStream = Answers<pb::ScoreStreamResponse>;
    type FeedbackStream = Answers<pb::FeedbackResponse>;

    async fn score(&self, request: Request<pb::ScoreRequest>) -> Verb<pb::ScoreResponse> {
        answer(async { self.handle.current().score(request.into_inner().try_into()?).await }).await
    }

    async fn score_stream(
        &self,
        requests: Request<Streaming<pb::ScoreStreamRequest>>,
    ) -> Verb<Self::ScoreStreamStream> {
        Ok(Response::new(scores(self.handle.clone(), requests.into_inner(), self.stopped.clone())))
    }

    async fn rank(&self, request: Request<pb::RankRequest>) -> Verb<pb::RankResponse> {
        let request = pb::ScoreRequest::from(request.into_inner());
        answer(async { self.handle.current().rank(request.try_into()?).await }).await
    }

    async fn compare(&self, request: Request<pb::CompareRequest>) -> Verb<pb::CompareResponse> {
        answer(async { self.handle.current().compare(request.into_inner().try_into()?).await }).await
    }

    async fn feedback(
        &self,
        requests: Request<Streaming<pb::FeedbackRequest>>,
    ) -> Verb<Self::FeedbackStream> {
        Ok(Response::new(acks(self.handle.clone(), requests.into_inner(), self.stopped.clone())))
    }

    async fn get_user(&self, request: Request<pb::GetUserRequest>) -> Verb<pb::GetUserResponse> {
        let pb::GetUserRequest { user, context } = request.into_inner();
        answer(async { self.handle.current().user(&user_id(user)?, context).await }).await
    }

    async fn erase_user(&self, request: Request<pb::EraseUserRequest>) -> Verb<pb::EraseUserResponse> {
        answer(async { self.handle.current().erase(&user_id(request.into_inner().user)?).await }).await
    }

    async fn import_user(&self, request: Request<pb::ImportUserRequest>) -> Verb<pb::ImportUserResponse> {
        let pb::ImportUserRequest { user, ledger } = request.into_inner();
        answer(async {
            let ledger = required(ledger, "ledger")?.try_into()?;
            self.handle.current().import(&user_id(user)?, ledger).await
        })
        .await
    }

    async fn merge_user(&self, request: Request<pb::MergeUserRequest>) -> Verb<pb::MergeUserResponse> {
        let pb::MergeUserRequest { user, from } = request.into_inner();
        answer(async {
            let from =
                UserId::try_from(from).map_err(|error| Error::invalid_field("from", error.to_string()))?;
            self.handle.current().merge(&from, &user_id(user)?).await
        })
        .await
    }

    async fn retract_feedback(
        &self,
        request: Request<pb::RetractFeedbackRequest>,
    ) -> Verb<pb::RetractFeedbackResponse> {
        let pb::RetractFeedbackRequest { user, event_id: id } = request.into_inner();
        answer(async { self.handle.current().retract(&user_id(user)?, &event_id(id)?).await }).await
    }

    async fn elicit(&self, request: Request<pb::ElicitRequest>) -> Verb<pb::ElicitResponse> {
        answer(async { self.handle.current().elicit(request.into_inner().try_into()?).await }).await
    }

    async fn next_question(
        &self,
        request: Request<pb::NextQuestionRequest>,
    ) -> Verb<pb::NextQuestionResponse> {
        let pb::NextQuestionRequest { user, context } = request.into_inner();
        answer(async { self.handle.current().next_question(&user_id(user)?, context).await }).await
    }

    async fn list_models(&self, _: Request<pb::ListModelsRequest>) -> Verb<pb::ListModelsResponse> {
        Ok(Response::new(self.handle.current().model().into()))
    }
}
