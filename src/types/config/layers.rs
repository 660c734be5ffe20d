//! Merged layers of the configuration, with the layer that set each key.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use toml::{Table, Value};

use super::DEFAULT_TOML;

const ENV_PREFIX: &str = "MICRO_REWARD__";

/// The merged values with their origins, and the problems found so far.
#[derive(Debug)]
pub struct Layers {
    merged: Table,
    origins: BTreeMap<String, String>,
    problems: Vec<ConfigProblem>,
}

/// One problem: its origin, its key, and the values found and expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The file, variable or flag.
    pub origin: String,
    /// `section.key`; empty for a problem of the origin as a whole.
    pub key: String,
    /// The values found and expected.
    pub detail: String,
}

/// All problems, at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct ConfigProblems(pub Vec<ConfigProblem>);

fn lines(problems: &[ConfigProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.origin, self.detail),
            key => write!(f, "{}: `{key}`: {}", self.origin, self.detail),
        }
    }
}

impl Layers {
    /// Returns the embedded defaults.
    #[must_use]
    pub fn defaults() -> Self {
        let mut layers = Self { merged: Table::new(), origins: BTreeMap::new(), problems: Vec::new() };
        match DEFAULT_TOML.parse() {
            Ok(table) => layers.merged = table,
            Err(error) => layers.problem("default.toml", "", format!("{error}")),
        }
        layers
    }

    /// Overlays a TOML file.
    #[must_use]
    pub fn file(mut self, path: &Path) -> Self {
        let origin = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.problem(&origin, "", format!("can't be read: {error}"));
                return self;
            }
        };
        match text.parse::<Table>() {
            Ok(table) => self.overlay(&origin, table),
            Err(error) => self.problem(&origin, "", format!("is not TOML: {}", error.to_string().trim_end())),
        }
        self
    }

    /// Overlays the variables that start with `MICRO_REWARD__`.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        for (name, text) in variables {
            let Some(path) = name.strip_prefix(ENV_PREFIX) else { continue };
            let key = path.to_lowercase().replace("__", ".");
            self.set_text(&name, &key, &text);
        }
        self
    }

    /// Overlays one value that came as text: a flag or a variable.
    #[must_use]
    pub fn flag(mut self, flag: &str, key: &str, text: Option<String>) -> Self {
        if let Some(text) = text {
            self.set_text(flag, key, &text);
        }
        self
    }

    /// True if `log.format` is "json" as far as the layers can be read, whatever their other problems.
    #[must_use]
    pub fn want_json_log(&self) -> bool {
        let format = self.merged.get("log").and_then(|section| section.get("format"));
        format.and_then(Value::as_str) == Some("json")
    }

    /// Records a problem with a key, at the layer that set it.
    pub(super) fn refuse(&mut self, key: &str, detail: String) {
        let origin = self.origins.get(key).map_or("default.toml", String::as_str).to_owned();
        self.problem(&origin, key, detail);
    }

    /// Takes a value, once; none for a key that has no default.
    pub(super) fn take(&mut self, section: &str, key: &str) -> Option<Value> {
        self.merged.get_mut(section)?.as_table_mut()?.remove(key)
    }

    /// Returns all problems, including a problem for every key that no section took.
    pub(super) fn into_problems(mut self) -> Vec<ConfigProblem> {
        for (section, entries) in std::mem::take(&mut self.merged) {
            for key in entries.as_table().into_iter().flat_map(Table::keys) {
                self.refuse(&format!("{section}.{key}"), "is read by nothing".to_owned());
            }
        }
        self.problems
    }

    fn overlay(&mut self, origin: &str, table: Table) {
        for (section, value) in table {
            let Some(Value::Table(_)) = self.merged.get(&section) else {
                let detail = unknown("section", &section, self.merged.keys());
                self.problem(origin, &section, detail);
                continue;
            };
            let Value::Table(entries) = value else {
                let detail = format!("found {}, expected a section", value.type_str());
                self.problem(origin, &section, detail);
                continue;
            };
            for (key, value) in entries {
                self.set(origin, &section, &key, value);
            }
        }
    }

    /// Sets a key to `text`, read as the type that the default has.
    fn set_text(&mut self, origin: &str, path: &str, text: &str) {
        let (section, key) = path.split_once('.').unwrap_or((path, ""));
        let value = match self.merged.get(section).and_then(|entries| entries.get(key)) {
            Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
            Some(Value::Float(_)) => text.parse().ok().map(Value::Float),
            Some(Value::Boolean(_)) => text.parse().ok().map(Value::Boolean),
            Some(Value::Array(_)) => Some(Value::Array(
                text.split(',').map(|item| Value::String(item.trim().to_owned())).collect(),
            )),
            _ => None,
        };
        self.set(origin, section, key, value.unwrap_or_else(|| Value::String(text.to_owned())));
    }

    fn set(&mut self, origin: &str, section: &str, key: &str, value: Value) {
        let path = format!("{section}.{key}");
        let Some(Value::Table(entries)) = self.merged.get_mut(section) else {
            let detail = unknown("section", section, self.merged.keys());
            return self.problem(origin, &path, detail);
        };
        let Some(default) = entries.get_mut(key) else {
            let detail = unknown("key", key, entries.keys());
            return self.problem(origin, &path, detail);
        };
        let value = match (&*default, value) {
            (Value::Float(_), Value::Integer(whole)) => Value::Float(whole as f64),
            (_, value) => value,
        };
        if value.same_type(default) {
            *default = value;
            self.origins.insert(path, origin.to_owned());
        } else {
            let (found, expected) = (value.type_str(), default.type_str());
            let detail = match section {
                // The value may be a password.
                "valkey" => format!("found {found}, expected {expected}"),
                _ => format!("found {value} ({found}), expected {expected}"),
            };
            self.problem(origin, &path, detail);
        }
    }

    fn problem(&mut self, origin: &str, key: &str, detail: String) {
        self.problems.push(ConfigProblem { origin: origin.to_owned(), key: key.to_owned(), detail });
    }
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    format!("unknown {what} `{name}`, expected one of {}", known.join(", "))
}
