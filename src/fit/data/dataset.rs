//! Reads preference pairs from JSON lines, plain or gzip.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::interner::Interner;
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
}

/// Names of the fields of a row that hold its labels.
#[derive(Debug, Clone)]
pub struct Fields {
    /// Field of the context, which the router reads after the prompt.
    pub context: String,
    /// Field of the group, a label for reports.
    pub group: String,
}

impl Default for Fields {
    fn default() -> Self {
        Self { context: "context".to_owned(), group: "group".to_owned() }
    }
}

/// Field names that no label can have.
const RESERVED: [&str; 7] = ["prompt", "chosen", "rejected", "chosen_id", "rejected_id", "user", "split"];

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

/// The use of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Rows to learn from.
    #[default]
    Train,
    /// Rows to report on.
    Test,
    /// Rows to choose questions from, which are no user's choices.
    #[serde(skip)]
    #[value(skip)]
    Candidate,
}

/// The reason why data can't be used. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file can't be read or unpacked.
    #[error("{path}: can't be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system or of gzip.
        source: std::io::Error,
    },
    /// The file has lines that are no valid rows.
    #[error("{}", named(.path, .rows, *.more))]
    Rows {
        /// The file.
        path: PathBuf,
        /// The first of these lines, each with what was found and what was expected; at least one.
        rows: Vec<(usize, String)>,
        /// Number of the other lines.
        more: usize,
    },
    /// The temporary file that keeps texts while they are needed failed.
    #[error("the temporary file for texts: {0}")]
    Texts(#[from] io::Error),
    /// A label has the name of another field of every row.
    #[error("found the field name \"{0}\", which means something else in every row; expected another")]
    Reserved(String),
    /// Two files have one name up to the first dot, by which users and the report are kept apart.
    #[error("{0}: another file of the same name up to the first dot was given before")]
    SameName(PathBuf),
    /// The split has no row.
    #[error("found no row of the {split:?} split in {files:?}")]
    Empty {
        /// The split that was looked for.
        split: Split,
        /// The files that were searched.
        files: Vec<PathBuf>,
    },
}

/// Bad rows of a file that an error lists; it counts the others.
const NAMED: usize = 20;

fn named(path: &Path, rows: &[(usize, String)], more: usize) -> String {
    let path = path.display();
    let row = |(line, detail): &(usize, String)| format!("{path}:{line}: {detail}");
    let more = (more > 0).then(|| format!("{path}: {more} more rows can't be used"));
    rows.iter().map(row).chain(more).collect::<Vec<_>>().join("\n")
}

#[derive(Deserialize)]
struct PairRow {
    prompt: String,
    #[serde(alias = "a")]
    chosen: Option<String>,
    #[serde(alias = "b")]
    rejected: Option<String>,
    chosen_id: Option<String>,
    rejected_id: Option<String>,
    user: Option<String>,
    #[serde(default)]
    split: Split,
    /// Other fields, in which the names of [`Fields`] are looked up; the rest is ignored.
    #[serde(flatten)]
    others: HashMap<String, Value>,
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
        let named = [&fields.context, &fields.group];
        if let Some(name) = named.into_iter().find(|name| RESERVED.contains(&name.as_str())) {
            return Err(DataError::Reserved(name.clone()));
        }
        let mut dataset = Self {
            texts: Texts::new()?,
            pairs: Vec::new(),
            files: Vec::new(),
            users: Interner::default(),
            groups: Interner::default(),
            contexts: Interner::default(),
        };
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
            dataset.read_pairs(path, &lookup, fields)?;
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
        for_each_row(path, |row: ResponseRow| {
            let text = self.texts.intern(&row.text).map_err(|error| error.to_string())?;
            match by_id.insert(row.id.clone(), text) {
                Some(other) if other != text => {
                    Err(format!("`id`: found \"{}\" again with another text", row.id))
                }
                _ => Ok(()),
            }
        })
    }

    fn read_pairs(&mut self, path: &Path, lookup: &[&Ids], fields: &Fields) -> Result<(), DataError> {
        let file = self.files.len();
        let name = stem(path);
        self.files.push(name.clone());
        for_each_row(path, |row: PairRow| {
            let chosen = self.response(row.chosen, row.chosen_id, lookup, "chosen")?;
            let rejected = self.response(row.rejected, row.rejected_id, lookup, "rejected")?;
            let context = label(&row.others, &fields.context)?;
            let mut intern = |text: &str| self.texts.intern(text).map_err(|error| error.to_string());
            let routed = intern(&routed(&row.prompt, context.as_deref()))?;
            let prompt = intern(&row.prompt)?;
            let user = row.user.map(|user| self.users.index(format!("{name}/{user}")));
            let context = context.map(|context| self.contexts.index(context));
            let group = label(&row.others, &fields.group)?.map(|group| self.groups.index(group));
            let split = row.split;
            self.pairs.push(Preference {
                file,
                user,
                prompt,
                routed,
                chosen,
                rejected,
                context,
                group,
                split,
            });
            Ok(())
        })
    }

    fn response(
        &mut self,
        text: Option<String>,
        id: Option<String>,
        lookup: &[&Ids],
        field: &str,
    ) -> Result<usize, String> {
        let id = match (text, id) {
            (Some(text), None) => return self.texts.intern(&text).map_err(|error| error.to_string()),
            (None, Some(id)) => id,
            (Some(_), Some(_)) => {
                return Err(format!("found both `{field}` and `{field}_id`, expected one of them"));
            }
            (None, None) => return Err(format!("missing `{field}` or `{field}_id`")),
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

fn label(others: &HashMap<String, Value>, field: &str) -> Result<Option<String>, String> {
    match others.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(format!("`{field}`: found {other}, expected a text or a number")),
    }
}

/// Returns a file's name up to its first dot.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

fn for_each_row<T: DeserializeOwned>(
    path: &Path,
    mut take: impl FnMut(T) -> Result<(), String>,
) -> Result<(), DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let reader: Box<dyn Read> = match path.extension().is_some_and(|extension| extension == "gz") {
        true => Box::new(MultiGzDecoder::new(file)),
        false => Box::new(file),
    };
    let (mut rows, mut n_bad) = (Vec::new(), 0);
    for (idx, line) in BufReader::new(reader).lines().enumerate() {
        let taken = match line {
            Ok(line) => {
                let line = if idx == 0 { json::without_mark(line.as_bytes()) } else { line.as_bytes() };
                if line.trim_ascii().is_empty() {
                    continue;
                }
                json::read(line).map_err(|fault| fault.of_line()).and_then(&mut take)
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err("is not UTF-8".to_owned()),
            Err(error) => return Err(unreadable(error)),
        };
        if let Err(detail) = taken {
            n_bad += 1;
            if rows.len() < NAMED {
                rows.push((idx + 1, detail));
            }
        }
    }
    let more = n_bad - rows.len();
    if rows.is_empty() { Ok(()) } else { Err(DataError::Rows { path: path.to_owned(), rows, more }) }
}
