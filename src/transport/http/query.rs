//! Reads query strings into typed structs, with errors that name the parameter, as bodies have.

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::transport::shared::Problem;
use crate::types::{Error, ErrorKind, json};

/// The parameters of a query string, each at most once.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(parse(parts.uri.query().unwrap_or_default())?))
    }
}

/// Guards a route without parameters: a given one would be ignored, and its sender would believe that it counts.
///
/// # Errors
/// `Invalid` for any parameter.
pub async fn no_query(request: Request, next: Next) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NoParameters {}
    request.uri().query().map_or(Ok(NoParameters {}), parse)?;
    Ok(next.run(request).await)
}

/// Reads `name=value&...`, percent-encoded, `+` for a space.
///
/// # Errors
/// `Invalid` for a parameter that `T` does not have, that is given twice, or that is not UTF-8.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let is_torn = |part: &&str| percent_decode_str(part).decode_utf8().is_err();
    if let Some(part) = text.split('&').find(is_torn) {
        let name = part.split_once('=').map_or(part, |(name, _)| name);
        return Err(refused(&json::shorten(name), "is not UTF-8".to_owned()));
    }
    let parameters = serde_html_form::Deserializer::from_bytes(text.as_bytes());
    json::read_from(parameters).map_err(|fault| refused(&fault.path, in_words_of_queries(fault.detail)))
}

/// Rewords the beginning of a detail alone: the rest may quote the caller.
fn in_words_of_queries(detail: String) -> String {
    const WORDS: [(&str, &str); 3] = [
        ("unknown field `", "unknown parameter `"),
        ("missing field `", "missing parameter `"),
        ("found an array,", "found several values,"),
    ];
    let reworded = WORDS.iter().find_map(|(json, query)| Some([query, detail.strip_prefix(json)?].concat()));
    reworded.unwrap_or(detail)
}

fn refused(name: &str, detail: String) -> Error {
    let error = Error::new(ErrorKind::Invalid, detail).with_code("invalid_field");
    if name.is_empty() { error } else { error.with_field(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::UserId;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Whose {
        user: UserId,
        context: Option<String>,
    }

    #[test]
    fn parameters_are_decoded_and_named_when_they_are_wrong() {
        let Whose { user, context } = parse("context=a+b%26c&user=ann%2Bx&").unwrap();
        assert_eq!((user.as_str(), context.as_deref()), ("ann+x", Some("a b&c")));
        for (text, field, detail) in [
            ("usr=x", "usr", "unknown parameter `usr`, expected one of `user`, `context`"),
            ("field=x", "field", "unknown parameter `field`, expected one of"),
            ("user=a&user=b", "user", "found several values, expected a text"),
            ("user=%FF", "user", "is not UTF-8"),
            ("context=x", "user", "missing parameter `user`"),
            ("user=", "user", "found 0 bytes, expected 1 to 256"),
            ("user=a&context=a&context=b", "context", "found several values, expected a text"),
        ] {
            let error = parse::<Whose>(text).unwrap_err();
            assert_eq!(error.field(), Some(field), "{text}: {error:?}");
            assert!(error.detail().contains(detail), "{text}: {error:?}");
        }
    }
}
