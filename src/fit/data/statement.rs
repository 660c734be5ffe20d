//! One row of a data file as what it says, whatever the file's layout.

use super::split::Split;

/// One judgment of one user: one label, however many responses it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The prompt, rendered as text.
    pub prompt: String,
    /// The name of the user in the file.
    pub user: Option<String>,
    /// The context, which the router reads after the prompt.
    pub context: Option<String>,
    /// The group, a label for reports.
    pub group: Option<String>,
    /// The split; none where the file does not say.
    pub split: Option<Split>,
    /// Its weight, > 0: 1 for a whole statement, less for a part of one.
    pub weight: f64,
    /// The id of the event that it is a part of: the rows of one ranking in an export are one label.
    pub event: Option<String>,
    /// The judgment.
    pub said: Said,
}

impl Statement {
    /// A whole statement without labels.
    pub(super) const fn new(prompt: String, said: Said) -> Self {
        Self { prompt, user: None, context: None, group: None, split: None, weight: 1.0, event: None, said }
    }
}

/// A judgment on responses, as POST /feedback takes them; a correction is an order of two.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// Two or more responses, best first.
    Order(Vec<Response>),
    /// Two responses that are equally good.
    Tie([Response; 2]),
    /// Two or more responses with numbers, of which only the order counts: higher is better, equal ones are ties.
    Rated(Vec<(Response, f64)>),
    /// One response, and true if it is good.
    Thumb(Response, bool),
}

/// A response of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// Its text.
    Text(String),
    /// Its id in the files of responses.
    Id(String),
}
