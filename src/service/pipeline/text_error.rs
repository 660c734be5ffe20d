//! Texts that can't be read: why, and where in the request they are; and what is told of a model that fails.

use std::sync::Arc;

use crate::types::{EncodeError, Error, ErrorKind};

/// What becomes of the others when a text can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// They need not be read any more: the request is one caller's, and is refused.
    RefuseAll,
    /// They are read: each item stands for itself.
    RefuseItem,
}

/// Why a text has no embedding.
#[derive(Debug, Clone)]
pub enum TextError {
    /// The tokenizer fails on it, or makes no token of it.
    Untokenizable(Arc<str>),
    /// The encoder fails on it, or is gone.
    Unencoded(EncodeError),
    /// It was left, as another one [`FailurePolicy::RefuseAll`].
    Left,
}

/// Which text of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Prompt,
    Response(usize),
}

/// How a request names its texts.
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
    /// Whether another text is to blame.
    pub fn is_left(&self) -> bool {
        matches!(self, Self::Left)
    }

    /// As the caller is told; `path` is where the text is.
    pub fn error(&self, path: impl FnOnce() -> String) -> Error {
        match self {
            Self::Untokenizable(detail) => {
                Error::new(ErrorKind::Invalid, &**detail).with_code("untokenizable_text").with_field(path())
            }
            // It fails whatever the text is.
            Self::Unencoded(EncodeError::Gone) | Self::Left => {
                model_failed("the encoder failed", EncodeError::Gone)
            }
            Self::Unencoded(error) => model_failed("the encoder failed", error.clone()).with_field(path()),
        }
    }
}

impl Paths {
    /// The path of one text of one item.
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
