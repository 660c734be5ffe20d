//! A reward does not depend on the other texts of a request: the real encoder on 200 real texts of mixed length.
//!
//! The texts are this repository's prose and code, cut into passages of 1 to 400 words.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it saw"
)]

mod common;

use common::{Client, numbers, root, start};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const N_TEXTS: usize = 200;

fn texts() -> Vec<String> {
    let mut words = Vec::new();
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "config/default.toml",
        "src/lib.rs",
        "src/mixture/weights.rs",
        "src/batch/queue.rs",
        "src/model/bundle.rs",
        "src/fit/mixture_loss.rs",
        "tests/http.rs",
        "LICENSE",
    ] {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        words.extend(text.split_whitespace().map(str::to_owned));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    (0..N_TEXTS)
        .map(|_| {
            let n = [1, 8, 20, 60, 150, 400][rng.random_range(0..6)];
            let start = rng.random_range(0..words.len() - n);
            words[start..start + n].join(" ")
        })
        .collect()
}

async fn rewards(client: &Client, texts: &[String]) -> Vec<f64> {
    let request = json!({ "items": [{ "prompt": "What is this?", "responses": texts }] });
    let (status, answer) = client.post("/score", &request).await;
    assert_eq!(status, 200, "{answer}");
    numbers(&answer["items"][0]["rewards"])
}

/// Checks that rewards are equal to the last bit.
fn assert_equal(found: &[f64], expected: &[f64], how: &str) {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("{how}: largest difference {worst:.1e}");
    assert_eq!(found, expected, "{how}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_texts_score_the_same_bits_alone_together_shuffled_and_under_32_clients() {
    // The cache is off, so that every text is encoded anew with other mates.
    let settings = [("server.request_timeout", "10m"), ("cache.max_bytes", "0")];
    let (app, _) = start(&root().join("models/default"), &settings).await;
    let client = Client::new(app.address);
    let texts = texts();

    let mut alone = Vec::new();
    for text in &texts {
        alone.extend(rewards(&client, std::slice::from_ref(text)).await);
    }
    assert_equal(&rewards(&client, &texts).await, &alone, "together");

    let mut order: Vec<usize> = (0..N_TEXTS).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for i in (1..N_TEXTS).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    let pick = |from: &[f64]| order.iter().map(|&idx| from[idx]).collect::<Vec<_>>();
    let shuffled: Vec<String> = order.iter().map(|&idx| texts[idx].clone()).collect();
    assert_equal(&rewards(&client, &shuffled).await, &pick(&alone), "shuffled");

    let clients = (0..32).map(|first| {
        let (client, texts, alone) = (client.clone(), texts.clone(), alone.clone());
        tokio::spawn(async move {
            for idx in (first..N_TEXTS).step_by(32) {
                let found = rewards(&client, std::slice::from_ref(&texts[idx])).await;
                assert_eq!(found[0], alone[idx], "text {idx}");
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    // A large request runs beside the clients, so that the thread for small ones takes part.
    assert_equal(&rewards(&client, &texts).await, &alone, "together, beside 32 clients");
    for client in clients {
        client.await.unwrap();
    }
    let finite = alone.iter().all(|reward| reward.is_finite());
    let spread =
        alone.iter().copied().fold(f64::MIN, f64::max) - alone.iter().copied().fold(f64::MAX, f64::min);
    assert!(finite && spread > 0.5, "the texts do differ: {spread}");
    app.stop().await;
}
