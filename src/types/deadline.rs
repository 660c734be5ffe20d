//! When the caller of a request stops waiting; it travels with the work that is done for it.

use std::future::Future;

use tokio::time::Instant;

tokio::task_local! {
    static DEADLINE: Instant;
}

/// Does work that is worth nothing after `deadline`. Within work that has an earlier one, that one stays.
pub async fn until<F: Future>(deadline: Instant, work: F) -> F::Output {
    let deadline = self::deadline().map_or(deadline, |outer| outer.min(deadline));
    DEADLINE.scope(deadline, work).await
}

/// The deadline of the work that this is part of; none for what nobody waits for, and for streams, which have no end.
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
