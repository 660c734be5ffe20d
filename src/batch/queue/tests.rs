//! Tests of the queue's guarantees, by one thread that asks and takes in turn.

use std::collections::HashSet;

use futures::FutureExt;

use super::*;
use crate::batch::Answers;
use crate::types::{EncodeError, Encoded, Kept};

fn queue(max_texts: usize) -> Arc<Queue> {
    let config =
        QueueConfig { budgets: Budgets::fixed(100), max_texts, n_threads: 2, seconds_per_token: 0.01 };
    Arc::new(Queue::new(config, Arc::new(EmbeddingCache::new(1 << 20))))
}

fn text(name: usize, length: usize) -> (TextKey, Tokens) {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&name.to_le_bytes());
    (TextKey(key), Tokens { ids: vec![1; length], type_ids: vec![0; length], kept: Kept::default() })
}

/// Opens a request with texts of these (name, length).
fn ask(queue: &Arc<Queue>, texts: impl IntoIterator<Item = (usize, usize)>) -> Answers {
    let texts: Vec<_> = texts.into_iter().map(|(name, length)| text(name, length)).collect();
    let mut ticket = queue.open(texts.len(), None).unwrap();
    ticket.push(texts);
    ticket.answers()
}

/// Opens a request with so many texts of one length that it is large; names begin at `first`.
fn ask_much(queue: &Arc<Queue>, first: usize, length: usize) -> Answers {
    ask(queue, (first..first + SMALL_TEXTS + 1).map(|name| (name, length)))
}

fn names(batch: &Batch) -> Vec<usize> {
    batch.jobs.iter().map(|job| usize::from_le_bytes(job.key.0[..8].try_into().unwrap())).collect()
}

fn pop(queue: &Queue) -> Option<Batch> {
    queue.pop(Takes::All, &Arc::default())
}

fn next(queue: &Queue) -> Vec<usize> {
    names(&pop(queue).unwrap())
}

fn encoded(x: f32) -> Encoded {
    Encoded { embedding: [x].into(), kept: Kept::default() }
}

fn key(name: usize) -> TextKey {
    text(name, 1).0
}

#[test]
fn a_batch_is_the_first_text_and_its_neighbors_in_length() {
    let queue = queue(10);
    let _answers = ask(&queue, [(0, 20), (1, 90), (2, 19), (3, 5), (4, 15), (5, 14)]);
    assert_eq!(next(&queue), [0, 2, 4]);
    assert_eq!(next(&queue), [1]);
    assert_eq!(next(&queue), [3]);
    assert_eq!(next(&queue), [5]);
}

#[test]
fn a_batch_keeps_to_its_budget_unless_one_text_alone_exceeds_it() {
    let queue = queue(10);
    let _answers = ask(&queue, [(0, 30), (1, 30), (2, 30), (3, 30), (4, 200)]);
    assert_eq!(next(&queue), [0, 1, 2]);
    assert_eq!(next(&queue), [3]);
    assert_eq!(next(&queue), [4]);
}

#[test]
fn a_small_request_waits_for_no_more_of_a_large_one_than_it_is_large_itself() {
    let queue = queue(1000);
    let _large = ask_much(&queue, 100, 50);
    assert_eq!(next(&queue), [100, 101]);
    let _small = ask(&queue, [(1, 40), (2, 40)]);
    assert_eq!(next(&queue), [1, 2], "40 tokens come before the large one's next 50");
    let _longer = ask(&queue, [(3, 90)]);
    assert_eq!(next(&queue)[0], 102, "the large one's next 50 tokens come before 90");
    assert_eq!(next(&queue), [3]);
}

#[test]
fn small_requests_without_end_do_not_starve_a_large_one() {
    let queue = queue(1000);
    let _large = ask_much(&queue, 100, 50);
    let mut seen = HashSet::new();
    let mut _small: Vec<Answers> = (0..4).map(|name| ask(&queue, [(name, 50)])).collect();
    for round in 4..100 {
        seen.extend(next(&queue));
        _small.push(ask(&queue, [(1000 + round, 50)]));
    }
    let n_of_large = seen.iter().filter(|&&name| (100..200).contains(&name)).count();
    assert!(n_of_large >= 20, "{n_of_large} of its texts were taken among 96 batches");
}

#[test]
fn a_text_of_a_large_request_that_a_small_one_awaits_as_well_comes_at_once() {
    let queue = queue(1000);
    let _large = ask_much(&queue, 100, 50);
    let _small = ask(&queue, [(130, 50)]);
    assert_eq!(next(&queue), [130]);
}

#[test]
fn small_and_large_requests_share_no_batch() {
    let queue = queue(1000);
    let _large = ask_much(&queue, 100, 10);
    let _small = ask(&queue, [(1, 10)]);
    let batches = [next(&queue), next(&queue)];
    assert!(batches.contains(&vec![1]), "{batches:?}");
}

#[test]
fn a_thread_for_small_requests_waits_while_another_is_idle_or_at_something_small() {
    let queue = queue(1000);
    let _small = ask(&queue, [(1, 50)]);
    let takes_small =
        || queue.state.lock().take(Takes::Small, &Budgets::fixed(100)).map(|batch| names(&batch));
    assert_eq!(takes_small(), None, "nobody is at anything");
    let _large = ask_much(&queue, 100, 50);
    let first = pop(&queue).unwrap();
    assert_eq!((names(&first), first.is_bulk), (vec![1], false));
    assert_eq!(takes_small(), None, "somebody is at something small");
    let second = pop(&queue).unwrap();
    assert_eq!((names(&second), second.is_bulk), (vec![100, 101], true));
    assert_eq!(takes_small(), None, "nothing small waits");
    let _more = ask(&queue, [(2, 90)]);
    assert_eq!(takes_small(), Some(vec![2]));
    queue.done(true, 100, Duration::from_millis(10));
    let _more = ask(&queue, [(3, 90)]);
    assert_eq!(takes_small(), None, "nobody is at anything large any more");
}

#[tokio::test]
async fn a_text_that_several_await_is_encoded_once() {
    let queue = queue(10);
    let answers = [(); 3].map(|()| ask(&queue, [(7, 10)]));
    assert_eq!(next(&queue), [7]);
    let late = ask(&queue, [(7, 10)]);
    assert_eq!(queue.depth(), 0, "it is on its way");
    queue.complete(key(7), Ok(encoded(0.5)));
    let after = ask(&queue, [(7, 10)]);
    assert_eq!(queue.depth(), 0, "it is known");
    for answer in answers.into_iter().chain([late, after]) {
        assert_eq!(answer.all().await, [Ok(encoded(0.5))]);
    }
}

#[tokio::test]
async fn a_text_whose_first_caller_has_gone_is_encoded_for_the_second() {
    let queue = queue(10);
    let first = ask(&queue, [(7, 10)]);
    let second = ask(&queue, [(7, 10)]);
    drop(first);
    assert_eq!(next(&queue), [7]);
    queue.complete(key(7), Ok(encoded(0.5)));
    assert_eq!(second.all().await, [Ok(encoded(0.5))]);
}

#[tokio::test]
async fn a_failure_is_told_and_not_kept() {
    let queue = queue(10);
    let answers = ask(&queue, [(1, 10), (2, 10)]);
    assert_eq!(next(&queue), [1, 2]);
    queue.complete(key(1), Ok(encoded(0.5)));
    queue.complete(key(2), Err(EncodeError::NotFinite));
    assert_eq!(answers.all().await, [Ok(encoded(0.5)), Err(EncodeError::NotFinite)]);
    let _again = ask(&queue, [(1, 10), (2, 10)]);
    assert_eq!(next(&queue), [2]);
}

#[test]
fn a_text_whose_caller_is_gone_is_dropped_at_once() {
    let queue = queue(10);
    let gone = ask(&queue, [(1, 10), (2, 10)]);
    let _stays = ask(&queue, [(2, 10), (3, 10)]);
    drop(gone);
    assert_eq!(queue.depth(), 2);
    assert_eq!(next(&queue), [2, 3]);
    let mut waits = Box::pin(ask(&queue, [(4, 10)]).all());
    assert!(waits.as_mut().now_or_never().is_none());
    drop(waits);
    assert_eq!(queue.depth(), 0);
}

#[test]
fn texts_that_do_not_fit_are_refused_together() {
    let queue = queue(3);
    let _answers = ask(&queue, [(1, 1), (2, 1)]);
    let refused = queue.open(2, None).unwrap_err();
    assert_eq!(refused, Refused::Full { waiting: 2, new: 2, max_texts: 3 });
    let promised = queue.open(1, None).unwrap();
    assert!(queue.open(1, None).is_err(), "the last place is promised");
    drop(promised);
    assert!(queue.open(1, None).is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_would_be_answered_too_late_is_refused_at_once() {
    let queue = queue(1000);
    let within = |seconds| Some(Instant::now() + Duration::from_secs(seconds));
    // 1,000 tokens take two threads 5 s, at 100 a second each.
    let _answers: Vec<_> = (0..10).map(|name| ask(&queue, [(name, 100)])).collect();
    let refused = queue.open(1, within(8)).unwrap_err();
    assert_eq!(refused, Refused::Late { wait: Duration::from_secs(5), left: Duration::from_secs(8) });
    assert_eq!(refused.retry_after(), Duration::from_secs(1));
    assert!(queue.open(1, within(9)).is_ok());
    assert!(queue.open(1, None).is_ok());
    assert_eq!(queue.open(1, within(0)).unwrap_err().retry_after(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_large_request_that_waits_refuses_no_small_one() {
    let queue = queue(1000);
    let soon = Some(Instant::now() + Duration::from_secs(2));
    let _large = ask_much(&queue, 100, 100);
    assert!(queue.open(1, soon).is_ok());
    assert!(matches!(queue.open(SMALL_TEXTS + 1, soon), Err(Refused::Late { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_larger_request_that_waits_refuses_no_smaller_one() {
    let queue = queue(1000);
    let soon = Some(Instant::now() + Duration::from_secs(60));
    let _larger = ask(&queue, (0..500).map(|name| (name, 100)));
    assert!(queue.open(SMALL_TEXTS + 1, soon).is_ok(), "66 of the 500 at most come before it: 33 s");
    assert!(matches!(queue.open(200, soon), Err(Refused::Late { .. })), "400 of them: 200 s");
}

#[tokio::test(start_paused = true)]
async fn texts_that_are_promised_take_time_as_well() {
    let queue = queue(1000);
    let soon = Some(Instant::now() + Duration::from_secs(10));
    let promised: Vec<_> = (0..20).map(|_| queue.open(1, None).unwrap()).collect();
    assert!(matches!(queue.open(1, soon), Err(Refused::Late { .. })), "20 of 64 tokens: 6.4 s");
    drop(promised);
    assert!(queue.open(1, soon).is_ok());
}

#[test]
fn what_a_thread_for_small_requests_takes_delays_no_large_one() {
    let queue = queue(1000);
    let _large = ask_much(&queue, 100, 50);
    assert_eq!(next(&queue), [100, 101]);
    for name in 0..20 {
        let _small = ask(&queue, [(name, 90)]);
        assert!(queue.state.lock().take(Takes::Small, &Budgets::fixed(100)).is_some());
    }
    let _other = ask_much(&queue, 200, 50);
    assert_eq!(next(&queue), [200, 102], "they take turns");
}

#[tokio::test]
async fn the_pace_follows_what_batches_take() {
    let queue = queue(10);
    for _ in 0..200 {
        queue.done(false, 100, Duration::from_millis(100));
    }
    let pace = queue.state.lock().seconds_per_token;
    assert!((pace - 0.001).abs() < 1e-5, "{pace}");
}

#[tokio::test]
async fn a_closed_queue_drops_what_waits_and_what_comes_later() {
    let queue = queue(3);
    let waits = ask(&queue, [(1, 1)]);
    queue.close();
    let late = ask(&queue, [(2, 1)]);
    assert!(pop(&queue).is_none());
    assert_eq!(waits.all().await, [Err(EncodeError::Gone)]);
    assert_eq!(late.all().await, [Err(EncodeError::Gone)]);
}
