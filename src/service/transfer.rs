//! Exports and imports a user's evidence to the last bit, and retracts feedback.

use std::collections::BTreeMap;

use super::feedback::{crowded, full, full_of_unknown_users};
use super::{Service, unavailable, unreadable};
use crate::mixture::{Ledger, Ledgers};
use crate::state::{ChangeKind, EventKey, Outcome, StoreError};
use crate::types::{Error, ErrorKind, EventId, LedgerView, LedgersView, Retracted, UserId, UserView, json};

/// Upper bound of an imported sum: no sum of real events comes near it, and two of them can be added.
const MAX_SUM: u64 = 1 << 61;

/// Upper bound of an imported number of events: no user has as many, and two of them can be added.
const MAX_EVENTS: u64 = 1 << 48;

impl Service {
    /// Retracts a feedback: the ledgers are as if it had never been. Where raw events are kept, any of them can be
    /// retracted.
    ///
    /// # Errors
    /// `NotFound` for an unknown event, which then will not count should it still come; `StoreUnavailable`, also when
    /// raw events can't be read.
    pub async fn retract(&self, user: &UserId, id: &EventId) -> Result<Retracted, Error> {
        let retracted = self.accounts.retract(self.keys.of(user), EventKey::of(id), self.now_ms()).await;
        let (status, version) = match retracted.map_err(unretracted)? {
            Outcome::Applied(version) | Outcome::Duplicate(version) => ("retracted", Some(version)),
            Outcome::Queued => ("queued", None),
            Outcome::Crowded { max_events, until_ms } => {
                return Err(crowded(max_events, until_ms, self.now_ms()));
            }
            Outcome::Full { max_users } => return Err(full_of_unknown_users(max_users)),
            Outcome::Unreadable => return Err(unreadable()),
            _ => {
                let kept = match self.accounts.store().events() {
                    Some(_) => "its raw event is no longer kept (`events.retention`)",
                    None => "it came before `feedback.max_age`, and this `state.engine` keeps no raw events",
                };
                let detail = format!(
                    "no feedback `{id}` of `{user}` is known: {kept}, an import or an erasure came after it, or it is still to come, and then it will not count"
                );
                return Err(Error::new(ErrorKind::NotFound, detail).with_code("unknown_event"));
            }
        };
        Ok(Retracted { event_id: id.to_string(), user: user.to_string(), status, version })
    }

    /// Replaces a user's evidence by the export of another server, or of this one.
    ///
    /// # Errors
    /// `Invalid` names the field; `Conflict` for evidence of other heads; `StoreUnavailable`.
    pub async fn import(&self, user: &UserId, ledger: LedgersView) -> Result<UserView, Error> {
        let ledgers = self.imported(ledger)?;
        match self.change(user, ChangeKind::Import(ledgers)).await? {
            Outcome::Full { max_users } => Err(full(max_users)),
            Outcome::Unreadable => Err(unreadable()),
            Outcome::Moved => {
                let detail = format!(
                    "`{user}` was merged into an account, whose evidence it would replace: import there"
                );
                Err(Error::new(ErrorKind::Conflict, detail).with_code("merged_user"))
            }
            _ => self.user(user, None).await,
        }
    }

    pub(super) fn exported(&self, ledgers: &Ledgers) -> LedgersView {
        let view = |ledger: &Ledger| LedgerView {
            sums: ledger.sums().to_vec(),
            epoch: ledger.epoch(),
            n: ledger.n_events(),
            last_at_ms: ledger.last_at_ms(),
        };
        let contexts = ledgers.contexts().iter().map(|(key, ledger)| (format!("{key:016x}"), view(ledger)));
        LedgersView {
            heads: format!("{:016x}", self.settings.ledger_id.key),
            general: ledgers.of(None).map_or_else(|| view(&Ledger::new(self.bundle.n_heads())), view),
            contexts: contexts.collect(),
        }
    }

    fn imported(&self, view: LedgersView) -> Result<Ledgers, Error> {
        let heads = format!("{:016x}", self.settings.ledger_id.key);
        if view.heads != heads {
            let detail =
                format!("found evidence of the heads {}, expected {heads}", json::shorten(&view.heads));
            let error = Error::new(ErrorKind::Conflict, detail).with_code("other_heads");
            return Err(error.with_field("ledger.heads"));
        }
        let general = self.imported_ledger(view.general, "ledger.general")?;
        let mut contexts = BTreeMap::new();
        for (key, ledger) in view.contexts {
            let at = format!("ledger.contexts.{}", json::shorten(&key));
            let is_key = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            let is_key = key.len() == 16 && key.chars().all(is_key);
            let parsed = u64::from_str_radix(&key, 16).ok().filter(|_| is_key);
            let parsed = parsed
                .ok_or_else(|| Error::invalid_field(&at, "expected a key of 16 lower-case hex digits"))?;
            contexts.insert(parsed, self.imported_ledger(ledger, &at)?);
        }
        let n_contexts = contexts.len();
        let ledgers = Ledgers::of_parts(general, contexts.into_iter().collect());
        if ledgers.n_events() == 0 {
            return Err(Error::invalid_field("ledger", "found no event, expected some evidence"));
        }
        if !ledgers.are_of(self.bundle.n_heads()) {
            let detail = format!("found {n_contexts} contexts, expected at most 32");
            return Err(Error::invalid_field("ledger.contexts", detail));
        }
        Ok(ledgers)
    }

    fn imported_ledger(&self, view: LedgerView, at: &str) -> Result<Ledger, Error> {
        let LedgerView { sums, epoch, n, last_at_ms } = view;
        let refuse = |field: &str, detail: String| Err(Error::invalid_field(format!("{at}.{field}"), detail));
        let n_heads = self.bundle.n_heads();
        if sums.len() != n_heads {
            return refuse("sums", format!("found {} numbers, expected {n_heads}", sums.len()));
        }
        if let Some(sum) = sums.iter().find(|sum| sum.unsigned_abs() > MAX_SUM) {
            return refuse("sums", format!("found {sum}, expected at most 2^61 either way"));
        }
        if n > MAX_EVENTS {
            return refuse("n", format!("found {n}, expected at most {MAX_EVENTS}"));
        }
        let is_empty = n == 0;
        if epoch.is_none() != is_empty || last_at_ms.is_none() != is_empty {
            return refuse("n", format!("found {n}, and `epoch` and `last_at_ms` say otherwise"));
        }
        if is_empty && sums.iter().any(|&sum| sum != 0) {
            return refuse("sums", "found evidence of no event".to_owned());
        }
        let max_skew = i64::try_from(self.settings.window.max_clock_skew.as_millis()).unwrap_or(i64::MAX);
        let latest_ms = self.now_ms().saturating_add(max_skew);
        if let Some(found) = last_at_ms.filter(|&at_ms| at_ms > latest_ms) {
            return refuse("last_at_ms", format!("found {found}, expected at most {latest_ms}"));
        }
        let expected = last_at_ms.map(|at_ms| self.settings.posterior.decay.epoch_of(at_ms));
        if epoch != expected {
            return refuse("epoch", format!("found {epoch:?}, expected {expected:?}, that of `last_at_ms`"));
        }
        Ok(Ledger::of_parts(&sums, epoch, n, last_at_ms))
    }
}

fn unretracted(error: StoreError) -> Error {
    if !matches!(error, StoreError::Unreadable(_)) {
        return unavailable(error);
    }
    let detail = "the raw events can't be read, so that nothing was taken back; the log names the file";
    Error::new(ErrorKind::StoreUnavailable, detail).with_code("unreadable_journal").with_source(error)
}
