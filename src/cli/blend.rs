//! The blend ledger of a bundle: `fit` learns its population, `replay` reads it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::encode::layout;
use super::scored::ScoredExamples;
use super::{Failure, files};
use crate::fit::{Dataset, Examples, Layout, Learned};
use crate::model::Bundle;
use crate::replay::{Blend, Gate, Person, Served, Trial};
use crate::types::config::{Config, Layers};
use crate::types::key64;

/// The file in a bundle's directory.
const FILE: &str = "blend.json";

/// The population, and how it is mixed with the ledger.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// The revision of the bundle that it is of.
    revision: String,
    blend: Blend,
    gate: Gate,
}

/// Returns the settings from ledgers to weights that `serve` has by default.
pub(super) fn served(transfer: Option<f64>) -> Result<Served, Failure> {
    let posterior = Config::new(Layers::defaults()).map_err(Failure::failed)?.posterior;
    Ok(Served { routing: posterior.routing, transfer: transfer.unwrap_or(posterior.transfer) })
}

/// Learns the population from the margins on pairs that heads were not learned from, as those on their own pairs are
/// too sure, and writes it; a bundle of which none can be learned gets none.
pub(super) fn write(
    directory: &Path,
    dataset: &Dataset,
    examples: Examples,
    (bundle, learned): (&Bundle, &Learned),
    train: &[usize],
) -> Result<(), Failure> {
    let Layout { n_embedding, n_lexical, .. } = examples.layout;
    let layout = layout(&bundle.manifest().input, n_embedding, n_lexical);
    let examples = Examples { layout, ..examples };
    let path = directory.join(FILE);
    let people = honest(dataset, &examples, (bundle, learned), train)?;
    match population(&people, &bundle.log_prior(), served(None)?) {
        Some((blend, gate)) => {
            let revision = bundle.view().revision;
            let text = serde_json::to_string(&Stored { revision, blend, gate }).map_err(Failure::failed)?;
            files::write(&path, text)
        }
        None => match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Failure::failed(error)),
            _ => Ok(()),
        },
    }
}

/// Reads the population of a bundle; none if it has none, or that of another revision.
pub(super) fn read(directory: &Path, bundle: &Bundle) -> Result<Option<(Blend, Gate)>, Failure> {
    let path = directory.join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(Failure::refused)?,
    };
    let refused = |why: String| Failure::refused(format!("{}: {why}", path.display()));
    let stored: Stored = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
    let is_of = stored.revision == bundle.view().revision && stored.blend.n_heads() == bundle.n_heads();
    Ok(is_of.then_some((stored.blend, stored.gate)))
}

/// Learns the population of `people`; none of nobody.
pub(super) fn population(people: &[Person], log_shares: &[f64], served: Served) -> Option<(Blend, Gate)> {
    let blend = Blend::learn(people)?;
    let gate = Gate::learn(people, &blend, log_shares, served);
    Some((blend, gate))
}

/// Returns the people of `train` with the margins of heads that were not learned from them. Pairs that have no such
/// margin, or no user, are left out.
fn honest(
    dataset: &Dataset,
    examples: &Examples,
    (bundle, learned): (&Bundle, &Learned),
    train: &[usize],
) -> Result<Vec<Person>, Failure> {
    let scored = ScoredExamples::new(bundle, examples)?;
    let held_out: Vec<HashMap<usize, f64>> = learned
        .held_out
        .iter()
        .map(|of_head| of_head.iter().map(|held_out| (held_out.pair, held_out.margin)).collect())
        .collect();
    let trial = |idx: usize| -> Option<Trial> {
        let (choice, pair) = (&dataset.pairs[idx], examples.pairs[idx]);
        let mut margins = scored.rewards.margins(pair.chosen, pair.rejected);
        for (k, margin) in margins.iter_mut().enumerate() {
            if learned.origins[k].is_none_or(|file| file == choice.file) {
                *margin = learned.calibration[k].beta * held_out[k].get(&idx)?;
            }
        }
        Some(Trial {
            margins,
            chosen: scored.rewards.calibrated(pair.chosen),
            rejected: scored.rewards.calibrated(pair.rejected),
            log_prior: scored.log_priors.row(pair.prompt).to_vec(),
            longer: 0.0,
            rulers: [0.0; 3],
            responses: [choice.chosen, choice.rejected].into_iter().flatten().collect(),
            context: choice.context.map(|context| key64(dataset.contexts.items()[context].as_bytes())),
            group: choice.group,
            question: None,
            label: Some(choice.label),
            is_tie: choice.is_tie,
            weight: choice.weight,
        })
    };
    let mut people: BTreeMap<usize, Vec<Trial>> = BTreeMap::new();
    for (user, trial) in train.iter().filter_map(|&idx| Some((dataset.pairs[idx].user?, trial(idx)?))) {
        people.entry(user).or_default().push(trial);
    }
    let name = |user: usize| dataset.users.items()[user].clone();
    Ok(people.into_iter().map(|(user, trials)| Person { name: name(user), trials }).collect())
}
