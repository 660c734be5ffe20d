//! Choices of real users: feedback improves the ranking of unseen pairs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it saw"
)]

mod common;

use std::io::{BufRead, BufReader};

use common::{Client, numbers, root, shared_data, start};
use flate2::read::GzDecoder;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Number of choices that a user gives.
const N_FED: usize = 60;

/// Returns the share of pairs whose chosen response is ranked above the rejected one.
async fn accuracy(client: &Client, user: Option<&str>, pairs: &[Value]) -> f64 {
    let item =
        |pair: &Value| json!({ "prompt": pair["prompt"], "responses": [pair["chosen"], pair["rejected"]] });
    let mut wins = 0.0;
    for chunk in pairs.chunks(50) {
        let mut request = json!({ "items": chunk.iter().map(item).collect::<Vec<_>>() });
        if let Some(user) = user {
            request["user"] = json!(user);
        }
        let (status, answer) = client.post("/score", &request).await;
        assert_eq!(status, 200, "{answer}");
        for item in answer["items"].as_array().unwrap() {
            let rewards = numbers(&item["rewards"]);
            wins += if rewards[0] > rewards[1] { 1.0 } else { 0.0 };
        }
    }
    wins / pairs.len() as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_real_choices_rank_the_rest_of_the_group_better_than_a_strangers_weights() {
    let Some(data) = shared_data("people") else { return };
    let file = std::fs::File::open(data.join("hh-rlhf.jsonl.gz")).unwrap();
    let rows = BufReader::new(GzDecoder::new(file)).lines();
    let rows: Vec<Value> = rows.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let settings = [("server.request_timeout", "10m")];
    let (app, _) = start(&root().join("models/default"), &settings).await;
    let client = Client::new(app.address);
    for group in ["helpful", "harmless"] {
        let mut pairs: Vec<Value> =
            rows.iter().filter(|row| row["split"] == "test" && row["group"] == group).cloned().collect();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for i in (1..pairs.len()).rev() {
            pairs.swap(i, rng.random_range(0..=i));
        }
        let (fed, rest) = pairs.split_at(N_FED);
        let event = |(idx, pair): (usize, &Value)| {
            json!({ "event_id": format!("{idx}"), "user": group, "kind": "pair", "prompt": pair["prompt"],
                    "chosen": pair["chosen"], "rejected": pair["rejected"] })
        };
        let stranger = accuracy(&client, None, rest).await;
        let (status, acks) = client.post("/feedback", &fed.iter().enumerate().map(event).collect()).await;
        assert_eq!(status, 200);
        assert!(acks.as_array().unwrap().iter().all(|ack| ack["status"] == "applied"), "{acks}");
        let known = accuracy(&client, Some(group), rest).await;
        let se = (known * (1.0 - known) / rest.len() as f64).sqrt();
        let length = rest.iter().map(|pair| {
            let n = |field: &str| pair[field].as_str().unwrap().chars().count();
            if n("chosen") > n("rejected") { 1.0 } else { 0.0 }
        });
        let length = length.sum::<f64>() / rest.len() as f64;
        let n = rest.len();
        println!(
            "{group}: n {n}, length {length:.3}, stranger {stranger:.3}, after {N_FED} {known:.3}, se {se:.3}"
        );
        let (_, view) = client.get(&format!("/users/{group}")).await;
        println!("{view}");
        assert!(known > stranger, "{group}: {known} {stranger}");
    }
    app.stop().await;
}
