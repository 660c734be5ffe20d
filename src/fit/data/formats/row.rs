//! One row: its columns by their usual names, and errors that name a column as the file does.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value;

use super::super::fields::Fields;
use super::super::split::Split;
use super::super::statement::Statement;
use super::rows::Columns;
use crate::types::json::shorten;

/// One row of a file.
pub(super) struct Row<'a> {
    columns: Columns,
    fields: &'a Fields,
    /// The columns whose values were asked for.
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Row<'a> {
    /// Takes a row, and calls its columns by their usual names.
    pub(super) fn new(mut columns: Columns, fields: &'a Fields) -> Self {
        let value = |(name, column): (&String, &String)| Some((name.clone(), columns.get(column)?.clone()));
        let named: Vec<(String, Value)> = fields.columns.iter().filter_map(value).collect();
        for column in fields.columns.values() {
            columns.remove(column);
        }
        columns.extend(named);
        Self { columns, fields, read: RefCell::default() }
    }

    /// Returns the value of a column; null is none.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let value = self.columns.get(name).filter(|value| !value.is_null())?;
        if !self.read.borrow().contains(name) {
            self.read.borrow_mut().insert(name.to_owned());
        }
        Some(value)
    }

    /// Returns the columns that have a value and that nothing has asked for.
    pub(super) fn unread(&self) -> impl Iterator<Item = &String> {
        let values = self.columns.iter().filter(|(_, value)| !value.is_null());
        values.map(|(name, _)| name).filter(|name| !self.read.borrow().contains(*name))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.columns.get(name).is_some_and(|value| !value.is_null())
    }

    pub(super) fn has_all(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.has(name))
    }

    /// Returns the first of the columns that is there, with the file's name of it.
    pub(super) fn any<'b>(&'b self, names: &[&'b str]) -> Option<(&'b str, &'b Value)> {
        names.iter().find_map(|name| Some((self.fields.shown(name), self.get(name)?)))
    }

    pub(super) fn need<'b>(&'b self, names: &[&'b str]) -> Result<(&'b str, &'b Value), String> {
        self.any(names).ok_or_else(|| {
            let is_null = names.iter().any(|name| self.columns.contains_key(*name));
            let names: Vec<String> = names.iter().map(|name| self.shown(name)).collect();
            format!("missing {}{}", names.join(" or "), if is_null { ": found null" } else { "" })
        })
    }

    /// Returns the text of a column.
    pub(super) fn text<'b>(&'b self, name: &'b str) -> Result<&'b str, String> {
        let (column, value) = self.need(&[name])?;
        text(column, value)
    }

    /// Returns the finite number of a column.
    pub(super) fn number(&self, name: &str) -> Result<f64, String> {
        let (column, value) = self.need(&[name])?;
        numeric(value).ok_or_else(|| fault(column, value, "a number"))
    }

    /// Returns true or false: 1 and 0 stand for them in tables.
    pub(super) fn flag(&self, names: &[&str]) -> Result<bool, String> {
        let (column, value) = self.need(names)?;
        match (value, numeric(value)) {
            (Value::Bool(flag), _) => Ok(*flag),
            (_, Some(0.0)) => Ok(false),
            (_, Some(1.0)) => Ok(true),
            (Value::String(text), _) if text.eq_ignore_ascii_case("false") => Ok(false),
            (Value::String(text), _) if text.eq_ignore_ascii_case("true") => Ok(true),
            _ => Err(fault(column, value, "true or false")),
        }
    }

    /// Returns the file's name of a column, in quotes.
    pub(super) fn shown(&self, name: &str) -> String {
        format!("`{}`", self.fields.shown(name))
    }

    /// Returns a label, which may be a number; an empty one is none.
    pub(super) fn label(&self, name: &str) -> Result<Option<String>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(fault(name, other, "a text or a number")),
        }
    }

    /// Gives a statement the labels of the row. A label that belongs to the layout stays unless a flag names another.
    pub(super) fn fill(&self, statement: &mut Statement) -> Result<(), String> {
        let label = |own: &mut Option<String>, name: &str, usual: &str| {
            if own.is_none() || name != usual {
                *own = self.label(name)?.or_else(|| own.take());
            }
            Ok::<_, String>(())
        };
        label(&mut statement.user, &self.fields.user, "user")?;
        label(&mut statement.context, &self.fields.context, "context")?;
        label(&mut statement.group, &self.fields.group, "group")?;
        statement.split = match self.any(&["split"]) {
            None => None,
            Some((_, Value::String(split))) if split.is_empty() => None,
            Some((_, Value::String(split))) if split == "train" => Some(Split::Train),
            Some((_, Value::String(split))) if split == "test" => Some(Split::Test),
            Some((column, other)) => {
                let expected =
                    "\"train\" or \"test\"; give rows held out for anything else a file of their own";
                return Err(fault(column, other, expected));
            }
        };
        statement.event = self.label("event_id")?;
        if let Some((column, value)) = self.any(&["weight"]) {
            let weight = numeric(value).filter(|weight| *weight > 0.0);
            statement.weight *= weight.ok_or_else(|| fault(column, value, "a number above 0"))?;
        }
        Ok(())
    }

    /// Returns the columns of a row that is of no layout.
    pub(super) fn names(&self) -> String {
        let name = |(name, value): (&String, &Value)| match value {
            Value::Null => format!("`{}` (null)", shorten(name)),
            _ => format!("`{}`", shorten(name)),
        };
        self.columns.iter().take(20).map(name).collect::<Vec<_>>().join(", ")
    }
}

/// Returns a value as text.
pub(super) fn text<'a>(path: &str, value: &'a Value) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| fault(path, value, "a text"))
}

/// Returns a finite number, which a row that was made of CSV has as text.
pub(super) fn numeric(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|number| number.is_finite())
}

/// Returns the entries of a value.
pub(super) fn list<'a>(path: &str, value: &'a Value) -> Result<&'a Vec<Value>, String> {
    value.as_array().ok_or_else(|| fault(path, value, "a list"))
}

/// Says what was found in the place of something else.
pub(super) fn fault(path: &str, found: &Value, expected: &str) -> String {
    format!("`{path}`: found {}, expected {expected}", shorten(&found.to_string()))
}
