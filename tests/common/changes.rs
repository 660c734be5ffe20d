//! Changes of rows, for the tests of stores.

use std::sync::Arc;

use async_trait::async_trait;
use micro_reward::mixture::{Decay, Ledgers, pair};
use micro_reward::state::{
    Change, ChangeKind, EventKey, EventLog, LedgerEvent, Outcome, Row, RowRead, RowRules, StoreError,
    UserKey, UserKeys, UserStore,
};
use micro_reward::types::{EventId, Judgment, ResolvedFeedback, ResolvedResponse, UserId};

pub const K: usize = 3;

/// Rules that keep events for ten seconds of their clock, in which event `n` happens at `n` ms.
pub const RULES: RowRules = RowRules { n_heads: K, decay: Decay::NONE, max_age_ms: 10_000, max_events: 1200 };

/// A store in which users have the keys of [`user`].
#[derive(Debug)]
pub struct Unkeyed(pub Arc<dyn UserStore>);

#[async_trait]
impl UserStore for Unkeyed {
    async fn change(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
        self.0.change(changes).await
    }

    async fn retract(&self, user: UserKey, key: EventKey, now_ms: i64) -> Result<Outcome, StoreError> {
        self.0.retract(user, key, now_ms).await
    }

    async fn get(&self, user: UserKey, min_version: u64) -> Result<RowRead, StoreError> {
        self.0.get(user, min_version).await
    }

    async fn sample(&self, n: usize) -> Result<Vec<Row>, StoreError> {
        self.0.sample(n).await
    }

    async fn ids_of(&self, account: UserKey) -> Result<Vec<UserKey>, StoreError> {
        self.0.ids_of(account).await
    }

    async fn durable(&self) -> Result<(), StoreError> {
        self.0.durable().await
    }

    fn keys(&self) -> UserKeys {
        UserKeys::default()
    }

    fn n_users(&self) -> usize {
        self.0.n_users()
    }

    fn can_merge(&self) -> bool {
        self.0.can_merge()
    }

    fn events(&self) -> Option<EventLog> {
        self.0.events()
    }
}

pub fn id(n: usize) -> UserId {
    format!("user-{n}").parse().unwrap()
}

pub fn user(n: usize) -> UserKey {
    UserKeys::default().of(&id(n))
}

pub fn key(id: usize) -> EventKey {
    EventKey::of(&format!("event-{id}").parse::<EventId>().unwrap())
}

/// Returns event `id` of a user, with an increment that depends on both.
pub fn event(user: usize, id: usize) -> LedgerEvent {
    let margins = [id as f64 * 0.1, -1.0, (user as f64).sin()];
    LedgerEvent {
        key: key(id),
        at_ms: id as i64,
        context: [None, Some(1), Some(2)][id % 3],
        question: [None, Some(id as u64 % 7)][id % 2],
        increment: pair(&margins),
        content: Some(content(id)),
        replaces: None,
        resolved: Some(Arc::new(resolved(user, id))),
    }
}

pub fn content(id: usize) -> u64 {
    id as u64 + 1000
}

pub fn add(n: usize, id: usize) -> Change {
    Change { user: user(n), now_ms: id as i64, kind: ChangeKind::Add(event(n, id)) }
}

/// Returns an event that replaces another.
pub fn replace(n: usize, id: usize, replaced: usize) -> Change {
    let event = LedgerEvent { replaces: Some(key(replaced)), ..event(n, id) };
    Change { kind: ChangeKind::Add(event), ..add(n, id) }
}

pub fn retract(n: usize, id: usize) -> Change {
    Change { user: user(n), now_ms: id as i64, kind: ChangeKind::Retract(key(id)) }
}

pub fn erase(n: usize, now_ms: i64) -> Change {
    Change { user: user(n), now_ms, kind: ChangeKind::Erase }
}

pub fn import(n: usize, ledgers: &Ledgers) -> Change {
    Change { user: user(n), now_ms: 0, kind: ChangeKind::Import(ledgers.clone()) }
}

fn resolved(user: usize, id: usize) -> ResolvedFeedback {
    let response = |text: &str| ResolvedResponse { id: None, text: text.into() };
    ResolvedFeedback {
        event_id: format!("event-{id}").parse().unwrap(),
        user: format!("user-{user}").parse().unwrap(),
        at_ms: id as i64,
        context: None,
        prompt: format!("user-{user} said event-{id}").into(),
        responses: vec![response("thanks"), response("seven")],
        judgment: Judgment::Pair,
        replaces: None,
        comment: None,
        metadata: std::collections::BTreeMap::new(),
    }
}
