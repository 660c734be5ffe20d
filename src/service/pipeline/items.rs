//! The checked texts of a request.

use std::sync::Arc;

/// A checked prompt with its responses.
#[derive(Debug)]
pub struct Item {
    pub prompt: Arc<str>,
    pub responses: Vec<Arc<str>>,
    /// Ids, one per response; empty where the caller can't name any.
    pub ids: Vec<Option<String>>,
}

impl Item {
    /// Creates an item whose responses have no ids.
    pub fn unnamed(prompt: Arc<str>, responses: Vec<Arc<str>>) -> Self {
        Self { prompt, responses, ids: Vec::new() }
    }
}

/// The text that the router reads of each item.
#[derive(Debug, Clone)]
pub enum RouterInput {
    /// The router reads nothing: the evidence of feedback does not depend on the router.
    Nothing,
    /// The router reads the prompt, and the criterion after it.
    Prompt(Option<String>),
}
