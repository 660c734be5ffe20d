//! The OpenAPI document of the traffic port, derived from the handlers.

use axum::Json as Answer;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(title = "micro-reward", description = "Routed reward heads, personalized online."),
    paths(
        super::native::score,
        super::native::rank,
        super::native::compare,
        super::native::elicit,
        super::native::next_question,
        super::feedback::feedback,
        super::native::retract,
        super::native::user,
        super::native::import,
        super::native::merge,
        super::native::erase,
        super::native::models,
    )
)]
struct Document;

pub(super) async fn serve() -> Answer<utoipa::openapi::OpenApi> {
    Answer(Document::openapi())
}
