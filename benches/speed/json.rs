//! JSON parsers on the requests and answers of trainers.

use std::time::{Duration, Instant};

use micro_reward::types::{ScoreAnswer, ScoreRequest, ScoredItem};
use serde_json::json;

use super::client::quantile;
use super::texts;
use super::texts::Kind;

const N_RUNS: usize = 200;

fn time(mut work: impl FnMut()) -> Duration {
    let once = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    quantile(&mut (0..N_RUNS).map(once).collect::<Vec<_>>(), 0.5)
}

/// Times each parser on a request of 1,024 responses and on its answer.
pub fn parsers() {
    const N: usize = 1024;
    let mut texts = texts();
    let responses = texts.some(Kind::Mixed, N);
    let body = json!({ "items": [{ "prompt": "Go on.", "responses": responses }] }).to_string().into_bytes();
    let parsed = [
        ("serde_json", time(|| drop(serde_json::from_slice::<ScoreRequest>(&body).unwrap()))),
        ("sonic-rs", time(|| drop(sonic_rs::from_slice::<ScoreRequest>(&body).unwrap()))),
        // `simd-json` parses in place, so each run copies the shared body.
        ("simd-json", time(|| drop(simd_json::from_slice::<ScoreRequest>(&mut body.clone()).unwrap()))),
    ];
    let rewards: Vec<f64> = (0..N).map(|n| (n as f64).sin()).collect();
    let item = ScoredItem {
        disagreement: rewards.clone(),
        rewards,
        truncated: vec![false; N],
        prompt_truncated: false,
        weights: None,
        heads: None,
        ids: None,
    };
    let answer = ScoreAnswer {
        revision: "0123456789abcdef".to_owned(),
        objective: micro_reward::types::ObjectiveKind::default(),
        users: None,
        stale: None,
        items: vec![item],
    };
    let written = [
        ("serde_json", time(|| drop(serde_json::to_vec(&answer).unwrap()))),
        ("sonic-rs", time(|| drop(sonic_rs::to_vec(&answer).unwrap()))),
        ("simd-json", time(|| drop(simd_json::to_vec(&answer).unwrap()))),
    ];
    for (what, times) in [("request read", parsed), ("answer written", written)] {
        for (name, time) in times {
            println!("{what}, {N} responses, {} KB: {name} {time:?}", body.len() / 1024);
        }
    }
}
