//! Errors of texts that can't be read, with their paths in the request, and of a model that fails.

use std::sync::Arc;

use crate::types::{EncodeError, Error, ErrorKind};

/// The treatment of the other texts when one can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The others need not be read: the request is one caller's, and is refused.
    RefuseAll,
    /// The others are read: each item is answered on its own.
    RefuseItem,
}

/// The reason that a text has no embedding.
#[derive(Debug, Clone)]
pub enum TextError {
    /// The tokenizer fails on the text, or makes no token of it.
    Untokenizable(Arc<str>),
    /// The encoder fails on the text, or is gone.
    Unencoded(EncodeError),
    /// The text was left, as another one failed under [`FailurePolicy::RefuseAll`].
    Left,
}

/// The position of a text in an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Prompt,
    Response(usize),
}

/// The scheme by which a request names its texts.
#[derive(Debug, Clone, Copy, Default)]
pub enum Paths {
    /// `items[i].responses[j]`
    #[default]
    Items,
    /// `candidates[i].a`
    Candidates,
    /// `a`
    Pair,
    /// `questions[i].a`, of the bundle
    Questions,
}

impl TextError {
    /// True if another text is the cause.
    pub fn is_left(&self) -> bool {
        matches!(self, Self::Left)
    }

    /// Returns the error for the caller; `path` is where the text is.
    pub fn error(&self, path: impl FnOnce() -> String) -> Error {
        match self {
            Self::Untokenizable(detail) => {
                Error::new(ErrorKind::Invalid, &**detail).with_code("untokenizable_text").with_field(path())
            }
            // The failure does not depend on the text, so that the error names no field.
            Self::Unencoded(EncodeError::Gone) | Self::Left => {
                model_failed("the encoder failed", EncodeError::Gone)
            }
            Self::Unencoded(error) => model_failed("the encoder failed", error.clone()).with_field(path()),
        }
    }
}

impl Paths {
    /// Returns the path of one text of one item.
    pub fn of(self, item: usize, part: Part) -> String {
        let side = match part {
            Part::Prompt => "prompt",
            Part::Response(0) => "a",
            Part::Response(_) => "b",
        };
        match (self, part) {
            (Self::Items, Part::Response(idx)) => format!("items[{item}].responses[{idx}]"),
            (Self::Items, Part::Prompt) => format!("items[{item}].prompt"),
            (Self::Candidates, _) => format!("candidates[{item}].{side}"),
            (Self::Questions, _) => format!("questions[{item}].{side}"),
            (Self::Pair, _) => side.to_owned(),
        }
    }
}

pub fn model_failed(detail: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::ModelUnavailable, detail).with_source(error)
}
