//! Bounds on the memory of bodies while they are read: of one body, and of all at once.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::{Error, ErrorKind};
use crate::telemetry::metric;

/// The error code of a body that there is no room for now.
pub const NO_ROOM: &str = "too_many_bytes";

/// A budget of bytes that all bodies share. Cheap to clone; every clone is the same budget.
#[derive(Debug, Clone)]
pub struct Bodies {
    max_bytes: usize,
    max_held: usize,
    n_held: Arc<AtomicUsize>,
}

/// A share of the budget. Dropping it returns the bytes.
#[derive(Debug)]
pub struct Held {
    bodies: Bodies,
    n: usize,
}

impl Bodies {
    /// Creates a budget for bodies of at most `max_bytes` each and `max_held` together.
    #[must_use]
    pub fn new(max_bytes: NonZeroUsize, max_held: NonZeroUsize) -> Self {
        Self { max_bytes: max_bytes.get(), max_held: max_held.get(), n_held: Arc::default() }
    }

    /// Refuses a body by the length that it declares, before any of it is read. The length is not reserved: only
    /// received bytes count, so that a client that declares and does not send takes nothing from others.
    ///
    /// # Errors
    /// `TooLarge` when it is larger than any body may be, `Overloaded` when there is no room for it now.
    pub fn check(&self, declared: u64) -> Result<(), Error> {
        let declared = usize::try_from(declared).unwrap_or(usize::MAX);
        if declared > self.max_bytes {
            return Err(self.too_large());
        }
        let n_free = self.max_held.saturating_sub(self.n_held.load(Ordering::Relaxed));
        if declared > n_free { Err(self.no_room()) } else { Ok(()) }
    }

    /// Returns a share of no bytes yet.
    #[must_use]
    pub fn hold(&self) -> Held {
        Held { bodies: self.clone(), n: 0 }
    }

    /// Returns the number of bytes that all shares hold.
    #[must_use]
    pub fn n_held(&self) -> usize {
        self.n_held.load(Ordering::Relaxed)
    }

    fn too_large(&self) -> Error {
        let detail = format!(
            "found a body larger than `server.max_body_bytes`, expected at most {} bytes",
            self.max_bytes
        );
        Error::new(ErrorKind::TooLarge, detail)
    }

    fn no_room(&self) -> Error {
        metrics::counter!(metric::SHED, "reason" => "bodies").increment(1);
        let detail = format!(
            "there is no room for another body now: those that are being read fill `server.max_buffered_bytes`, {} bytes",
            self.max_held
        );
        Error::new(ErrorKind::Overloaded, detail).with_code(NO_ROOM)
    }
}

impl Held {
    /// Makes it the share of a body of which `n` bytes have been received.
    ///
    /// # Errors
    /// `TooLarge` when no body may have so many; and as [`Held::resize`].
    pub fn body(&mut self, n: usize) -> Result<(), Error> {
        if n > self.bodies.max_bytes { Err(self.bodies.too_large()) } else { self.resize(n) }
    }

    /// Returns the bytes above `n` to the budget.
    pub fn shrink_to(&mut self, n: usize) {
        let less = self.n.saturating_sub(n);
        self.bodies.n_held.fetch_sub(less, Ordering::Relaxed);
        self.n -= less;
    }

    /// Makes it a share of `n` bytes.
    ///
    /// # Errors
    /// `Overloaded` when they do not fit now; the share then stays as it is.
    pub fn resize(&mut self, n: usize) -> Result<(), Error> {
        self.shrink_to(n);
        let more = n - self.n;
        let fits = |n_held: usize| n_held.checked_add(more).filter(|all| *all <= self.bodies.max_held);
        let grown = self.bodies.n_held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        grown.map_err(|_| self.bodies.no_room())?;
        self.n = n;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bodies(max_bytes: usize, max_held: usize) -> Bodies {
        let count = |n| NonZeroUsize::new(n).unwrap();
        Bodies::new(count(max_bytes), count(max_held))
    }

    #[test]
    fn a_body_is_refused_by_its_declared_length_and_takes_nothing_by_it() {
        let bodies = bodies(60, 100);
        let mut held = bodies.hold();
        held.body(50).unwrap();
        assert_eq!(bodies.check(61).unwrap_err().kind(), ErrorKind::TooLarge);
        let error = bodies.check(51).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Overloaded, "too_many_bytes"));
        assert!(error.retry_after().is_some());
        bodies.check(50).unwrap();
        bodies.check(50).unwrap();
        assert_eq!(bodies.n_held(), 50);
    }

    proptest! {
        #[test]
        fn what_is_held_is_the_sum_of_the_shares_and_never_more_than_the_budget(
            steps in prop::collection::vec((0..4_usize, 0..80_usize, any::<bool>()), 0..100),
        ) {
            let bodies = bodies(60, 100);
            let mut shares: Vec<_> = (0..4).map(|_| (bodies.hold(), 0)).collect();
            for (idx, n, is_dropped) in steps {
                let others: usize = shares.iter().enumerate().filter(|(i, _)| *i != idx).map(|(_, (_, n))| n).sum();
                let (held, n_held) = &mut shares[idx];
                let fits = n <= 60 && (n <= *n_held || others + n <= 100);
                prop_assert_eq!(held.body(n).is_ok(), fits);
                if fits {
                    *n_held = n;
                }
                if is_dropped {
                    shares[idx] = (bodies.hold(), 0);
                }
                prop_assert_eq!(bodies.n_held(), shares.iter().map(|(_, n)| n).sum::<usize>());
                prop_assert!(bodies.n_held() <= 100);
            }
            drop(shares);
            prop_assert_eq!(bodies.n_held(), 0);
        }
    }
}
