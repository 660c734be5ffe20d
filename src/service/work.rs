//! Runs computations: short ones on an async thread, longer ones off it.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use crate::telemetry::metric;
use crate::types::{Error, ErrorKind};

/// Does work and times it as `stage`. A blocking task can't be cancelled: it checks whether its argument is still
/// owned, which is as long as this future is awaited.
pub(super) async fn work<T: Send + 'static>(
    stage: &'static str,
    is_a_moment: bool,
    work: impl FnOnce(&Weak<()>) -> T + Send + 'static,
) -> Result<T, Error> {
    let awaited = Arc::new(());
    let awaits = Arc::downgrade(&awaited);
    let timed = move || {
        let start = Instant::now();
        let answer = work(&awaits);
        metrics::histogram!(metric::STAGE_SECONDS, "stage" => stage).record(start.elapsed());
        answer
    };
    if is_a_moment {
        return Ok(timed());
    }
    let failed =
        |error| Error::new(ErrorKind::Internal, "the request could not be worked on").with_source(error);
    let answer = tokio::task::spawn_blocking(timed).await.map_err(failed);
    drop(awaited);
    answer
}
