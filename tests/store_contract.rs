//! The store contract. Every engine runs the whole suite.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use common::FakeClock;
use common::changes::{
    K, RULES, Unkeyed, add, content, erase, event, id, import, key, replace, retract, user,
};
use common::valkey::{self, Valkey};
use micro_reward::mixture::{Decay, Ledger, Ledgers};
use micro_reward::state::{
    Accounts, Change, ChangeKind, Embedded, EmbeddedConfig, LedgerEvent, LedgerId, MemoryStore, MergeError,
    Outcome, UserStore, ValkeyConfig, ValkeyStore,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

const MAX_USERS: usize = 100;

/// An engine and its directory or server.
struct Engine {
    store: Arc<dyn UserStore>,
    _dir: Option<TempDir>,
    _server: Option<Valkey>,
}

/// Returns fresh engines. The embedded one has room for so few rows that most are on the disk, and the shared one
/// caches few too.
async fn engines() -> Vec<Engine> {
    let memory = MemoryStore::new(RULES, NonZeroUsize::new(MAX_USERS).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig {
        dir: dir.path().join("data"),
        ledger_id: LedgerId { n_heads: K, key: 7 },
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

async fn ledgers(store: &dyn UserStore, n: usize) -> Option<Ledgers> {
    store.get(user(n), 0).await.unwrap().row.filter(|row| !row.is_tombstone()).map(|row| row.ledgers)
}

async fn one(store: &dyn UserStore, change: Change) -> Outcome {
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
        // A clock that jumps back makes no event younger.
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
        assert_eq!(one(&**store, retract(2, 1)).await, Outcome::Unknown { is_news: true });
        assert_eq!(store.n_users(), 1);
    }
}

#[tokio::test]
async fn an_undo_that_overtakes_its_click_wins() {
    for Engine { store, .. } in &engines().await {
        assert_eq!(one(&**store, retract(1, 1)).await, Outcome::Unknown { is_news: true });
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
        // An event that the import replaced can't be retracted from the imported evidence.
        assert_eq!(one(&**store, retract(2, 1)).await, Outcome::Unknown { is_news: false });
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
        // Unknown content can't be told apart, and the time of an event is not part of its content.
        let unknown = LedgerEvent { content: None, at_ms: 5, ..event(1, 1) };
        assert_eq!(one(&**store, of(unknown)).await, Outcome::Duplicate(2));
        assert_eq!(store.get(user(1), 0).await.unwrap().row, before);
        let without = LedgerEvent { content: None, ..event(1, 7) };
        assert_eq!(one(&**store, of(without)).await, Outcome::Applied(3));
        assert_eq!(one(&**store, add(1, 7)).await, Outcome::Duplicate(3));
    }
}

/// Returns the ledgers of a user with these events alone.
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
        // A retry of either changes nothing, and the new one can be replaced in turn, and retracted.
        assert_eq!(one(&**store, replace(1, 4, 0)).await, Outcome::Duplicate(3));
        assert_eq!(one(&**store, add(1, 0)).await, Outcome::Retracted { version: 3, is_news: false });
        assert_eq!(one(&**store, replace(1, 5, 4)).await, Outcome::Replaced(4));
        assert_eq!(ledgers(&**store, 1).await, Some(only(1, &[3, 5])));
        assert_eq!(one(&**store, retract(1, 0)).await, Outcome::Duplicate(4));
        assert_eq!(one(&**store, retract(1, 5)).await, Outcome::Applied(5));
        let n_events = ledgers(&**store, 1).await.map(|ledgers| ledgers.n_events());
        assert_eq!(n_events, Some(1));
        // A retracted event leaves nothing to replace; the new one counts.
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
        assert!(taken.iter().all(|outcome| matches!(outcome, Outcome::Applied(_) | Outcome::Unknown { .. })));
        let full = Outcome::Full { max_users: MAX_USERS };
        let more = (MAX_USERS..MAX_USERS + 4).map(invented).collect();
        assert_eq!(store.change(more).await.unwrap(), [full; 4]);
        // A store without room for more still erases users and ids with a tombstone; new users have their own room.
        assert!(matches!(one(&**store, erase(0, 60)).await, Outcome::Applied(_)));
        assert!(matches!(one(&**store, erase(1000, 70)).await, Outcome::Applied(_)));
        assert!(matches!(one(&**store, retract(1, 1)).await, Outcome::Applied(_)));
        assert!(matches!(one(&**store, add(2, 1)).await, Outcome::Applied(_)));
        assert_eq!(ledgers(&**store, 0).await, None);
        // A user who has retracted every event has still answered a question.
        assert_eq!(store.n_users(), 2);
    }
}

#[tokio::test]
async fn a_user_who_says_too_much_is_refused_until_it_has_aged() {
    for Engine { store, .. } in &engines().await {
        store.change((0..RULES.max_events).map(|id| add(1, id)).collect()).await.unwrap();
        // The oldest event happened at 0 and is remembered for the window of events.
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
        // A smaller sample is a prefix of a larger one, so that a sample changes little when it grows.
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
            let ledgers = imported(round);
            changes.push(Change { now_ms: (round * 40) as i64, ..import((round * 7) % 17, &ledgers) });
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
    // The last import is there with the later events, and no other user's import is.
    let row = rows[0][(19 * 7) % 17].as_ref().unwrap();
    assert_eq!(row.ledgers.of(Some(9)), imported(19).of(Some(9)));
}

/// Returns evidence from another server, in a context without events.
fn imported(round: usize) -> Ledgers {
    let mut ledgers = Ledgers::new(K);
    ledgers.add(Some(9), &event(0, round).increment, round as i64, Decay::NONE);
    ledgers
}

/// Returns the engines that merge users.
async fn merging() -> Vec<(Engine, Arc<Accounts>)> {
    let mut merging = Vec::new();
    for engine in engines().await {
        let store = Arc::new(Unkeyed(engine.store.clone()));
        let accounts = Arc::new(Accounts::new(store, FakeClock::at(0)));
        if engine.store.can_merge() {
            merging.push((engine, accounts));
        } else {
            let refused = accounts.merge(&id(1), &id(2), 0).await;
            assert!(matches!(refused, Err(MergeError::NotSupported)));
        }
    }
    assert_eq!(merging.len(), 2);
    merging
}

async fn of_account(accounts: &Accounts, n: usize) -> Ledgers {
    accounts.get(user(n), 0).await.unwrap().row.map_or_else(|| Ledgers::new(K), |row| row.ledgers)
}

/// Returns the same event under another id.
fn under(n: usize, mut change: Change) -> Change {
    change.user = user(n);
    change
}

/// Returns the sums and the numbers of events.
fn sums(ledgers: &Ledgers) -> Vec<(Option<u64>, Vec<i64>, u64)> {
    let sums = |key, ledger: &Ledger| (key, ledger.sums().to_vec(), ledger.n_events());
    let contexts = ledgers.contexts().iter().filter(|(_, ledger)| ledger.n_events() > 0);
    std::iter::once(sums(None, ledgers.of(None).unwrap()))
        .chain(contexts.map(|(key, ledger)| sums(Some(*key), ledger)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_split_over_two_ids_and_merged_at_any_moment_are_as_all_under_one() {
    let mut random = ChaCha8Rng::seed_from_u64(12);
    for (Engine { store, .. }, accounts) in &merging().await {
        for case in 0..30 {
            let [visitor, account, alone] = [0, 1, 2].map(|n| 3 * case + n);
            let with_undos = case % 2 == 1;
            let n_steps = random.random_range(1..60);
            let merged_at = random.random_range(0..=n_steps);
            for step in 0..=n_steps {
                if step == merged_at {
                    accounts.merge(&id(visitor), &id(account), 0).await.unwrap();
                }
                // Event ids are few, so that many come twice, under both users, or are retracted under the other one.
                let n = random.random_range(0..40);
                let is_undo = with_undos && random.random_bool(0.3);
                let change = match n {
                    _ if is_undo => retract(0, n),
                    // One event replaces another, whichever comes first, and under either id.
                    _ if with_undos && n % 4 == 3 => replace(0, n, n - 3),
                    _ => add(0, n),
                };
                let said_by = if random.random_bool(0.5) { visitor } else { account };
                let changes = vec![Change { now_ms: 50, ..under(said_by, change.clone()) }];
                accounts.change(changes).await.unwrap();
                store.change(vec![Change { now_ms: 50, ..under(alone, change) }]).await.unwrap();
            }
            let expected = ledgers(&**store, alone).await.unwrap_or_else(|| Ledgers::new(K));
            for n in [visitor, account] {
                let found = of_account(accounts, n).await;
                assert_eq!(sums(&found), sums(&expected), "case {case}, merged at {merged_at} of {n_steps}");
                // A retraction does not restore the time of the event before it.
                assert!(with_undos || found == expected, "{found:?} {expected:?}");
            }
            let answered = |row: micro_reward::state::Row| row.answered;
            let of = |n| async move {
                accounts.get(user(n), 0).await.unwrap().row.map(answered).unwrap_or_default()
            };
            assert!(with_undos || of(visitor).await == of(alone).await);
        }
    }
}

#[tokio::test]
async fn merges_lose_nothing_where_there_is_no_room_for_more() {
    for (Engine { store, .. }, accounts) in &merging().await {
        store.change((0..MAX_USERS).map(|n| add(n, n)).collect()).await.unwrap();
        store.change((0..MAX_USERS).map(|n| retract(1000 + n, 500)).collect()).await.unwrap();
        // The store has no room for a new account: the merge changes neither id.
        assert!(matches!(accounts.merge(&id(1), &id(5000), 200).await, Err(MergeError::Full { .. })));
        assert_eq!(of_account(accounts, 1).await.n_events(), 1);
        assert_eq!(accounts.account_of(&id(1)).await.unwrap(), None);
        // A user who has only retracted an event becomes the account of another.
        accounts.merge(&id(1), &id(1000), 200).await.unwrap();
        accounts.merge(&id(2), &id(3), 200).await.unwrap();
        assert_eq!(of_account(accounts, 1000).await.n_events(), 1);
        assert_eq!(of_account(accounts, 2).await.n_events(), 2);
        assert_eq!(store.n_users(), MAX_USERS - 1);
    }
}

#[tokio::test]
async fn ids_that_were_merged_are_as_many_as_users_may_be_and_take_no_room_from_strangers() {
    for (Engine { store, .. }, accounts) in &merging().await {
        store.change(vec![add(0, 0)]).await.unwrap();
        // Every second id has an event already.
        store.change((1..=MAX_USERS).step_by(2).map(|n| add(n, n)).collect()).await.unwrap();
        for n in 1..=MAX_USERS {
            accounts.merge(&id(n), &id(0), 200).await.unwrap();
        }
        let full = accounts.merge(&id(5000), &id(0), 200).await;
        assert!(matches!(full, Err(MergeError::Full { max_users: MAX_USERS })), "{full:?}");
        store.change(vec![add(5001, 1)]).await.unwrap();
        assert!(matches!(accounts.merge(&id(5001), &id(0), 200).await, Err(MergeError::Full { .. })));
        assert_eq!(of_account(accounts, 5001).await.n_events(), 1);
        assert_eq!(of_account(accounts, 0).await.n_events(), 1 + MAX_USERS as u64 / 2);
        // Retractions of new users, and new users, find the room that they would find without merges.
        let undos = (0..MAX_USERS).map(|n| retract(1000 + n, 500)).collect();
        let unknown = Outcome::Unknown { is_news: true };
        assert_eq!(store.change(undos).await.unwrap(), [unknown; MAX_USERS]);
        let users: Vec<Change> = (2000..2000 + MAX_USERS - 2).map(|n| add(n, 1)).collect();
        let said = store.change(users).await.unwrap();
        assert!(said.iter().all(|outcome| *outcome == Outcome::Applied(1)), "{said:?}");
        assert_eq!(store.n_users(), MAX_USERS);
        // An erased id makes room for another.
        accounts.erase(user(1), 600).await.unwrap();
        accounts.merge(&id(5000), &id(0), 600).await.unwrap();
    }
}

#[tokio::test]
async fn a_visitors_event_is_the_accounts_under_either_id() {
    for (Engine { store, .. }, accounts) in &merging().await {
        let changes = vec![add(1, 0), add(1, 3), add(2, 4)];
        accounts.change(changes).await.unwrap();
        assert_eq!(accounts.merge(&id(1), &id(2), 10).await.unwrap(), id(2));
        assert_eq!(store.n_users(), 1);
        let merged = of_account(accounts, 2).await;
        assert_eq!(merged.n_events(), 3);
        for n in [1, 2] {
            let again = accounts.change(vec![under(n, add(1, 0)), under(n, add(2, 4))]).await.unwrap();
            assert!(again.iter().all(|outcome| matches!(outcome, Outcome::Duplicate(_))), "{again:?}");
        }
        // A late event of the old id counts, and either can be retracted under either.
        assert!(matches!(accounts.change(vec![add(1, 5)]).await.unwrap()[..], [Outcome::Applied(_)]));
        assert_eq!(of_account(accounts, 1).await.n_events(), 4);
        assert!(matches!(accounts.retract(user(2), key(5), 20).await.unwrap(), Outcome::Applied(_)));
        assert_eq!(of_account(accounts, 2).await, merged);
        assert!(matches!(accounts.retract(user(1), key(4), 20).await.unwrap(), Outcome::Applied(_)));
        assert!(matches!(accounts.retract(user(2), key(0), 20).await.unwrap(), Outcome::Applied(_)));
        assert!(matches!(accounts.retract(user(1), key(0), 20).await.unwrap(), Outcome::Duplicate(_)));
        assert_eq!(of_account(accounts, 2).await.n_events(), 1);
    }
}

#[tokio::test]
async fn merging_twice_changes_nothing_and_redirects_neither_chain_nor_circle() {
    for (Engine { store, .. }, accounts) in &merging().await {
        accounts.change(vec![add(1, 0), add(2, 1), add(3, 2)]).await.unwrap();
        accounts.merge(&id(1), &id(2), 10).await.unwrap();
        let before = store.get(user(2), 0).await.unwrap();
        assert_eq!(accounts.merge(&id(1), &id(2), 11).await.unwrap(), id(2));
        assert_eq!(store.get(user(2), 0).await.unwrap(), before);
        assert!(matches!(accounts.merge(&id(2), &id(1), 12).await, Err(MergeError::Cycle)));
        assert!(matches!(accounts.merge(&id(1), &id(3), 12).await, Err(MergeError::Elsewhere)));
        assert_eq!(accounts.merge(&id(2), &id(3), 13).await.unwrap(), id(3));
        assert_eq!(accounts.merge(&id(1), &id(2), 14).await.unwrap(), id(3));
        assert_eq!(accounts.account_of(&id(1)).await.unwrap(), Some(id(3)));
        assert!(matches!(accounts.merge(&id(3), &id(1), 15).await, Err(MergeError::Cycle)));
        accounts.change(vec![add(1, 16)]).await.unwrap();
        assert_eq!(of_account(accounts, 3).await.n_events(), 4);
        // The erasure of an id erases the ids merged into it, and its account keeps its evidence.
        accounts.erase(user(2), 20).await.unwrap();
        accounts.change(vec![add(1, 30)]).await.unwrap();
        assert_eq!(
            (of_account(accounts, 1).await.n_events(), of_account(accounts, 3).await.n_events()),
            (1, 4)
        );
        // Neither id has a row yet, and later events follow the merge.
        accounts.merge(&id(4), &id(5), 30).await.unwrap();
        accounts.change(vec![add(4, 31)]).await.unwrap();
        assert_eq!(ledgers(&**store, 5).await.unwrap().n_events(), 1);
        assert_eq!(ledgers(&**store, 4).await, None);
    }
}

#[tokio::test]
async fn an_erased_account_takes_its_ids_with_it_and_an_erased_id_nothing() {
    for (Engine { store, .. }, accounts) in &merging().await {
        accounts.change(vec![add(1, 0), add(2, 1), add(3, 2), add(6, 1)]).await.unwrap();
        for n in 1..3 {
            accounts.merge(&id(n), &id(3), 10).await.unwrap();
        }
        // An id that is erased alone has no row, and its account keeps its evidence.
        assert!(accounts.erase(user(1), 50).await.unwrap().before.unwrap().unwrap().is_moved());
        assert_eq!(of_account(accounts, 3).await.n_events(), 3);
        accounts.change(vec![add(1, 60)]).await.unwrap();
        assert_eq!(
            (of_account(accounts, 1).await.n_events(), of_account(accounts, 3).await.n_events()),
            (1, 3)
        );
        assert_eq!(accounts.change(vec![add(1, 49)]).await.unwrap(), [Outcome::Late]);
        // It can be merged again.
        accounts.merge(&id(1), &id(6), 70).await.unwrap();
        assert_eq!(of_account(accounts, 6).await.n_events(), 2);
        assert_eq!(accounts.erase(user(3), 80).await.unwrap().before.unwrap().unwrap().ledgers.n_events(), 3);
        for n in [2, 3] {
            assert_eq!(ledgers(&**store, n).await, None);
            assert_eq!(accounts.change(vec![add(n, 79)]).await.unwrap(), [Outcome::Late]);
            assert_eq!(accounts.account_of(&id(n)).await.unwrap(), None);
        }
        // An id that belongs to another account is not touched.
        assert_eq!(of_account(accounts, 1).await.n_events(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_under_either_id_during_a_merge_counts_once() {
    for (_engine, accounts) in &merging().await {
        let said = |n: usize| {
            let accounts = accounts.clone();
            tokio::spawn(async move {
                for id in (0..200).filter(|id| id % 8 == n) {
                    let changes = [1, 2].map(|user| under(user, Change { now_ms: 300, ..add(0, id) }));
                    accounts.change(changes.to_vec()).await.unwrap();
                }
            })
        };
        let writers: Vec<_> = (0..8).map(said).collect();
        let [from, into] = [id(1), id(2)];
        let merges = (0..4).map(|_| accounts.merge(&from, &into, 300));
        futures::future::join_all(merges)
            .await
            .into_iter()
            .for_each(|merged| assert_eq!(merged.unwrap(), id(2)));
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(of_account(accounts, 2).await.n_events(), 200);
    }
}

#[tokio::test]
async fn more_events_than_a_row_may_remember_are_merged_exactly() {
    for (_engine, accounts) in &merging().await {
        let n = RULES.max_events;
        for said_by in [1, 2] {
            let said = (0..n).map(|id| Change { now_ms: 5000, ..add(said_by, said_by * n + id) });
            accounts.change(said.collect()).await.unwrap();
        }
        accounts.merge(&id(1), &id(2), 5000).await.unwrap();
        assert_eq!(of_account(accounts, 2).await.n_events(), 2 * n as u64);
        let again = Change { now_ms: 5000, ..add(1, n + 7) };
        assert!(matches!(accounts.change(vec![again]).await.unwrap()[..], [Outcome::Duplicate(_)]));
    }
}
