//! `[batch]`: the encoder's threads, and the texts that wait for them.

use std::num::NonZeroUsize;

use super::model::Provider;
use super::section::Section;

/// Upper bound of the model threads: more than any machine has cores is a mistake.
const MAX_THREADS: i64 = 1024;

/// The encoder's threads and their queue.
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    pub threads: NonZeroUsize,
    /// Further threads, for small requests while a large one occupies the others.
    pub interactive_threads: usize,
    /// None if it is measured.
    pub tokens: Option<NonZeroUsize>,
    pub max_queued_texts: NonZeroUsize,
}

impl Batch {
    pub(super) fn read(mut section: Section<'_>, first_provider: Option<Provider>) -> Self {
        let default_threads = || match first_provider {
            Some(Provider::Cpu) => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            // A device other than the CPU runs one batch at a time.
            _ => NonZeroUsize::MIN,
        };
        Self {
            threads: section.zero_or_count_up_to("threads", MAX_THREADS).unwrap_or_else(default_threads),
            interactive_threads: section
                .zero_or_count_up_to("interactive_threads", MAX_THREADS)
                .map_or(0, NonZeroUsize::get),
            tokens: section.zero_or_count("tokens"),
            max_queued_texts: section.count("max_queued_texts"),
        }
    }
}
