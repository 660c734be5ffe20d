//! What a request asks about, once it has been checked.

use std::sync::Arc;

/// A checked prompt with its responses.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) prompt: Arc<str>,
    pub(super) responses: Vec<Arc<str>>,
}

/// Whether the router is asked, and about which context.
#[derive(Debug, Clone)]
pub(super) enum Route {
    /// Feedback: evidence does not depend on the router.
    No,
    /// By the prompt, and the criterion after it.
    By(Option<String>),
}
