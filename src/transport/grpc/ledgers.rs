//! Converts a user's evidence to the last bit, both ways, and the answers of merges and retractions.

use super::pb;
use super::requests::required;
use crate::types::{Error, LedgerView, LedgersView, MergeAnswer, Retracted, UserView};

impl From<LedgersView> for pb::Ledgers {
    fn from(view: LedgersView) -> Self {
        let contexts = view.contexts.into_iter().map(|(key, ledger)| (key, ledger.into()));
        Self { heads: view.heads, general: Some(view.general.into()), contexts: contexts.collect() }
    }
}

impl From<LedgerView> for pb::Ledger {
    fn from(view: LedgerView) -> Self {
        let LedgerView { sums, epoch, n, last_at_ms } = view;
        Self { sums, epoch, n, last_at_ms }
    }
}

impl TryFrom<pb::Ledgers> for LedgersView {
    type Error = Error;

    fn try_from(ledgers: pb::Ledgers) -> Result<Self, Error> {
        let contexts = ledgers.contexts.into_iter().map(|(key, ledger)| (key, ledger.into()));
        let general = required(ledgers.general, "ledger.general")?.into();
        Ok(Self { heads: ledgers.heads, general, contexts: contexts.collect() })
    }
}

impl From<pb::Ledger> for LedgerView {
    fn from(ledger: pb::Ledger) -> Self {
        let pb::Ledger { sums, epoch, n, last_at_ms } = ledger;
        Self { sums, epoch, n, last_at_ms }
    }
}

impl From<UserView> for pb::ImportUserResponse {
    fn from(view: UserView) -> Self {
        Self { user: Some(view.into()) }
    }
}

impl From<MergeAnswer> for pb::MergeUserResponse {
    fn from(answer: MergeAnswer) -> Self {
        let MergeAnswer { user, from, n, version } = answer;
        Self { user, from, n, version }
    }
}

impl From<Retracted> for pb::RetractFeedbackResponse {
    fn from(retracted: Retracted) -> Self {
        let Retracted { event_id, user, status, version } = retracted;
        Self { user, event_id, status: status.to_owned(), version }
    }
}
