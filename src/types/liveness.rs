//! Liveness of background threads and tasks.
//!
//! The law: a part that ends without [`Part::end`] while its owner runs, be it by a panic, an early return or an
//! abort, is dead, and stays so until the process restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// The background threads and tasks of one owner, such as a store. Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Liveness(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The name of the first part that died.
    dead: Mutex<Option<Arc<str>>>,
    is_retired: AtomicBool,
}

impl Liveness {
    /// Begins a part, which holds the guard for as long as it runs.
    pub fn part(&self, name: impl Into<Arc<str>>) -> Part {
        Part { liveness: self.clone(), name: name.into(), is_over: false }
    }

    /// Returns the name of the part that died first, if one has.
    #[must_use]
    pub fn dead(&self) -> Option<Arc<str>> {
        self.0.dead.lock().clone()
    }

    /// Returns a description of the trouble, if a part has died.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.dead().map(|name| format!("{name} has died").into())
    }

    /// Declares that the owner stops: a part that ends from now on is not dead.
    pub fn retire(&self) {
        self.0.is_retired.store(true, Ordering::Release);
    }
}

/// The guard of one background thread or task.
#[derive(Debug)]
#[must_use = "a part that drops its guard is dead"]
pub struct Part {
    liveness: Liveness,
    name: Arc<str>,
    is_over: bool,
}

impl Part {
    /// Ends the part on purpose.
    pub fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let Shared { dead, is_retired } = &*self.liveness.0;
        if !self.is_over && !is_retired.load(Ordering::Acquire) {
            tracing::error!(part = &*self.name, "a background part has died; /livez fails until a restart");
            dead.lock().get_or_insert_with(|| self.name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_dead_unless_it_ended_on_purpose() {
        let liveness = Liveness::default();
        liveness.part("one that ends").end();
        assert_eq!(liveness.dead(), None);
        drop(liveness.part("one that returns early"));
        assert_eq!(liveness.dead().as_deref(), Some("one that returns early"));
        let part = liveness.part("one that panics");
        let thread = std::thread::spawn(move || {
            let _part = part;
            panic!("as a library might");
        });
        assert!(thread.join().is_err());
        assert_eq!(liveness.dead().as_deref(), Some("one that returns early"), "the first is named");
    }

    #[test]
    fn what_ends_after_its_owner_stopped_is_not_dead() {
        let liveness = Liveness::default();
        let part = liveness.part("one that is aborted");
        liveness.retire();
        drop(part);
        assert_eq!(liveness.dead(), None);
    }
}
