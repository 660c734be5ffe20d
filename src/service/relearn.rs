//! Scores earlier feedback with these heads, to rebuild ledgers for another bundle.

use std::sync::Arc;

use super::resolve::PendingFeedback;
use super::{Service, unavailable};
use crate::state::{Change, ChangeKind, Outcome};
use crate::types::{Error, ResolvedFeedback};

impl Service {
    /// Applies changes that were made before, in order, each at its own time. Feedback is scored anew, by the
    /// function that scores new feedback, and so needs its texts. Afterwards `changes` hold the increments that were
    /// added. Feedback that can't be scored has its own error, and retracts what it replaces all the same.
    ///
    /// # Errors
    /// The error of an encoder that can't work now, before any change is made, or of a store that can't.
    pub async fn relearn(&self, changes: &mut [Change]) -> Result<Vec<Result<Outcome, Error>>, Error> {
        let resolved = changes.iter().filter_map(|change| match &change.kind {
            ChangeKind::Add(event) => event.resolved.clone(),
            _ => None,
        });
        let pending = |resolved: Arc<ResolvedFeedback>| PendingFeedback {
            known: vec![None; resolved.responses.len()],
            resolved,
        };
        let mut all_pending: Vec<PendingFeedback> = resolved.map(pending).collect();
        let mut ledger_events = self.ledger_events(all_pending.iter_mut().collect()).await.into_iter();
        let mut anew = Vec::with_capacity(changes.len());
        let mut refused = Vec::with_capacity(changes.len());
        for change in changes.iter_mut() {
            let event = match &change.kind {
                ChangeKind::Add(event) if event.resolved.is_some() => ledger_events.next().transpose(),
                _ => Ok(None),
            };
            let (made, error) = match event {
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => (change.taking_back(), Some(error)),
                Ok(event) => {
                    if let Some(event) = event {
                        change.kind = ChangeKind::Add(event);
                    }
                    (Some(change.clone()), None)
                }
            };
            refused.push((made.is_some(), error));
            anew.extend(made);
        }
        let mut outcomes = self.accounts.change(anew).await.map_err(unavailable)?.into_iter();
        let outcome = |(is_made, error): (bool, Option<Error>)| {
            let outcome = if is_made { outcomes.next() } else { None };
            error.map_or_else(|| outcome.map(Ok), |error| Some(Err(error)))
        };
        Ok(refused.into_iter().filter_map(outcome).collect())
    }
}
