//! The store contract. Every engine runs the whole suite.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroUsize;
use std::sync::Arc;

use micro_reward::mixture::{Decay, Ledgers, pair};
use micro_reward::state::{LedgerEvent, MemoryStore, Outcome, RouterStore};

const K: usize = 3;
const MAX_USERS: usize = 100;

fn engines() -> Vec<Arc<dyn RouterStore>> {
    vec![Arc::new(MemoryStore::new(K, NonZeroUsize::new(MAX_USERS).unwrap(), Decay::NONE))]
}

fn event(user: usize, id: usize) -> LedgerEvent {
    let margins = [id as f64 * 0.1, -1.0, (user as f64).sin()];
    LedgerEvent {
        user: format!("user-{user}").parse().unwrap(),
        event_id: format!("event-{id}").parse().unwrap(),
        at_ms: id as i64,
        context: [None, Some(1), Some(2)][id % 3],
        question: [None, Some(id as u64 % 7)][id % 2],
        increment: pair(&margins),
    }
}

async fn ledgers(store: &dyn RouterStore, user: usize) -> Option<Ledgers> {
    store.get(&event(user, 0).user).await.unwrap().map(|row| row.ledgers)
}

#[tokio::test]
async fn feedback_twice_counts_once() {
    for store in engines() {
        assert_eq!(store.apply(vec![event(1, 1)]).await.unwrap(), [Outcome::Applied(1)]);
        let before = ledgers(&*store, 1).await;
        let again = store.apply(vec![event(1, 1), event(1, 1)]).await.unwrap();
        assert_eq!(again, [Outcome::Duplicate(1), Outcome::Duplicate(1)]);
        assert_eq!(ledgers(&*store, 1).await, before);
    }
}

#[tokio::test]
async fn one_users_event_id_is_another_users_own() {
    for store in engines() {
        let outcomes = store.apply(vec![event(1, 1), event(2, 1)]).await.unwrap();
        assert_eq!(outcomes, [Outcome::Applied(1), Outcome::Applied(1)]);
    }
}

#[tokio::test]
async fn concurrent_writers_end_in_the_sequential_state() {
    for store in engines() {
        let mut expected = Ledgers::new(K);
        for event in (0..400).map(|id| event(1, id)) {
            expected.add(event.context, &event.increment, event.at_ms, Decay::NONE);
        }
        let writers = (0..8).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for id in (0..400).filter(|id| id % 8 == writer) {
                    store.apply(vec![event(1, id)]).await.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        assert_eq!(ledgers(&*store, 1).await, Some(expected));
    }
}

#[tokio::test]
async fn an_erased_user_starts_anew() {
    for store in engines() {
        store.apply(vec![event(1, 1), event(2, 2)]).await.unwrap();
        assert!(store.erase(&event(1, 0).user).await.unwrap().is_some());
        assert!(store.erase(&event(1, 0).user).await.unwrap().is_none());
        assert_eq!(ledgers(&*store, 1).await, None);
        assert!(ledgers(&*store, 2).await.is_some());
        assert_eq!(store.n_users(), 1);
        assert_eq!(store.apply(vec![event(1, 3)]).await.unwrap(), [Outcome::Applied(1)]);
    }
}

#[tokio::test]
async fn a_full_store_takes_feedback_of_known_users_only() {
    for store in engines() {
        store.apply((0..MAX_USERS).map(|user| event(user, 1)).collect()).await.unwrap();
        let outcomes = store.apply(vec![event(MAX_USERS, 1), event(0, 2)]).await.unwrap();
        assert_eq!(outcomes, [Outcome::Full { max_users: MAX_USERS }, Outcome::Applied(2)]);
        assert_eq!(ledgers(&*store, MAX_USERS).await, None);
    }
}

#[tokio::test]
async fn a_sample_of_users_does_not_depend_on_the_order_of_arrival() {
    for (store, other) in engines().into_iter().zip(engines()) {
        store.apply((0..MAX_USERS).map(|user| event(user, 1)).collect()).await.unwrap();
        other.apply((0..MAX_USERS).rev().map(|user| event(user, 1)).collect()).await.unwrap();
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
    for store in engines() {
        store.apply(vec![event(1, 1), event(2, 2)]).await.unwrap();
        store.erase(&event(1, 0).user).await.unwrap();
        let left = store.get(&event(2, 0).user).await.unwrap().unwrap();
        assert_eq!(store.sample(5).await.unwrap(), [left]);
    }
}
