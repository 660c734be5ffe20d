//! Reading query strings with errors that name the parameter, as bodies are read.

use axum::extract::{RawQuery, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use crate::transport::shared::Problem;
use crate::types::{Error, ErrorKind, UserId, json};

/// Around a route that takes no parameters: one that is given would be ignored, and its sender believe that it counts.
pub async fn no_query(RawQuery(query): RawQuery, request: Request, next: Next) -> Response {
    match Query::parse(query.as_deref(), &[]) {
        Ok(_) => next.run(request).await,
        Err(error) => Problem::from(error).into_response(),
    }
}

/// The parameters of a query string, each at most once.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `name=value&...`, percent-encoded, `+` for a space.
    ///
    /// # Errors
    /// For a parameter that is not among `known`, is given twice, or is not UTF-8.
    pub fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, Error> {
        let mut found: Vec<(String, String)> = Vec::new();
        for part in text.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = decode(name).unwrap_or_else(|| name.to_owned());
            if !known.contains(&name.as_str()) {
                let expected =
                    if known.is_empty() { "none".to_owned() } else { format!("one of {}", known.join(", ")) };
                let name = json::shorten(&name);
                return Err(refused(&name, format!("unknown parameter `{name}`, expected {expected}")));
            }
            if found.iter().any(|(earlier, _)| *earlier == name) {
                return Err(refused(&name, "found twice, expected once".to_owned()));
            }
            let value = decode(value).ok_or_else(|| refused(&name, "is not UTF-8".to_owned()))?;
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// Whether a parameter is given.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| found == name)
    }

    /// Takes a parameter's value.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let idx = self.0.iter().position(|(found, _)| found == name)?;
        Some(self.0.swap_remove(idx).1)
    }

    /// The parameter `user`.
    ///
    /// # Errors
    /// When it is missing or no user id.
    pub(super) fn user(&mut self) -> Result<UserId, Error> {
        let text = self.take("user").ok_or_else(|| refused("user", "missing".to_owned()))?;
        UserId::try_from(text).map_err(|error| refused("user", error.to_string()))
    }
}

fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

fn refused(name: &str, detail: String) -> Error {
    let error = Error::new(ErrorKind::Invalid, detail).with_code("invalid_field");
    if name.is_empty() { error } else { error.with_field(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_named_when_they_are_wrong() {
        let mut query = Query::parse(Some("context=a+b%26c&user=ann%2Bx"), &["user", "context"]).unwrap();
        assert_eq!(query.take("context").unwrap(), "a b&c");
        assert_eq!(query.user().unwrap().as_str(), "ann+x");
        assert_eq!(query.user().unwrap_err().field(), Some("user"));
        for (text, field) in [("usr=x", "usr"), ("user=a&user=b", "user"), ("user=%FF", "user")] {
            assert_eq!(Query::parse(Some(text), &["user"]).map(drop).unwrap_err().field(), Some(field));
        }
    }
}
