//! Reading JSON bodies with errors that name the field.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::types::{Error, ErrorKind};

/// A JSON body of type `T`.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        Ok(Self(parse(&bytes(request, state).await?, "")?))
    }
}

/// A JSON body, or none at all, which is the default of `T`.
///
/// # Errors
/// As every body's.
pub async fn optional_json<T: DeserializeOwned + Default>(request: Request) -> Result<T, Problem> {
    let headers = request.headers().clone();
    let body = bytes(request, &()).await?;
    if body.is_empty() {
        return Ok(T::default());
    }
    require_json(&headers)?;
    Ok(parse(&body, "")?)
}

/// The whole body, within the limit that the process has set.
pub(super) async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Error> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Error::new(ErrorKind::TooLarge, "found a body larger than `server.max_body_bytes`")
        }
        _ => Error::new(ErrorKind::Invalid, "the body ended early").with_source(rejection),
    })
}

/// The media type of a body, in lower case and without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_lowercase()
}

/// Refuses compressed bodies: they would be read as garbage.
pub(super) fn require_identity(headers: &HeaderMap) -> Result<(), Error> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => Ok(()),
        Some(found) => {
            let found = String::from_utf8_lossy(found);
            let detail = format!("found the content encoding \"{found}\", expected none");
            Err(Error::new(ErrorKind::UnsupportedMedia, detail))
        }
    }
}

pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Error> {
    require_identity(headers)?;
    match media_type(headers).as_str() {
        "application/json" => Ok(()),
        found => Err(Error::new(
            ErrorKind::UnsupportedMedia,
            format!("found the content type \"{found}\", expected application/json"),
        )),
    }
}

/// Reads one JSON object; `at` is its path in what the caller sent.
pub(super) fn parse<T: DeserializeOwned>(json: &[u8], at: &str) -> Result<T, Error> {
    // serde would take an array as the object's fields in their order of declaration.
    if json.trim_ascii_start().starts_with(b"[") {
        return Err(refusal("found an array, expected an object".to_owned(), "invalid_field", at.to_owned()));
    }
    if let Ok(parsed) = serde_json::from_slice(json) {
        return Ok(parsed);
    }
    // Once more and slower, to say where it is wrong.
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { at.to_owned() } else { join(at, &path) };
        refused(error.inner(), path)
    })?;
    deserializer.end().map_err(|error| refused(&error, at.to_owned()))?;
    Ok(parsed)
}

fn join(at: &str, path: &str) -> String {
    if at.is_empty() || path.starts_with('[') { format!("{at}{path}") } else { format!("{at}.{path}") }
}

fn refused(error: &serde_json::Error, path: String) -> Error {
    use serde_json::error::Category;
    let code = match error.classify() {
        Category::Data => "invalid_field",
        Category::Syntax | Category::Eof | Category::Io => "malformed_json",
    };
    refusal(error.to_string(), code, path)
}

fn refusal(detail: String, code: &'static str, path: String) -> Error {
    let refused = Error::new(ErrorKind::Invalid, detail).with_code(code);
    if path.is_empty() { refused } else { refused.with_field(path) }
}
