//! Names of the columns of a file, where they are not the usual ones.

use std::collections::BTreeMap;

/// Names of the columns that hold a row's labels, and of others that have a name of their own in the file.
#[derive(Debug, Clone)]
pub struct Fields {
    /// Column of the context, which the router reads after the prompt.
    pub context: String,
    /// Column of the group, a label for reports.
    pub group: String,
    /// Column of the user.
    pub user: String,
    /// The file's name of each column that it names in its own way, by the usual name.
    pub columns: BTreeMap<String, String>,
}

impl Default for Fields {
    fn default() -> Self {
        let name = str::to_owned;
        Self { context: name("context"), group: name("group"), user: name("user"), columns: BTreeMap::new() }
    }
}

/// Names that a column of a file can be given.
pub const COLUMNS: [&str; 24] = [
    "prompt",
    "messages",
    "chosen",
    "rejected",
    "chosen_id",
    "rejected_id",
    "completion",
    "label",
    "response",
    "response_id",
    "rating",
    "up",
    "responses",
    "response_ids",
    "ratings",
    "original",
    "original_id",
    "edited",
    "kind",
    "user",
    "context",
    "group",
    "split",
    "weight",
];

/// Names of columns that no label can have.
const RESERVED: [&str; 6] = ["prompt", "chosen", "rejected", "chosen_id", "rejected_id", "split"];

impl Fields {
    /// Returns the column of a label that has the name of something else in every row, if there is one.
    #[must_use]
    pub fn reserved(&self) -> Option<&str> {
        let labels = [&self.context, &self.group, &self.user].map(String::as_str);
        labels.into_iter().find(|name| RESERVED.contains(name) || (*name == "user" && *name != self.user))
    }

    /// Returns the file's name of a column.
    pub(super) fn shown<'a>(&'a self, name: &'a str) -> &'a str {
        self.columns.get(name).map_or(name, String::as_str)
    }
}
