//! Preference pairs over interned texts, from files of any layout.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::data_error::DataError;
use super::fields::Fields;
use super::formats::{self, Found, for_each};
use super::interner::Interner;
use super::parts::{Judgment, Part, parts};
use super::rated::{Rated, RatedRow};
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
    /// Ratings of many responses by one person.
    pub rated: Vec<Rated>,
    /// A line for each file: the layout that it was read as.
    pub notes: Vec<String>,
    /// True if a row names its split.
    has_splits: bool,
    /// The event of the last row.
    last_event: Option<String>,
}

/// The files of a data set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sources<'a> {
    /// Feedback.
    pub data: &'a [PathBuf],
    /// {id, text} rows of responses.
    pub responses: &'a [PathBuf],
    /// Candidates for questions: rows of {prompt, a, b}, or rows of any data, whose choices and split do not count.
    pub candidates: Option<&'a PathBuf>,
    /// Ratings of many responses each, of people of the file of the same name up to its first dot.
    pub ratings: Option<&'a PathBuf>,
}

/// Numbers of texts by response id.
type Ids = HashMap<String, usize>;

/// One choice of one user, or a part of one that is about more than two responses: positions in a [`Dataset`].
#[derive(Debug, Clone, PartialEq)]
pub struct Preference {
    /// The file that it comes from.
    pub file: usize,
    /// The user who chose.
    pub user: Option<usize>,
    /// The prompt, which the heads may read.
    pub prompt: usize,
    /// The text that the router reads: the prompt, and the context after it.
    pub routed: usize,
    /// The label that it is a part of, numbered over all files: a ranking of many is one.
    pub label: usize,
    /// The preferred response; none for the average one, to which a thumb compares.
    pub chosen: Option<usize>,
    /// The other response; none for the average one.
    pub rejected: Option<usize>,
    /// True if the two are equally good.
    pub is_tie: bool,
    /// Its weight, > 0: the parts of one statement have that of the statement together.
    pub weight: f64,
    /// The context of the choice; its text is in `routed` too.
    pub context: Option<usize>,
    /// The group, a label for the report only.
    pub group: Option<usize>,
    /// The split: train unless the row has another.
    pub split: Split,
}

impl Preference {
    /// Returns the texts of both responses; none where one is the average response.
    #[must_use]
    pub fn responses(&self) -> Option<[usize; 2]> {
        Some([self.chosen?, self.rejected?])
    }
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
        Self::read_all(Sources { data, responses, ..Sources::default() }, fields)
    }

    /// Reads all files as [`Dataset::read`] does, and those beside the data.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn read_all(sources: Sources<'_>, fields: &Fields) -> Result<Self, DataError> {
        let Sources { data, responses, candidates, ratings } = sources;
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
            rated: Vec::new(),
            notes: Vec::new(),
            has_splits: false,
            last_event: None,
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
            let found = dataset.read_pairs(path, &lookup(&by_stem, path), fields)?;
            absent = Some(match absent {
                Some(absent) => &absent & &found.absent,
                None => found.absent,
            });
        }
        if let Some(column) = absent.unwrap_or_default().pop_first() {
            return Err(DataError::NoColumn(column));
        }
        if let Some(path) = candidates {
            let (first, has_splits) = (dataset.pairs.len(), dataset.has_splits);
            dataset.read_pairs(path, &lookup(&by_stem, path), fields)?;
            dataset.has_splits = has_splits;
            for pair in &mut dataset.pairs[first..] {
                pair.split = Split::Candidate;
            }
        }
        if let Some(path) = ratings {
            dataset.read_ratings(path, &lookup(&by_stem, path))?;
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

    /// Makes all rows the test split, unless they name their splits.
    pub fn test_all(&mut self) {
        for pair in self.pairs.iter_mut().filter(|pair| pair.split == Split::Train && !self.has_splits) {
            pair.split = Split::Test;
        }
    }

    /// Makes a share of the people the test split, drawn by their names; rows without a user by their prompts. False,
    /// and nothing is changed, if the rows name their splits.
    pub fn hold_out(&mut self, share: f64) -> bool {
        if self.has_splits {
            return false;
        }
        let is_drawn = |name: &str| {
            let digest = blake3::hash(name.as_bytes());
            let [a, b, c, d, ..] = *digest.as_bytes();
            f64::from(u32::from_le_bytes([a, b, c, d])) < share * f64::from(u32::MAX)
        };
        let drawn: Vec<bool> = self.users.items().iter().map(|user| is_drawn(user)).collect();
        for pair in self.pairs.iter_mut().filter(|pair| pair.split == Split::Train) {
            let of_nobody = || is_drawn(&format!("prompt {}", pair.prompt));
            if pair.user.map_or_else(of_nobody, |user| drawn[user]) {
                pair.split = Split::Test;
            }
        }
        true
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

    /// Reads ratings of people whose choices are in the file of the same name.
    fn read_ratings(&mut self, path: &Path, lookup: &[&Ids]) -> Result<(), DataError> {
        let name = stem(path);
        for_each(path, |_, columns| {
            let mut row = RatedRow::read(columns)?;
            let rated = row.rated()?.into_iter();
            let text = |(response, x)| Ok((self.response(response, lookup, "response")?, x));
            let responses = rated.map(text).collect::<Result<_, String>>()?;
            let user = self.users.index(format!("{name}/{}", row.user));
            let prompt = self.texts.intern(&row.prompt).map_err(|error| error.to_string())?;
            self.rated.push(Rated { user, prompt, responses, split: row.split.unwrap_or_default() });
            Ok(())
        })
    }

    fn read_pairs(&mut self, path: &Path, lookup: &[&Ids], fields: &Fields) -> Result<Found, DataError> {
        let file = self.files.len();
        self.files.push(stem(path));
        self.last_event = None;
        let found = formats::read(path, fields, |statement| self.take(file, statement, lookup))?;
        let name = path.file_name().unwrap_or_default().display();
        self.notes.extend(found.note().map(|note| format!("{name}: {note}")));
        Ok(found)
    }

    /// Adds the choices of one statement.
    fn take(&mut self, file: usize, statement: Statement, lookup: &[&Ids]) -> Result<(), String> {
        let Statement { prompt, user, context, group, split, said, weight, event } = statement;
        let parts = parts(self.judgment(said, lookup)?);
        let mut intern = |text: &str| self.texts.intern(text).map_err(|error| error.to_string());
        let routed = intern(&routed(&prompt, context.as_deref()))?;
        let prompt = intern(&prompt)?;
        let user = user.map(|user| self.users.index(format!("{}/{user}", self.files[file])));
        let context = context.map(|context| self.contexts.index(context));
        let group = group.map(|group| self.groups.index(group));
        self.has_splits |= split.is_some();
        let split = split.unwrap_or_default();
        let is_same_event = event.is_some() && event == self.last_event;
        self.last_event = event;
        let label = self.pairs.last().map_or(0, |last| last.label + usize::from(!is_same_event));
        self.pairs.extend(parts.into_iter().map(|Part { chosen, rejected, is_tie, share }| Preference {
            file,
            user,
            prompt,
            routed,
            label,
            chosen,
            rejected,
            is_tie,
            weight: weight * share,
            context,
            group,
            split,
        }));
        Ok(())
    }

    fn judgment(&mut self, said: Said, lookup: &[&Ids]) -> Result<Judgment, String> {
        let mut text = |response: Response, field: &str| self.response(response, lookup, field);
        Ok(match said {
            Said::Order(responses) => {
                let names = ["chosen", "rejected"].into_iter().chain(std::iter::repeat("response"));
                let named = responses.into_iter().zip(names);
                Judgment::Order(named.map(|(response, name)| text(response, name)).collect::<Result<_, _>>()?)
            }
            Said::Tie([a, b]) => Judgment::Tie([text(a, "response")?, text(b, "response")?]),
            Said::Rated(rated) => {
                let rated = rated.into_iter().map(|(response, x)| Ok((text(response, "response")?, x)));
                Judgment::Rated(rated.collect::<Result<_, String>>()?)
            }
            Said::Thumb(response, is_good) => Judgment::Thumb(text(response, "response")?, is_good),
        })
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

/// Returns the ids of a file's own responses, or those of all files where it has none.
fn lookup<'a>(by_stem: &'a BTreeMap<String, Ids>, path: &Path) -> Vec<&'a Ids> {
    by_stem.get(&stem(path)).map_or_else(|| by_stem.values().collect(), |own| vec![own])
}

/// Returns a file's name up to its first dot.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}
