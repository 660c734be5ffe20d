//! Preference pairs over interned texts, from files of any layout.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::data_error::DataError;
use super::fields::Fields;
use super::formats::{self, Found, for_each};
use super::interner::Interner;
use super::split::Split;
use super::statement::{Response, Said, Statement};
use super::texts::Texts;
use crate::types::{json, routed};

/// Preference pairs over interned texts.
#[derive(Debug)]
pub struct Dataset {
    /// Every text once.
    pub texts: Texts,
    /// The pairs, in the order of the files.
    pub pairs: Vec<Preference>,
    /// The names of the files, without directory and suffixes.
    pub files: Vec<String>,
    /// The names of the users, unique over all files: `file/user`.
    pub users: Interner<String>,
    /// The names of the groups, as they are in the rows.
    pub groups: Interner<String>,
    /// The contexts, as they are in the rows.
    pub contexts: Interner<String>,
    /// A line for each file: the layout that it was read as.
    pub notes: Vec<String>,
}

/// Numbers of texts by response id.
type Ids = HashMap<String, usize>;

/// One choice of one user: positions in a [`Dataset`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    /// The file that it comes from.
    pub file: usize,
    /// The user who chose.
    pub user: Option<usize>,
    /// The prompt, which the heads may read.
    pub prompt: usize,
    /// The text that the router reads: the prompt, and the context after it.
    pub routed: usize,
    /// The preferred response.
    pub chosen: usize,
    /// The other response.
    pub rejected: usize,
    /// The context of the choice; its text is in `routed` too.
    pub context: Option<usize>,
    /// The group, a label for the report only.
    pub group: Option<usize>,
    /// The split: train unless the row has another.
    pub split: Split,
}

#[derive(Deserialize)]
struct ResponseRow {
    id: String,
    text: String,
}

impl Dataset {
    /// Reads all files. Ids in rows of `x.votes.jsonl` are looked up in `x.responses.jsonl` if that is among
    /// `responses` (names are compared up to their first dot), else in all of them.
    ///
    /// # Errors
    /// The rows of the first file with some that can't be used, by file and line.
    pub fn read(data: &[PathBuf], responses: &[PathBuf], fields: &Fields) -> Result<Self, DataError> {
        Self::read_with_candidates(data, None, responses, fields)
    }

    /// Reads all files as [`Dataset::read`] does, and a file of candidates for questions: rows of {prompt, a, b}, or
    /// rows of any data, whose choices and split do not count.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn read_with_candidates(
        data: &[PathBuf],
        candidates: Option<&PathBuf>,
        responses: &[PathBuf],
        fields: &Fields,
    ) -> Result<Self, DataError> {
        if let Some(name) = fields.reserved() {
            return Err(DataError::Reserved(name.to_owned()));
        }
        let mut dataset = Self {
            texts: Texts::new()?,
            pairs: Vec::new(),
            files: Vec::new(),
            users: Interner::default(),
            groups: Interner::default(),
            contexts: Interner::default(),
            notes: Vec::new(),
        };
        let mut absent: Option<BTreeSet<String>> = None;
        let mut by_stem: BTreeMap<String, Ids> = BTreeMap::new();
        for path in responses {
            dataset.read_responses(path, by_stem.entry(stem(path)).or_default())?;
        }
        for path in data {
            if dataset.files.contains(&stem(path)) {
                return Err(DataError::SameName(path.clone()));
            }
            let own = by_stem.get(&stem(path));
            let lookup: Vec<&Ids> = own.map_or_else(|| by_stem.values().collect(), |own| vec![own]);
            let found = dataset.read_pairs(path, &lookup, fields)?;
            absent = Some(match absent {
                Some(absent) => &absent & &found.absent,
                None => found.absent,
            });
        }
        if let Some(column) = absent.unwrap_or_default().pop_first() {
            return Err(DataError::NoColumn(column));
        }
        if let Some(path) = candidates {
            let own = by_stem.get(&stem(path));
            let lookup: Vec<&Ids> = own.map_or_else(|| by_stem.values().collect(), |own| vec![own]);
            let first = dataset.pairs.len();
            dataset.read_pairs(path, &lookup, fields)?;
            for pair in &mut dataset.pairs[first..] {
                pair.split = Split::Candidate;
            }
        }
        Ok(dataset)
    }

    /// Returns the positions of a split's pairs.
    ///
    /// # Errors
    /// When there is none; `files` are named.
    pub fn split(&self, split: Split, files: &[PathBuf]) -> Result<Vec<usize>, DataError> {
        let pairs: Vec<usize> = (0..self.pairs.len()).filter(|&idx| self.pairs[idx].split == split).collect();
        if pairs.is_empty() { Err(DataError::Empty { split, files: files.to_vec() }) } else { Ok(pairs) }
    }

    fn read_responses(&mut self, path: &Path, by_id: &mut Ids) -> Result<(), DataError> {
        for_each(path, |_, columns| {
            let row: ResponseRow =
                json::read_from(Value::Object(columns)).map_err(|fault| fault.to_string())?;
            let text = self.texts.intern(&row.text).map_err(|error| error.to_string())?;
            match by_id.insert(row.id.clone(), text) {
                Some(other) if other != text => {
                    Err(format!("`id`: found \"{}\" again with another text", row.id))
                }
                _ => Ok(()),
            }
        })
    }

    fn read_pairs(&mut self, path: &Path, lookup: &[&Ids], fields: &Fields) -> Result<Found, DataError> {
        let file = self.files.len();
        self.files.push(stem(path));
        let found = formats::read(path, fields, |statement| self.take(file, statement, lookup))?;
        if let Some(layout) = found.layout {
            let left_out = match found.n_left_out {
                0 => String::new(),
                n => format!("; {n} left out, which compare nothing"),
            };
            self.notes.push(format!("{}: read as {layout}{left_out}", path.display()));
        }
        Ok(found)
    }

    /// Adds one statement.
    fn take(&mut self, file: usize, statement: Statement, lookup: &[&Ids]) -> Result<(), String> {
        let Statement { prompt, user, context, group, split, said, .. } = statement;
        let pair = match said {
            Said::Order(responses) => <[Response; 2]>::try_from(responses).ok(),
            Said::Tie(_) | Said::Rated(_) | Said::Thumb(..) => None,
        };
        let [chosen, rejected] = pair.ok_or("found feedback of another kind, expected pairs")?;
        let chosen = self.response(chosen, lookup, "chosen")?;
        let rejected = self.response(rejected, lookup, "rejected")?;
        let mut intern = |text: &str| self.texts.intern(text).map_err(|error| error.to_string());
        let routed = intern(&routed(&prompt, context.as_deref()))?;
        let prompt = intern(&prompt)?;
        let user = user.map(|user| self.users.index(format!("{}/{user}", self.files[file])));
        let context = context.map(|context| self.contexts.index(context));
        let group = group.map(|group| self.groups.index(group));
        let split = split.unwrap_or_default();
        self.pairs.push(Preference { file, user, prompt, routed, chosen, rejected, context, group, split });
        Ok(())
    }

    fn response(&mut self, response: Response, lookup: &[&Ids], field: &str) -> Result<usize, String> {
        let id = match response {
            Response::Text(text) => return self.texts.intern(&text).map_err(|error| error.to_string()),
            Response::Id(id) => id,
        };
        let found: BTreeSet<usize> = lookup.iter().filter_map(|ids| ids.get(&id).copied()).collect();
        match (found.first(), found.len()) {
            (Some(&text), 1) => Ok(text),
            (None, _) => Err(format!("`{field}_id`: found \"{id}\", which is no id of the responses")),
            _ => Err(format!(
                "`{field}_id`: found \"{id}\", which names other texts in other files of responses"
            )),
        }
    }
}

/// Returns a file's name up to its first dot.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}
