//! The error that leaves a service: a kind out of twelve, a stable code, and a sentence for the caller.
//!
//! Engines have enums of their own that carry data; the service maps them here, and the transports map the
//! kind to their status by one table. Building an error never logs: the edge does, once.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// The kind of an error, as far as a caller needs to tell cases apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is malformed or contradicts itself.
    Invalid,
    /// There is no such route, user or event.
    NotFound,
    /// The route exists for another method.
    MethodNotAllowed,
    /// The request does not fit the current state.
    Conflict,
    /// The body, a text or the batch is larger than this server takes.
    TooLarge,
    /// The body is of a media type that this route does not read.
    UnsupportedMedia,
    /// The user has sent as much feedback as is accepted for now.
    QuotaExceeded,
    /// There is more work than the server can take now.
    Overloaded,
    /// The work took longer than requests may take.
    DeadlineExceeded,
    /// The encoder or the heads failed.
    ModelUnavailable,
    /// The ledgers can't be read or written.
    StoreUnavailable,
    /// A defect of this server.
    Internal,
}

impl ErrorKind {
    /// All kinds, for tables and tests.
    pub const ALL: [Self; 12] = [
        Self::Invalid,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::TooLarge,
        Self::UnsupportedMedia,
        Self::QuotaExceeded,
        Self::Overloaded,
        Self::DeadlineExceeded,
        Self::ModelUnavailable,
        Self::StoreUnavailable,
        Self::Internal,
    ];

    /// Returns the HTTP status, gRPC code, metric label, and whether the same request may succeed later.
    const fn row(self) -> (u16, i32, &'static str, bool) {
        match self {
            Self::Invalid => (400, 3, "invalid", false),
            Self::NotFound => (404, 5, "not_found", false),
            Self::MethodNotAllowed => (405, 12, "method_not_allowed", false),
            Self::Conflict => (409, 9, "conflict", false),
            Self::TooLarge => (413, 8, "too_large", false),
            Self::UnsupportedMedia => (415, 12, "unsupported_media", false),
            Self::QuotaExceeded => (429, 8, "quota_exceeded", true),
            Self::Overloaded => (503, 14, "overloaded", true),
            Self::DeadlineExceeded => (504, 4, "deadline_exceeded", true),
            Self::ModelUnavailable => (503, 14, "model_unavailable", true),
            Self::StoreUnavailable => (503, 14, "store_unavailable", true),
            Self::Internal => (500, 13, "internal", false),
        }
    }

    /// Returns the HTTP status code.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        self.row().0
    }

    /// Returns the gRPC status code, as google.rpc.Code numbers them.
    #[must_use]
    pub const fn grpc_code(self) -> i32 {
        self.row().1
    }

    /// Returns the name in metrics, and the `code` of errors that have no narrower one.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.row().2
    }

    /// True if the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        self.row().3
    }
}

/// An error as a caller sees it. The source is for the log alone.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    code: &'static str,
    detail: String,
    field: Option<String>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error of `kind` whose code is the kind's label.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            code: kind.label(),
            detail: detail.into(),
            field: None,
            retry_after: kind.is_retryable().then_some(Duration::from_secs(1)),
            source: None,
        }
    }

    /// Creates the error of an invalid field of the request: `field` is its path, `detail` states found and
    /// expected.
    pub fn invalid_field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, detail).with_code("invalid_field").with_field(field)
    }

    /// Narrows the code.
    #[must_use]
    pub fn with_code(self, code: &'static str) -> Self {
        Self { code, ..self }
    }

    /// Names the field of the request that is at fault.
    #[must_use]
    pub fn with_field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// Sets the time after which the same request may succeed, where it is known better than for the kind.
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Returns the same error for each of `n` callers. The source stays with the first, which is logged.
    pub fn for_each_of(self, n: usize) -> impl Iterator<Item = Self> {
        let others: Vec<Self> = (1..n).map(|_| self.again()).collect();
        std::iter::once(self).chain(others).take(n)
    }

    /// Returns the same error for another caller, without the source.
    #[must_use]
    pub fn again(&self) -> Self {
        let Self { kind, code, detail, field, retry_after, .. } = self;
        Self {
            kind: *kind,
            code,
            detail: detail.clone(),
            field: field.clone(),
            retry_after: *retry_after,
            source: None,
        }
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the stable code that clients may match on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Returns the sentence for the caller.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the path of the field that is at fault, like `items[0].responses[2].text`.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// True if the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retry_after.is_some()
    }

    /// Returns the time to wait before a retry.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Logs the error with its source, at the level of its urgency. The edge calls it, once per error.
    pub fn log(&self) {
        let source = self.source.as_ref().map(ToString::to_string).unwrap_or_default();
        let code = self.code;
        match self.kind {
            ErrorKind::Internal | ErrorKind::ModelUnavailable | ErrorKind::StoreUnavailable => {
                tracing::error!(code, source, "{self}");
            }
            ErrorKind::DeadlineExceeded => tracing::warn!(code, source, "{self}"),
            // Shed requests come by the thousand when there is least time to write them down; a metric counts them.
            _ => tracing::debug!(code, source, "{self}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.detail),
            None => f.write_str(&self.detail),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_has_its_own_label_and_an_error_status() {
        let labels: HashSet<_> = ErrorKind::ALL.iter().map(|kind| kind.label()).collect();
        assert_eq!(labels.len(), ErrorKind::ALL.len());
        assert!(ErrorKind::ALL.iter().all(|kind| (400..600).contains(&kind.http_status())));
        assert!(ErrorKind::ALL.iter().all(|kind| (1..=16).contains(&kind.grpc_code())));
    }

    #[test]
    fn what_is_unavailable_says_so_in_both_protocols() {
        for kind in ErrorKind::ALL {
            assert_eq!(kind.http_status() == 503, kind.grpc_code() == 14, "{kind:?}");
            assert!(kind.http_status() != 503 || kind.is_retryable(), "{kind:?}");
        }
    }

    #[test]
    fn what_may_succeed_later_says_when_to_retry() {
        for kind in ErrorKind::ALL {
            assert_eq!(Error::new(kind, "x").retry_after().is_some(), kind.is_retryable(), "{kind:?}");
        }
    }
}
