//! GET /export/preferences, for the admin port: the rows hold the feedback of all users.

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;
use serde::Deserialize;

use crate::service::Service;
use crate::types::{Error, Export, ExportRow, ExportShape, UserId, optional_time};

/// The selected events, and the shape of their rows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    #[serde(rename = "type", default)]
    shape: ExportShape,
    #[serde(rename = "format", default)]
    _format: Format,
    #[serde(default, deserialize_with = "optional_time")]
    since: Option<Timestamp>,
    #[serde(default, deserialize_with = "optional_time")]
    until: Option<Timestamp>,
    user: Option<UserId>,
}

/// The only format, which a query may name.
#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Jsonl,
}

/// Streams the events as JSON lines. A journal that turns out to be damaged aborts the body: a file is never silently
/// short.
///
/// # Errors
/// The errors of [`Service::export`].
pub async fn preferences(service: &Service, query: ExportQuery) -> Result<Response, Error> {
    let ExportQuery { shape, since, until, user, .. } = query;
    let export = Export { shape, since, until, user };
    let rows = service.export(export).await?.map_ok(|rows| lines(&rows)).inspect_err(Error::log);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(rows)).into_response())
}

fn lines(rows: &[ExportRow]) -> Bytes {
    let mut lines = Vec::new();
    for row in rows {
        // A struct of texts and numbers always serializes.
        lines.extend(serde_json::to_vec(row).unwrap_or_default());
        lines.push(b'\n');
    }
    lines.into()
}
