//! Bodies that own a value until they are sent or dropped.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Moves `kept` into the body of the answer.
pub fn keep<T: Send + Unpin + 'static>(response: Response, kept: T) -> Response {
    watch(response, kept, |_, _| {})
}

/// Moves `kept` into the body of the answer, and calls `see` with it for every frame.
pub fn watch<T: Send + Unpin + 'static>(
    response: Response,
    kept: T,
    see: fn(&mut T, &Frame<Bytes>),
) -> Response {
    response.map(|body| watched(body, kept, see))
}

/// Moves `kept` into the body, and calls `see` with it for every frame.
pub fn watched<T: Send + Unpin + 'static>(body: Body, kept: T, see: fn(&mut T, &Frame<Bytes>)) -> Body {
    Body::new(Guarded { body, kept, see })
}

struct Guarded<T> {
    body: Body,
    kept: T,
    see: fn(&mut T, &Frame<Bytes>),
}

impl<T: Unpin> HttpBody for Guarded<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let see = self.see;
            see(&mut self.kept, frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
