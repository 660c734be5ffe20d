//! Feedback as rows of TRL's data sets: preference, or unpaired preference, with the prompt in a column of its own.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::feedback::{Judgment, ResolvedFeedback};
use super::ids::{EventId, UserId};

/// The events to export, and the shape of their rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The shape of a row.
    pub shape: ExportShape,
    /// Start of the time range of the events, inclusive.
    pub since: Option<Timestamp>,
    /// End of the time range of the events, exclusive.
    pub until: Option<Timestamp>,
    /// The only user whose events are exported.
    pub user: Option<UserId>,
}

/// The shape of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportShape {
    /// One response is preferred to another. From pairs, corrections, rankings and ratings.
    #[default]
    Preference,
    /// One response is good or bad. From thumbs.
    Unpaired,
}

/// One row. The columns that TRL reads come first; it ignores the others, of which `fit` reads `user` and `context`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportRow {
    prompt: Arc<str>,
    #[serde(flatten)]
    labeled: LabeledRow,
    #[serde(flatten)]
    origin: Arc<Origin>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum LabeledRow {
    Preference {
        chosen: Arc<str>,
        rejected: Arc<str>,
        /// The row's share of its event, which counts as one whatever the number of responses.
        weight: f64,
    },
    Unpaired {
        completion: Arc<str>,
        label: bool,
    },
}

/// The source of a row. Every row has every column.
#[derive(Debug, PartialEq, Serialize)]
struct Origin {
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
    /// True if the export includes an event.
    #[must_use]
    pub fn wants(&self, resolved: &ResolvedFeedback) -> bool {
        self.since.is_none_or(|since| resolved.at_ms >= since.as_millisecond())
            && self.until.is_none_or(|until| resolved.at_ms < until.as_millisecond())
            && self.user.as_ref().is_none_or(|user| *user == resolved.user)
    }
}

impl ExportShape {
    /// Returns the rows of an event, and the number of its pairs that are ties, which have no place in a preference
    /// row.
    ///
    /// A ranking or rating of n gives a row for each of its n (n - 1) / 2 pairs that is no tie, of weight one over
    /// the number of pairs, as its evidence is the mean over the pairs.
    pub fn rows(self, resolved: &ResolvedFeedback) -> (impl Iterator<Item = ExportRow> + use<>, u64) {
        let origin = Arc::new(Origin {
            user: resolved.user.clone(),
            context: resolved.context.clone(),
            at: Timestamp::from_millisecond(resolved.at_ms).ok(),
            kind: resolved.judgment.kind().label(),
            event_id: resolved.event_id.clone(),
            comment: resolved.comment.clone(),
            metadata: Some(resolved.metadata.clone()).filter(|metadata| !metadata.is_empty()),
        });
        let texts: Vec<Arc<str>> = resolved.responses.iter().map(|response| response.text.clone()).collect();
        let (labeled, n_ties) = match (self, &resolved.judgment) {
            (Self::Unpaired, Judgment::Thumb { up }) => {
                let thumb = |completion: &Arc<str>| Label::Thumb(completion.clone(), *up);
                (texts.first().map(thumb).into_iter().collect(), 0)
            }
            (Self::Unpaired, _) | (Self::Preference, Judgment::Thumb { .. }) => (Vec::new(), 0),
            (Self::Preference, judgment) => orders(judgment, texts.len()),
        };
        let weight = 1.0 / (texts.len() * texts.len().saturating_sub(1) / 2).max(1) as f64;
        let prompt = resolved.prompt.clone();
        let rows = labeled.into_iter().map(move |label| ExportRow {
            prompt: prompt.clone(),
            labeled: match label {
                Label::Order(better, worse) => LabeledRow::Preference {
                    chosen: texts[better].clone(),
                    rejected: texts[worse].clone(),
                    weight,
                },
                Label::Thumb(completion, label) => LabeledRow::Unpaired { completion, label },
            },
            origin: origin.clone(),
        });
        (rows, n_ties)
    }
}

impl ExportRow {
    /// Returns the approximate size in bytes.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        let responses = match &self.labeled {
            LabeledRow::Preference { chosen, rejected, .. } => chosen.len() + rejected.len(),
            LabeledRow::Unpaired { completion, .. } => completion.len(),
        };
        let metadata = self.origin.metadata.iter().flatten().map(|(key, value)| key.len() + value.len());
        let comment = self.origin.comment.as_ref().map_or(0, String::len);
        self.prompt.len() + responses + comment + metadata.sum::<usize>()
    }
}

enum Label {
    /// The first of two positions is better.
    Order(usize, usize),
    Thumb(Arc<str>, bool),
}

/// Returns the pairs of n responses that a judgment orders, and the number of the others.
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
