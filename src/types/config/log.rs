//! `[log]`: the format and the filter of the log.

use super::section::Section;

/// Format and filter of the log.
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
