//! Reads one event among others: one that can't be read is rejected alone, under its id if it has one.

use super::super::body::parse;
use crate::service::{ParsedEvent, rejected};

/// Reads an event.
pub(super) fn read(text: &str) -> ParsedEvent {
    parse(text.as_bytes()).map_err(|error| Box::new(rejected(event_id(text), &error)))
}

/// Reads the id of an event that can't be read otherwise, so that its sender knows which one it was.
fn event_id(text: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        event_id: String,
    }
    parse(text.as_bytes()).ok().map(|named: Named| named.event_id)
}
