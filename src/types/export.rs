//! What was said as rows of TRL's data sets: preference, or unpaired preference, with the prompt in a column of its own.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::feedback::{Judgment, ResolvedFeedback};
use super::ids::{EventId, UserId};

/// Which events, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The shape of a row.
    pub shape: ExportShape,
    /// Only what happened at this time or later.
    pub since: Option<Timestamp>,
    /// Only what happened before this time.
    pub until: Option<Timestamp>,
    /// Only what this user said.
    pub user: Option<UserId>,
}

/// The shape of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportShape {
    /// One response is preferred to another. Of pairs, corrections, rankings and ratings.
    #[default]
    Preference,
    /// One response is good or bad. Of thumbs.
    Unpaired,
}

/// One row. What TRL reads comes first; it leaves the other columns alone, and `fit` reads `user` and `context`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportRow {
    prompt: Arc<str>,
    #[serde(flatten)]
    judged: JudgedRow,
    #[serde(flatten)]
    said: Arc<Said>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum JudgedRow {
    Preference {
        chosen: Arc<str>,
        rejected: Arc<str>,
        /// The row's part of its event, which counts as one whatever the number of responses.
        weight: f64,
    },
    Unpaired {
        completion: Arc<str>,
        label: bool,
    },
}

/// Where a row comes from. Every row has every column.
#[derive(Debug, PartialEq, Serialize)]
struct Said {
    user: UserId,
    context: Option<String>,
    at: Option<Timestamp>,
    kind: &'static str,
    event_id: EventId,
    comment: Option<String>,
    /// None rather than empty: columnar formats have no objects without fields.
    metadata: Option<BTreeMap<String, String>>,
}

impl Export {
    /// Whether an event is asked for.
    #[must_use]
    pub fn wants(&self, resolved: &ResolvedFeedback) -> bool {
        self.since.is_none_or(|since| resolved.at_ms >= since.as_millisecond())
            && self.until.is_none_or(|until| resolved.at_ms < until.as_millisecond())
            && self.user.as_ref().is_none_or(|user| *user == resolved.user)
    }
}

impl ExportShape {
    /// The rows of an event, and how many of its pairs are ties, which have no place in a preference row.
    ///
    /// A ranking or rating of n gives a row for each of its n (n - 1) / 2 pairs that is no tie, of weight one over their
    /// number: as its evidence is the mean over the pairs.
    pub fn rows(self, resolved: &ResolvedFeedback) -> (impl Iterator<Item = ExportRow> + use<>, u64) {
        let said = Arc::new(Said {
            user: resolved.user.clone(),
            context: resolved.context.clone(),
            at: Timestamp::from_millisecond(resolved.at_ms).ok(),
            kind: resolved.judgment.kind().label(),
            event_id: resolved.event_id.clone(),
            comment: resolved.comment.clone(),
            metadata: Some(resolved.metadata.clone()).filter(|metadata| !metadata.is_empty()),
        });
        let texts: Vec<Arc<str>> = resolved.responses.iter().map(|response| response.text.clone()).collect();
        let (judged, n_ties) = match (self, &resolved.judgment) {
            (Self::Unpaired, Judgment::Thumb { up }) => {
                let thumb = |completion: &Arc<str>| Label::Thumb(completion.clone(), *up);
                (texts.first().map(thumb).into_iter().collect(), 0)
            }
            (Self::Unpaired, _) | (Self::Preference, Judgment::Thumb { .. }) => (Vec::new(), 0),
            (Self::Preference, judgment) => orders(judgment, texts.len()),
        };
        let weight = 1.0 / (texts.len() * texts.len().saturating_sub(1) / 2).max(1) as f64;
        let prompt = resolved.prompt.clone();
        let rows = judged.into_iter().map(move |label| ExportRow {
            prompt: prompt.clone(),
            judged: match label {
                Label::Order(better, worse) => JudgedRow::Preference {
                    chosen: texts[better].clone(),
                    rejected: texts[worse].clone(),
                    weight,
                },
                Label::Thumb(completion, label) => JudgedRow::Unpaired { completion, label },
            },
            said: said.clone(),
        });
        (rows, n_ties)
    }
}

impl ExportRow {
    /// About how many bytes it has.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        let responses = match &self.judged {
            JudgedRow::Preference { chosen, rejected, .. } => chosen.len() + rejected.len(),
            JudgedRow::Unpaired { completion, .. } => completion.len(),
        };
        let metadata = self.said.metadata.iter().flatten().map(|(key, value)| key.len() + value.len());
        let comment = self.said.comment.as_ref().map_or(0, String::len);
        self.prompt.len() + responses + comment + metadata.sum::<usize>()
    }
}

enum Label {
    /// The first of two positions is better.
    Order(usize, usize),
    Thumb(Arc<str>, bool),
}

/// The pairs of n responses that an opinion puts in order, and how many others there are.
fn orders(judgment: &Judgment, n: usize) -> (Vec<Label>, u64) {
    let order = |i: usize, j: usize| match judgment {
        Judgment::Pair | Judgment::Correction | Judgment::Ranking => Ordering::Greater,
        Judgment::Rating(ratings) => ratings[i].partial_cmp(&ratings[j]).unwrap_or(Ordering::Equal),
        Judgment::Tie | Judgment::Thumb { .. } => Ordering::Equal,
    };
    let mut orders = Vec::new();
    let mut n_ties = 0;
    for (i, j) in (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))) {
        match order(i, j) {
            Ordering::Greater => orders.push(Label::Order(i, j)),
            Ordering::Less => orders.push(Label::Order(j, i)),
            Ordering::Equal => n_ties += 1,
        }
    }
    (orders, n_ties)
}
