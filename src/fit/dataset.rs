//! Preference pairs from JSON lines, plain or gzip.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::types::routed;

/// Preference pairs over interned texts.
#[derive(Debug, Default)]
pub struct Dataset {
    /// Every text once; the other numbers are indices into it.
    pub texts: Vec<String>,
    /// In the order of the files.
    pub pairs: Vec<Preference>,
    /// The names of the files, without directory and suffixes.
    pub files: Vec<String>,
    interned: HashMap<String, usize>,
}

/// Response ids to texts.
type Ids = HashMap<String, usize>;

/// One choice of one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    /// Which file it comes from.
    pub file: usize,
    /// Who chose, unique over all files.
    pub user: Option<String>,
    /// What the heads may read.
    pub prompt: usize,
    /// What the router reads: the prompt, and the context after it.
    pub routed: usize,
    /// The preferred response.
    pub chosen: usize,
    /// The other response.
    pub rejected: usize,
    /// A label for the report only.
    pub group: Option<String>,
    /// Train unless the row says otherwise.
    pub split: Split,
}

/// What a row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// To learn from.
    #[default]
    Train,
    /// To report on.
    Test,
}

/// Why data can't be used. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file can't be read or unpacked.
    #[error("{path}: can't be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system or gzip says.
        source: std::io::Error,
    },
    /// A line is no such row.
    #[error("{path}:{line}: {detail}")]
    Row {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What was found and what was expected.
        detail: String,
    },
    /// Users and the report are kept apart by file name.
    #[error("{0}: another file of the same name up to the first dot was given before")]
    SameName(PathBuf),
    /// There is nothing to learn from.
    #[error("found no row of the train split in {0:?}")]
    Empty(Vec<PathBuf>),
}

/// Other fields of a row, such as a criterion, are left alone.
#[derive(Deserialize)]
struct PairRow {
    prompt: String,
    chosen: Option<String>,
    rejected: Option<String>,
    chosen_id: Option<String>,
    rejected_id: Option<String>,
    user: Option<String>,
    context: Option<String>,
    group: Option<String>,
    #[serde(default)]
    split: Split,
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
    /// The first row that can't be used, by file and line.
    pub fn read(data: &[PathBuf], responses: &[PathBuf]) -> Result<Self, DataError> {
        let mut dataset = Self::default();
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
            dataset.read_pairs(path, &lookup)?;
        }
        match dataset.pairs.iter().any(|pair| pair.split == Split::Train) {
            true => Ok(dataset),
            false => Err(DataError::Empty(data.to_vec())),
        }
    }

    fn read_responses(&mut self, path: &Path, by_id: &mut Ids) -> Result<(), DataError> {
        for_each_row(path, |row: ResponseRow| {
            let text = self.intern(row.text);
            match by_id.insert(row.id.clone(), text) {
                Some(other) if other != text => {
                    Err(format!("`id`: found \"{}\" again with another text", row.id))
                }
                _ => Ok(()),
            }
        })
    }

    fn read_pairs(&mut self, path: &Path, lookup: &[&Ids]) -> Result<(), DataError> {
        let file = self.files.len();
        let name = stem(path);
        self.files.push(name.clone());
        for_each_row(path, |row: PairRow| {
            let chosen = self.response(row.chosen, row.chosen_id, lookup, "chosen")?;
            let rejected = self.response(row.rejected, row.rejected_id, lookup, "rejected")?;
            let routed = self.intern(routed(&row.prompt, row.context.as_deref()));
            let prompt = self.intern(row.prompt);
            let user = row.user.map(|user| format!("{name}/{user}"));
            let (group, split) = (row.group, row.split);
            self.pairs.push(Preference { file, user, prompt, routed, chosen, rejected, group, split });
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
            (Some(text), None) => return Ok(self.intern(text)),
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

    fn intern(&mut self, text: String) -> usize {
        if let Some(&idx) = self.interned.get(&text) {
            return idx;
        }
        self.texts.push(text.clone());
        self.interned.insert(text, self.texts.len() - 1);
        self.texts.len() - 1
    }
}

/// A file's name up to its first dot.
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
    for (idx, line) in BufReader::new(reader).lines().enumerate() {
        let line = line.map_err(unreadable)?;
        if line.trim().is_empty() {
            continue;
        }
        let taken = serde_json::from_str(&line).map_err(|error| error.to_string()).and_then(&mut take);
        taken.map_err(|detail| DataError::Row { path: path.to_owned(), line: idx + 1, detail })?;
    }
    Ok(())
}
