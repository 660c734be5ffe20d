//! The store contract. Every engine runs the whole suite.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use common::FakeClock;
use common::changes::{K, RULES, add, content, erase, event, import, replace, retract, user};
use common::valkey::{self, Valkey};
use micro_reward::mixture::{Decay, Ledgers};
use micro_reward::state::{
    Change, ChangeKind, Embedded, EmbeddedConfig, Heads, LedgerEvent, MemoryStore, Outcome, RouterStore,
    ValkeyConfig, ValkeyStore,
};
use tempfile::TempDir;

const MAX_USERS: usize = 100;

/// An engine and what it lives in.
struct Engine {
    store: Arc<dyn RouterStore>,
    _dir: Option<TempDir>,
    _server: Option<Valkey>,
}

/// Fresh engines. The embedded one has room for so few rows that most are on the disk, and the shared one keeps few too.
async fn engines() -> Vec<Engine> {
    let memory = MemoryStore::new(RULES, NonZeroUsize::new(MAX_USERS).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig {
        dir: dir.path().join("data"),
        heads: Heads { n_heads: K, key: 7 },
        rules: RULES,
        max_users: MAX_USERS,
        resident_users: 10,
        is_sync: true,
        checkpoint_every: Duration::from_millis(5),
        retention: Duration::from_secs(3600),
        erase_within: Duration::from_secs(3600),
    };
    let embedded = Embedded::open(config, FakeClock::at(0)).unwrap();
    let server = Valkey::start();
    let config =
        ValkeyConfig { max_users: MAX_USERS, cached_users: 10, ..valkey::config(&server, "contract") };
    let shared = ValkeyStore::open(config).await.unwrap();
    vec![
        Engine { store: Arc::new(memory), _dir: None, _server: None },
        Engine { store: Arc::new(embedded), _dir: Some(dir), _server: None },
        Engine { store: Arc::new(shared), _dir: None, _server: Some(server) },
    ]
}

async fn ledgers(store: &dyn RouterStore, n: usize) -> Option<Ledgers> {
    store.get(user(n), 0).await.unwrap().row.filter(|row| !row.is_tombstone()).map(|row| row.ledgers)
}

async fn one(store: &dyn RouterStore, change: Change) -> Outcome {
    store.change(vec![change]).await.unwrap()[0]
}

#[tokio::test]
async fn feedback_twice_counts_once() {
    for Engine { store, .. } in &engines().await {
        assert_eq!(store.change(vec![add(1, 1)]).await.unwrap(), [Outcome::Applied(1)]);
        let before = ledgers(&**store, 1).await;
        let again = store.change(vec![add(1, 1), add(1, 1)]).await.unwrap();
        assert_eq!(again, [Outcome::Duplicate(1), Outcome::Duplicate(1)]);
        assert_eq!(ledgers(&**store, 1).await, before);
    }
}

#[tokio::test]
async fn a_retry_after_a_thousand_others_counts_once() {
    for Engine { store, .. } in &engines().await {
        store.change((0..1000).map(|id| add(1, id)).collect()).await.unwrap();
        assert_eq!(one(&**store, add(1, 0)).await, Outcome::Duplicate(1000));
        assert_eq!(one(&**store, add(1, 500)).await, Outcome::Duplicate(1000));
    }
}

#[tokio::test]
async fn what_is_too_old_to_be_remembered_is_late() {
    for Engine { store, .. } in &engines().await {
        let later = |id: usize| Change { now_ms: RULES.max_age_ms + 100, ..add(1, id) };
        store.change(vec![add(1, 1), add(1, 50)]).await.unwrap();
        // Event 101 is within the window; by then events 1 and 50 are not.
        assert_eq!(one(&**store, later(101)).await, Outcome::Applied(3));
        assert_eq!(one(&**store, later(1)).await, Outcome::Late);
        // A clock that jumps back makes nothing younger.
        assert_eq!(one(&**store, add(1, 1)).await, Outcome::Late);
        assert_eq!(one(&**store, add(1, 50)).await, Outcome::Late);
        assert_eq!(one(&**store, add(1, 101)).await, Outcome::Duplicate(3));
    }
}

#[tokio::test]
async fn one_users_event_id_is_another_users_own() {
    for Engine { store, .. } in &engines().await {
        let outcomes = store.change(vec![add(1, 1), add(2, 1)]).await.unwrap();
        assert_eq!(outcomes, [Outcome::Applied(1), Outcome::Applied(1)]);
    }
}

#[tokio::test]
async fn concurrent_writers_end_in_the_sequential_state() {
    for Engine { store, .. } in &engines().await {
        let mut expected = Ledgers::new(K);
        for id in 0..400 {
            let LedgerEvent { context, increment, at_ms, .. } = event(1, id);
            expected.add(context, &increment, at_ms, Decay::NONE);
        }
        let writers = (0..8).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for id in (0..400).filter(|id| id % 8 == writer) {
                    store.change(vec![add(1, id), add(2, id)]).await.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        assert_eq!(ledgers(&**store, 1).await, Some(expected));
    }
}

#[tokio::test]
async fn what_is_taken_back_never_was() {
    for Engine { store, .. } in &engines().await {
        store.change(vec![add(1, 0), add(1, 3)]).await.unwrap();
        let before = ledgers(&**store, 1).await;
        store.change(vec![add(1, 1)]).await.unwrap();
        assert_eq!(one(&**store, retract(1, 1)).await, Outcome::Applied(4));
        assert_eq!(ledgers(&**store, 1).await, before);
        assert_eq!(one(&**store, retract(1, 1)).await, Outcome::Duplicate(4));
        assert_eq!(one(&**store, add(1, 1)).await, Outcome::Retracted { version: 4, is_news: false });
        assert_eq!(ledgers(&**store, 1).await, before);
        assert_eq!(one(&**store, retract(2, 1)).await, Outcome::Unknown);
        assert_eq!(store.n_users(), 1);
    }
}

#[tokio::test]
async fn an_undo_that_overtakes_its_click_wins() {
    for Engine { store, .. } in &engines().await {
        assert_eq!(one(&**store, retract(1, 1)).await, Outcome::Unknown);
        assert_eq!(one(&**store, add(1, 1)).await, Outcome::Retracted { version: 0, is_news: false });
        assert_eq!(one(&**store, add(1, 2)).await, Outcome::Applied(1));
    }
}

#[tokio::test]
async fn an_erased_user_starts_anew() {
    for Engine { store, .. } in &engines().await {
        store.change(vec![add(1, 1), add(2, 2)]).await.unwrap();
        assert!(matches!(one(&**store, erase(1, 50)).await, Outcome::Applied(_)));
        assert!(matches!(one(&**store, erase(1, 50)).await, Outcome::Duplicate(_)));
        assert_eq!(ledgers(&**store, 1).await, None);
        assert!(ledgers(&**store, 2).await.is_some());
        assert_eq!(store.n_users(), 1);
        assert!(matches!(one(&**store, add(1, 60)).await, Outcome::Applied(_)));
        assert_eq!(store.n_users(), 2);
    }
}

#[tokio::test]
async fn what_comes_late_does_not_bring_an_erased_user_back() {
    for Engine { store, .. } in &engines().await {
        store.change(vec![add(1, 1), erase(1, 50)]).await.unwrap();
        assert!(matches!(one(&**store, add(1, 1)).await, Outcome::Retracted { .. }));
        assert_eq!(one(&**store, add(1, 49)).await, Outcome::Late);
        assert_eq!(ledgers(&**store, 1).await, None);
    }
}

#[tokio::test]
async fn imported_evidence_replaces_what_was_there() {
    for Engine { store, .. } in &engines().await {
        store.change(vec![add(1, 0), add(1, 3), add(2, 1)]).await.unwrap();
        let carried = ledgers(&**store, 1).await.unwrap();
        assert_eq!(one(&**store, import(2, &carried)).await, Outcome::Applied(2));
        assert_eq!(ledgers(&**store, 2).await, Some(carried));
        // What the import replaced can't be taken back from what it brought.
        assert_eq!(one(&**store, retract(2, 1)).await, Outcome::Unknown);
        assert_eq!(one(&**store, add(2, 1)).await, Outcome::Duplicate(2));
    }
}

#[tokio::test]
async fn another_event_of_a_known_id_is_a_conflict_and_changes_nothing() {
    for Engine { store, .. } in &engines().await {
        store.change(vec![add(1, 1), add(1, 2)]).await.unwrap();
        let before = store.get(user(1), 0).await.unwrap().row;
        let of = |event: LedgerEvent| Change { kind: ChangeKind::Add(event), ..add(1, 5) };
        let other = LedgerEvent { content: Some(5), ..event(1, 1) };
        assert_eq!(one(&**store, of(other)).await, Outcome::Conflict { kept: content(1) });
        // What is not known can't be told apart, and when something happened is no content.
        let unknown = LedgerEvent { content: None, at_ms: 5, ..event(1, 1) };
        assert_eq!(one(&**store, of(unknown)).await, Outcome::Duplicate(2));
        assert_eq!(store.get(user(1), 0).await.unwrap().row, before);
        let without = LedgerEvent { content: None, ..event(1, 7) };
        assert_eq!(one(&**store, of(without)).await, Outcome::Applied(3));
        assert_eq!(one(&**store, add(1, 7)).await, Outcome::Duplicate(3));
    }
}

/// The ledgers of a user who said only this.
fn only(n: usize, ids: &[usize]) -> Ledgers {
    let mut ledgers = Ledgers::new(K);
    for &id in ids {
        let LedgerEvent { context, increment, at_ms, .. } = event(n, id);
        ledgers.add(context, &increment, at_ms, Decay::NONE);
    }
    ledgers
}

#[tokio::test]
async fn what_replaces_counts_as_if_it_alone_had_been_said() {
    for Engine { store, .. } in &engines().await {
        store.change(vec![add(1, 0), add(1, 3)]).await.unwrap();
        assert_eq!(one(&**store, replace(1, 4, 0)).await, Outcome::Replaced(3));
        assert_eq!(ledgers(&**store, 1).await, Some(only(1, &[3, 4])));
        // A retry of either changes nothing, and the new one can be replaced in turn, and taken back.
        assert_eq!(one(&**store, replace(1, 4, 0)).await, Outcome::Duplicate(3));
        assert_eq!(one(&**store, add(1, 0)).await, Outcome::Retracted { version: 3, is_news: false });
        assert_eq!(one(&**store, replace(1, 5, 4)).await, Outcome::Replaced(4));
        assert_eq!(ledgers(&**store, 1).await, Some(only(1, &[3, 5])));
        assert_eq!(one(&**store, retract(1, 0)).await, Outcome::Duplicate(4));
        assert_eq!(one(&**store, retract(1, 5)).await, Outcome::Applied(5));
        let n_events = ledgers(&**store, 1).await.map(|ledgers| ledgers.n_events());
        assert_eq!(n_events, Some(1));
        // Nothing is left of what was taken back; the new one counts.
        assert_eq!(one(&**store, replace(1, 6, 5)).await, Outcome::Applied(6));
    }
}

#[tokio::test]
async fn what_replaces_an_event_that_is_still_to_come_wins() {
    for Engine { store, .. } in &engines().await {
        assert_eq!(one(&**store, replace(1, 2, 1)).await, Outcome::Applied(1));
        assert_eq!(one(&**store, add(1, 1)).await, Outcome::Retracted { version: 1, is_news: false });
        assert_eq!(ledgers(&**store, 1).await, Some(only(1, &[2])));
    }
}

#[tokio::test]
async fn events_that_replace_and_undos_end_alike_in_any_order() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for Engine { store, .. } in &engines().await {
        for (n, order) in orders.iter().enumerate() {
            let chain = [add(n, 1), replace(n, 2, 1), replace(n, 3, 2)];
            store.change(order.iter().map(|&idx| chain[idx].clone()).collect()).await.unwrap();
            assert_eq!(ledgers(&**store, n).await, Some(only(n, &[3])), "{order:?}");
            let before = store.get(user(n), 0).await.unwrap().row;
            store.change(chain.to_vec()).await.unwrap();
            assert_eq!(
                store.get(user(n), 0).await.unwrap().row,
                before,
                "{order:?}: a retry changes nothing"
            );

            let undone = 10 + n;
            let cleared = [add(undone, 1), replace(undone, 2, 1), retract(undone, 2)];
            store.change(order.iter().map(|&idx| cleared[idx].clone()).collect()).await.unwrap();
            let left = store.get(user(undone), 0).await.unwrap().row.unwrap().ledgers;
            assert_eq!(left, Ledgers::new(K), "{order:?}");
        }
    }
}

#[tokio::test]
async fn versions_only_grow() {
    for Engine { store, .. } in &engines().await {
        let changes = vec![add(1, 1), retract(1, 1), add(1, 2), erase(1, 50), add(1, 60)];
        let outcomes = store.change(changes).await.unwrap();
        assert_eq!(outcomes, (1..=5).map(Outcome::Applied).collect::<Vec<_>>());
        assert_eq!(store.get(user(1), 5).await.unwrap().row.unwrap().version, 5);
    }
}

#[tokio::test]
async fn a_full_store_takes_feedback_of_known_users_only() {
    for Engine { store, .. } in &engines().await {
        store.change((0..MAX_USERS).map(|user| add(user, 1)).collect()).await.unwrap();
        let outcomes = store.change(vec![add(MAX_USERS, 1), add(0, 2)]).await.unwrap();
        assert_eq!(outcomes, [Outcome::Full { max_users: MAX_USERS }, Outcome::Applied(2)]);
        assert_eq!(ledgers(&**store, MAX_USERS).await, None);
    }
}

#[tokio::test]
async fn people_who_do_not_exist_leave_no_more_behind_than_users_may() {
    for Engine { store, .. } in &engines().await {
        store.change(vec![add(0, 1), add(1, 1)]).await.unwrap();
        let invented =
            |n: usize| if n.is_multiple_of(2) { erase(1000 + n, 50) } else { retract(1000 + n, 1) };
        let taken = store.change((0..MAX_USERS).map(invented).collect()).await.unwrap();
        assert!(taken.iter().all(|outcome| matches!(outcome, Outcome::Applied(_) | Outcome::Unknown)));
        let full = Outcome::Full { max_users: MAX_USERS };
        let more = (MAX_USERS..MAX_USERS + 4).map(invented).collect();
        assert_eq!(store.change(more).await.unwrap(), [full; 4]);
        // Who is known is erased all the same, and so is whoever was noted; users find their own room.
        assert!(matches!(one(&**store, erase(0, 60)).await, Outcome::Applied(_)));
        assert!(matches!(one(&**store, erase(1000, 70)).await, Outcome::Applied(_)));
        assert!(matches!(one(&**store, retract(1, 1)).await, Outcome::Applied(_)));
        assert!(matches!(one(&**store, add(2, 1)).await, Outcome::Applied(_)));
        assert_eq!(ledgers(&**store, 0).await, None);
        // Who took everything back has still answered a question.
        assert_eq!(store.n_users(), 2);
    }
}

#[tokio::test]
async fn a_user_who_says_too_much_is_refused_until_it_has_aged() {
    for Engine { store, .. } in &engines().await {
        store.change((0..RULES.max_events).map(|id| add(1, id)).collect()).await.unwrap();
        // The oldest happened at 0 and is remembered for as long as events are.
        let until_ms = RULES.max_age_ms + 1;
        let crowded = Outcome::Crowded { max_events: RULES.max_events, until_ms };
        let at = |now_ms| Change { now_ms, ..add(1, RULES.max_events) };
        assert_eq!(one(&**store, at(until_ms - 1)).await, crowded);
        assert!(matches!(one(&**store, at(until_ms)).await, Outcome::Applied(_)));
    }
}

#[tokio::test]
async fn undos_of_what_never_came_leave_room_for_what_is_said() {
    for Engine { store, .. } in &engines().await {
        store.change((0..RULES.max_events).map(|id| retract(1, id)).collect()).await.unwrap();
        let crowded = Outcome::Crowded { max_events: RULES.max_events, until_ms: 2 * RULES.max_age_ms + 1 };
        assert_eq!(one(&**store, retract(1, RULES.max_events)).await, crowded);
        assert_eq!(one(&**store, add(1, RULES.max_events)).await, Outcome::Applied(1));
        assert_eq!(one(&**store, add(1, 7)).await, Outcome::Retracted { version: 1, is_news: false });
    }
}

#[tokio::test]
async fn a_sample_of_users_does_not_depend_on_the_order_of_arrival() {
    for (Engine { store, .. }, Engine { store: other, .. }) in engines().await.iter().zip(&engines().await) {
        store.change((0..MAX_USERS).map(|user| add(user, 1)).collect()).await.unwrap();
        other.change((0..MAX_USERS).rev().map(|user| add(user, 1)).collect()).await.unwrap();
        let sample = store.sample(10).await.unwrap();
        assert_eq!((sample.len(), &sample), (10, &other.sample(10).await.unwrap()));
        // A smaller sample is the beginning of a larger one, so that it changes little when it grows.
        assert_eq!(store.sample(3).await.unwrap(), sample[..3]);
        assert_eq!(store.sample(MAX_USERS * 2).await.unwrap().len(), MAX_USERS);
        assert!(store.sample(0).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_erased_user_is_in_no_sample() {
    for Engine { store, .. } in &engines().await {
        store.change(vec![add(1, 1), add(2, 2), erase(1, 50)]).await.unwrap();
        let left = store.get(user(2), 0).await.unwrap().row.unwrap();
        assert_eq!(store.sample(5).await.unwrap(), [left]);
    }
}

#[tokio::test]
async fn changes_of_any_kind_are_the_same_in_every_engine() {
    let mut rows = Vec::new();
    for Engine { store, .. } in &engines().await {
        for round in 0..20 {
            let mut changes: Vec<Change> = (0..40).map(|n| add(n % 17, round * 40 + n)).collect();
            changes.push(retract(round % 17, round * 40 + 3));
            changes.push(replace(5, round * 40 + 21, round * 40 + 5));
            changes.push(replace(round % 17, round * 40 + 39, round * 40 + 41));
            changes.push(erase((round * 5) % 17, (round * 40) as i64));
            changes.push(Change { kind: ChangeKind::Add(event(3, round)), ..add(3, round * 2) });
            store.change(changes).await.unwrap();
        }
        let mut all = Vec::new();
        for n in 0..17 {
            all.push(store.get(user(n), 0).await.unwrap().row);
        }
        rows.push(all);
    }
    assert!(rows.windows(2).all(|pair| pair[0] == pair[1]));
}
