//! Objectives for policies that many users share, over HTTP on the toy bundle.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Client, numbers, start, toy};
use serde_json::{Value, json};

const KIND: &str = "thanks friend glad";
const EXACT: &str = "exactly seven percent";
const PLAYFUL: &str = "haha pirate banana";

fn request(extra: &Value) -> Value {
    let mut request = json!({ "detail": true, "items": [
        { "prompt": "tell me about tea", "responses": [KIND, EXACT, "thanks exactly haha"] },
        { "prompt": "please friend", "responses": [KIND] } ] });
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    request
}

async fn score(client: &Client, extra: Value) -> Value {
    let (status, answer) = client.post("/score", &request(&extra)).await;
    assert_eq!(status, 200, "{extra}: {answer}");
    answer
}

fn rewards(answer: &Value) -> Vec<f64> {
    numbers(&answer["items"][0]["rewards"])
}

/// Adds twenty pairs of one user, the first response always preferred.
async fn feed(client: &Client, user: &str, chosen: &str, rejected: &str) {
    let event = |id: usize| {
        json!({ "event_id": format!("{id}"), "user": user, "kind": "pair", "prompt": "tell me",
                "chosen": chosen, "rejected": rejected })
    };
    let (status, _) = client.post("/feedback", &(0..20).map(event).collect()).await;
    assert_eq!(status, 200);
}

fn assert_close(a: &[f64], b: &[f64]) {
    assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?} {b:?}");
}

/// Applies `f` to the rewards of the heads for each response.
fn over_heads(answer: &Value, f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    answer["items"][0]["heads"].as_array().unwrap().iter().map(|z| f(&numbers(z))).collect()
}

#[tokio::test]
async fn maxmin_and_quantiles_are_of_the_heads_that_the_answer_shows() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let plain = score(&client, json!({})).await;
    assert_eq!((&plain["objective"], &plain["users"]), (&Value::Null, &Value::Null));
    assert_eq!(score(&client, json!({ "objective": "mixture" })).await, plain);
    let worst = over_heads(&plain, |z| z.iter().copied().fold(f64::INFINITY, f64::min));
    let best = over_heads(&plain, |z| z.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    let all = score(&client, json!({ "objective": "maxmin", "min_share": 0 })).await;
    assert_eq!(all["objective"], json!("maxmin"));
    assert_close(&rewards(&all), &worst);
    assert_close(&rewards(&score(&client, json!({ "objective": "quantile", "q": 0 })).await), &worst);
    let top = json!({ "objective": "quantile", "q": 1, "over": "heads", "share_of": "population" });
    assert_close(&rewards(&score(&client, top).await), &best);
    for (name, expected) in
        [("weights", &plain["items"][0]["weights"]), ("heads", &plain["items"][0]["heads"])]
    {
        assert_eq!(&all["items"][0][name], expected, "detail is the mixture's");
    }

    // Ann's weights are all at one head; in the population all four have a quarter.
    feed(&client, "ann", KIND, EXACT).await;
    feed(&client, "ann", KIND, PLAYFUL).await;
    feed(&client, "ann", KIND, "thanks").await;
    let own = score(&client, json!({ "user": "ann", "objective": "maxmin" })).await;
    assert!(numbers(&own["items"][0]["weights"])[0] > 0.9, "{own}");
    assert_close(&rewards(&own), &over_heads(&own, |z| z[0]));
    let all = json!({ "user": "ann", "objective": "maxmin", "share_of": "population" });
    assert_close(&rewards(&score(&client, all).await), &worst);
    let largest = json!({ "user": "ann", "objective": "maxmin", "min_share": 1 });
    assert_close(&rewards(&score(&client, largest).await), &over_heads(&own, |z| z[0]));
    app.stop().await;
}

#[tokio::test]
async fn a_population_is_the_mean_of_its_users_whoever_asks() {
    let (app, _) = start(&toy(), &[("population.refresh", "1ms")]).await;
    let client = Client::new(app.address);
    let nobody = score(&client, json!({ "objective": "population" })).await;
    let prior = score(&client, json!({})).await;
    assert_eq!((&nobody["objective"], &nobody["users"]), (&json!("population"), &json!(0)));
    assert_close(&rewards(&nobody), &rewards(&prior));
    feed(&client, "ann", KIND, EXACT).await;
    feed(&client, "bob", EXACT, KIND).await;
    feed(&client, "cat", EXACT, KIND).await;
    let mut each = Vec::new();
    for user in ["ann", "bob", "cat"] {
        each.push(rewards(&score(&client, json!({ "user": user })).await));
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    for asker in [json!({ "objective": "population" }), json!({ "objective": "population", "user": "ann" })] {
        let answer = score(&client, asker).await;
        assert_eq!(answer["users"], json!(3));
        let mean: Vec<f64> = (0..3).map(|i| each.iter().map(|user| user[i]).sum::<f64>() / 3.0).collect();
        assert_close(&rewards(&answer), &mean);
    }
    // Two of three users prefer exact responses: the median is theirs, the lowest quantile of a kind response too,
    // and the highest is Ann's.
    for (q, user) in [(0.5, 1), (0.0, 1), (1.0, 0)] {
        let answer = score(&client, json!({ "objective": "quantile", "over": "users", "q": q })).await;
        assert!((rewards(&answer)[0] - each[user][0]).abs() < 1e-6, "{q}: {answer} {each:?}");
    }
    let (_, ranked) =
        client.post("/rank", &request(&json!({ "objective": "population", "user": "ann" }))).await;
    assert_eq!((&ranked["items"][0]["order"][0], &ranked["objective"]), (&json!(1), &json!("population")));
    let best = numbers(&ranked["items"][0]["best"]);
    assert!(best[1] > best[0] && (best.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{ranked}");
    let (_, own) = client.post("/rank", &request(&json!({ "user": "ann" }))).await;
    assert_eq!(own["items"][0]["order"][0], json!(0));
    app.stop().await;
}

#[tokio::test]
async fn a_sample_is_kept_until_it_is_refreshed() {
    let (app, _) = start(&toy(), &[("population.refresh", "1h"), ("population.sample_size", "2")]).await;
    let client = Client::new(app.address);
    for user in ["ann", "bob", "cat"] {
        feed(&client, user, EXACT, KIND).await;
    }
    let before = score(&client, json!({ "objective": "population" })).await;
    assert_eq!(before["users"], json!(2), "no more than `population.sample_size`");
    for user in ["ann", "bob", "cat"] {
        client.delete(&format!("/users/{user}")).await;
    }
    assert_eq!(score(&client, json!({ "objective": "population" })).await, before);
    app.stop().await;
}

/// The request is long enough to leave the async threads: its answer equals that of a short one.
#[tokio::test]
async fn many_items_are_routed_as_one_is() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    feed(&client, "ann", KIND, EXACT).await;
    let item = json!({ "prompt": "tell me about tea", "responses": [KIND, EXACT] });
    let (_, one) = client.post("/score", &json!({ "user": "ann", "items": [item] })).await;
    let (status, many) = client.post("/score", &json!({ "user": "ann", "items": vec![item; 1200] })).await;
    assert_eq!((status, many["items"].as_array().unwrap().len()), (200, 1200));
    for answer in many["items"].as_array().unwrap() {
        assert_close(&numbers(&answer["rewards"]), &rewards(&one));
    }
    app.stop().await;
}

#[tokio::test]
async fn a_parameter_that_does_not_fit_its_objective_is_refused_by_name() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let cases = [
        (json!({ "objective": "best" }), "objective", "\"maxmin\""),
        (json!({ "objective": "maxmin", "q": 0.5 }), "q", "does not belong to the objective maxmin"),
        (json!({ "q": 0.5 }), "q", "does not belong to the objective mixture"),
        (json!({ "min_share": 0.5 }), "min_share", "does not belong to the objective mixture"),
        (
            json!({ "objective": "population", "over": "users" }),
            "over",
            "does not belong to the objective population",
        ),
        (json!({ "objective": "maxmin", "over": "users" }), "over", "does not belong"),
        (json!({ "objective": "quantile", "q": 0.5, "min_share": 0.1 }), "min_share", "does not belong"),
        (
            json!({ "objective": "quantile", "q": 0.5, "over": "users", "share_of": "weights" }),
            "share_of",
            "over users",
        ),
        (json!({ "objective": "quantile" }), "q", "missing"),
        (json!({ "objective": "quantile", "q": 1.5 }), "q", "found 1.5, expected a number from 0 to 1"),
        (json!({ "objective": "quantile", "q": "0.5" }), "q", "expected a number"),
        (json!({ "objective": "quantile", "q": 0.5, "over": "people" }), "over", "\"heads\""),
        (json!({ "objective": "maxmin", "min_share": -0.1 }), "min_share", "found -0.1"),
        (json!({ "objective": "maxmin", "share_of": "all" }), "share_of", "\"weights\""),
    ];
    for path in ["/score", "/rank"] {
        for (extra, field, words) in &cases {
            let (status, problem) = client.post(path, &request(extra)).await;
            let found = (status, &problem["code"], &problem["field"]);
            assert_eq!(found, (400, &json!("invalid_field"), &json!(field)), "{extra}: {problem}");
            assert!(problem["detail"].as_str().unwrap().contains(words), "{extra}: {problem}");
        }
    }
    let compare = json!({ "prompt": "tea", "a": KIND, "b": EXACT, "objective": "maxmin" });
    assert_eq!(client.post("/compare", &compare).await.0, 400, "/compare is of one user alone");
    app.stop().await;
}
