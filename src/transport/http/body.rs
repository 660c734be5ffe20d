//! Reads JSON bodies, with errors that name the field.

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use super::whole::Whole;
use crate::transport::shared::Problem;
use crate::types::json::{self, Fault, FaultKind};
use crate::types::{Error, ErrorKind};

/// Media types of JSON lines.
const LINES: [&str; 3] = ["application/x-ndjson", "application/ndjson", "application/jsonl"];

/// A JSON body of type `T`.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        Ok(Self(Whole::read(request).await?.parse(parse).await??))
    }
}

/// Reads a JSON body; none at all is the default of `T`.
///
/// # Errors
/// The errors of every body.
pub async fn optional_json<T: DeserializeOwned + Default + Send + 'static>(
    request: Request,
) -> Result<T, Problem> {
    let headers = request.headers().clone();
    let whole = Whole::read(request).await?;
    if whole.is_empty() {
        return Ok(T::default());
    }
    require_json(&headers)?;
    Ok(whole.parse(parse).await??)
}

/// Returns the media type of a body, in lower case and without parameters: JSON is UTF-8, whatever its sender calls it.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    Some(text.split(';').next().unwrap_or_default().trim().to_lowercase())
}

/// Returns the media type of a body of JSON lines, if it is one.
pub(super) fn lines_type(headers: &HeaderMap) -> Option<&'static str> {
    let found = media_type(headers)?;
    LINES.into_iter().find(|name| *name == found)
}

/// Refuses a body that is not called JSON. One without a type is refused too: pages of other sites can send it
/// in a visitor's name.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Error> {
    let found = match media_type(headers) {
        Some(found) if found == "application/json" => return Ok(()),
        Some(found) => format!("found the content type \"{found}\""),
        None => "found no content type".to_owned(),
    };
    Err(Error::new(ErrorKind::UnsupportedMedia, format!("{found}, expected application/json")))
}

/// Reads one JSON value.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    json::read(text).map_err(|Fault { kind, detail, path }| {
        let (kind, code) = match kind {
            FaultKind::Syntax => (ErrorKind::Invalid, "malformed_json"),
            FaultKind::Form => (ErrorKind::Invalid, "invalid_field"),
            FaultKind::Size => (ErrorKind::TooLarge, "too_many_entries"),
        };
        let error = Error::new(kind, detail).with_code(code);
        if path.is_empty() { error } else { error.with_field(path) }
    })
}
