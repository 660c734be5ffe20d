//! GET /export/preferences, for the admin port: it holds what everybody said.

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;

use super::query::Query;
use crate::service::Service;
use crate::types::{Error, Export, ExportRow, ExportShape, TIME_FORMS, time_of};

/// The events as JSON lines. A journal that turns out to be damaged breaks the body off: a file is never silently short.
///
/// # Errors
/// Names the parameter that can't be taken; and as [`Service::export`].
pub async fn preferences(service: &Service, query: Option<&str>) -> Result<Response, Error> {
    let rows = service.export(parse(query)?).await?.map_ok(|rows| lines(&rows)).inspect_err(Error::log);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(rows)).into_response())
}

fn lines(rows: &[ExportRow]) -> Bytes {
    let mut lines = Vec::new();
    for row in rows {
        // A struct of texts and numbers always serialises.
        lines.extend(serde_json::to_vec(row).unwrap_or_default());
        lines.push(b'\n');
    }
    lines.into()
}

fn parse(query: Option<&str>) -> Result<Export, Error> {
    let mut query = Query::parse(query, &["type", "format", "since", "until", "user"])?;
    let unknown = |name: &'static str, found: &str, expected: &str| {
        Error::invalid_field(name, format!("found \"{found}\", expected {expected}"))
    };
    let shape = match query.take("type").as_deref() {
        None | Some("preference") => ExportShape::Preference,
        Some("unpaired") => ExportShape::Unpaired,
        Some(found) => return Err(unknown("type", found, "preference or unpaired")),
    };
    if let Some(found) = query.take("format").filter(|format| format != "jsonl") {
        return Err(unknown("format", &found, "jsonl"));
    }
    let mut time = |name: &'static str| -> Result<Option<Timestamp>, Error> {
        let expected = format!("{TIME_FORMS}, percent-encoded");
        let parse = |text: String| time_of(&text).ok_or_else(|| unknown(name, &text, &expected));
        query.take(name).map(parse).transpose()
    };
    let (since, until) = (time("since")?, time("until")?);
    let user = if query.has("user") { Some(query.user()?) } else { None };
    Ok(Export { shape, since, until, user })
}
