//! Ratings of many responses by one person, which tell the value of picking one of them.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::split::Split;
use super::statement::Response;
use crate::types::json;

/// All ratings of one person on the responses to one prompt: positions in a [`super::Dataset`].
#[derive(Debug, Clone, PartialEq)]
pub struct Rated {
    /// The person.
    pub user: usize,
    /// The prompt, which the router reads.
    pub prompt: usize,
    /// The responses with their ratings, higher is better; at least two.
    pub responses: Vec<(usize, f64)>,
    /// The split: train unless the row has another.
    pub split: Split,
}

/// A row of {user, prompt, responses or response_ids, ratings, split?}, of as many responses as there are.
#[derive(Deserialize)]
pub(super) struct RatedRow {
    pub(super) user: String,
    pub(super) prompt: String,
    responses: Option<Vec<String>>,
    response_ids: Option<Vec<String>>,
    ratings: Vec<f64>,
    pub(super) split: Option<Split>,
}

impl RatedRow {
    pub(super) fn read(columns: Map<String, Value>) -> Result<Self, String> {
        json::read_from(Value::Object(columns)).map_err(|fault| fault.to_string())
    }

    /// Returns the responses with their ratings, at least two.
    pub(super) fn rated(&mut self) -> Result<Vec<(Response, f64)>, String> {
        let responses: Vec<Response> = match (self.responses.take(), self.response_ids.take()) {
            (Some(texts), None) => texts.into_iter().map(Response::Text).collect(),
            (None, Some(ids)) => ids.into_iter().map(Response::Id).collect(),
            _ => return Err("expected either `responses` or `response_ids`".to_owned()),
        };
        match (responses.len(), self.ratings.len()) {
            (n, n_ratings) if n == n_ratings && n >= 2 => {
                Ok(responses.into_iter().zip(self.ratings.iter().copied()).collect())
            }
            (n, n_ratings) => Err(format!(
                "`ratings`: found {n_ratings} for {n} responses, expected one each for at least 2"
            )),
        }
    }
}
