//! The deadline of a request's caller, which travels with the work that is done for it.

use std::future::Future;

use tokio::time::Instant;

tokio::task_local! {
    static DEADLINE: Instant;
}

/// Runs work that is worth nothing after `deadline`. An earlier deadline of the work around it stays in force.
pub async fn until<F: Future>(deadline: Instant, work: F) -> F::Output {
    let deadline = self::deadline().map_or(deadline, |outer| outer.min(deadline));
    DEADLINE.scope(deadline, work).await
}

/// Returns the deadline of the current work; none for work that no caller waits for, and for streams, which have no
/// end.
#[must_use]
pub fn deadline() -> Option<Instant> {
    DEADLINE.try_with(|deadline| *deadline).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_earliest_deadline_counts() {
        let now = Instant::now();
        let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        assert_eq!(deadline(), None);
        assert_eq!(until(later, until(soon, async { deadline() })).await, Some(soon));
        assert_eq!(until(soon, until(later, async { deadline() })).await, Some(soon));
    }
}
