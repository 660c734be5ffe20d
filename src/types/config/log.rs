//! `[log]`: what the log looks like.

use super::section::Section;

/// What the log looks like.
#[derive(Debug, Clone)]
pub struct Log {
    pub json: bool,
    pub filter: String,
}

impl Log {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let json = section.choice("format", &[("text", false), ("json", true)]);
        let filter: String = section.value("filter");
        if let Err(error) = filter.parse::<tracing_subscriber::EnvFilter>() {
            let expected = "a level such as \"info\"";
            section.refuse("filter", format!("found \"{filter}\", expected {expected}: {error}"));
        }
        Self { json, filter }
    }
}
