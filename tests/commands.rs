//! The commands as users run them, on the toy bundle: fit, check, replay, tune-router.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{json_lines, library, program, toy};
use micro_reward::model::{MANIFEST, Manifest};
use serde_json::{Value, json};

/// A directory with data and the files that the commands write.
struct Place(tempfile::TempDir);

impl Place {
    /// Creates the directory with `data.jsonl`.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("data.jsonl", &data());
        place
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, rows: &[Value]) -> String {
        self.write_text(name, &rows.iter().map(|row| format!("{row}\n")).collect::<String>())
    }

    fn write_text(&self, name: &str, text: &str) -> String {
        fs::write(self.at(name), text).unwrap();
        self.at(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap()
    }

    fn manifest(&self, bundle: &str) -> Manifest {
        let path = Path::new(&self.at(bundle)).join(MANIFEST);
        toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    /// Returns every file of a directory with its bytes.
    fn files(&self, bundle: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.at(bundle)).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> =
            entries.map(|path| (path.file_name().unwrap().into(), fs::read(path).unwrap())).collect();
        files.sort();
        files
    }

    /// Runs `command`, with the cache in this directory and the library of the checkout.
    fn run(&self, command: &str, args: &[&str]) -> Output {
        let mut line = program();
        line.arg(command).args(args);
        if command != "check" {
            line.args(["--cache", &self.at("cache")]).arg("--onnxruntime-library").arg(library());
        }
        line.output().unwrap()
    }

    /// Returns the output of a command that succeeds.
    #[track_caller]
    fn succeeds(&self, command: &str, args: &[&str]) -> String {
        let output = self.run(command, args);
        assert!(output.status.success(), "{command} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Checks that the command ends with this code, names all of `words` and leaves no bundle behind.
    #[track_caller]
    fn refuses(&self, code: i32, command: &str, args: &[&str], words: &[&str]) {
        let output = self.run(command, args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{command} {args:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} not in {said}");
        assert!(!Path::new(&self.at("refused")).exists(), "{command} {args:?} wrote a bundle");
    }

    #[track_caller]
    fn fit(&self, out: &str, more: &[&str]) -> String {
        let (toy, data, out) = (toy(), self.at("data.jsonl"), self.at(out));
        let args = ["--encoder", toy.to_str().unwrap(), "--data", &data, "--out", &out, "--name", "fitted"];
        self.succeeds("fit", &[&args[..], &["--ridge", "1"], more].concat())
    }

    #[track_caller]
    fn fit_refuses(&self, code: i32, more: &[&str], words: &[&str]) {
        let (toy, data, out) = (toy(), self.at("data.jsonl"), self.at("refused"));
        let args = ["--encoder", toy.to_str().unwrap(), "--data", &data, "--out", &out];
        self.refuses(code, "fit", &[&args[..], more].concat(), words);
    }

    #[track_caller]
    fn replay(&self, json: &str, more: &[&str]) -> String {
        let (bundle, data, json) = (self.at("bundle"), self.at("data.jsonl"), self.at(json));
        let args =
            ["--bundle", &bundle, "--data", &data, "--json", &json, "--seeds", "3", "--after", "0,1,4"];
        self.succeeds("replay", &[&args[..], more].concat())
    }

    #[track_caller]
    fn route(&self, out: &str, more: &[&str]) -> String {
        let (bundle, data, out) = (self.at("bundle"), self.at("data.jsonl"), self.at(out));
        let args = ["--bundle", &bundle, "--data", &data, "--out", &out, "--seeds", "2", "--budget", "2,8"];
        self.succeeds("tune-router", &[&args[..], more].concat())
    }
}

/// Returns rows of twelve users who prefer kind or exact responses and state that criterion; four are not learned
/// from.
fn data() -> Vec<Value> {
    let prompts = ["tell me about tea", "how is the weather", "what is it", "how is the tea"];
    let row = |i: usize| {
        let (user, vote) = (i / 10, i % 10);
        let kind = format!("{}thanks friend{}", "the tea ".repeat(vote % 3), " glad".repeat(1 + vote / 3));
        let exact = format!("{}exactly seven{}", "it is ".repeat(vote % 4), " percent".repeat(1 + vote / 4));
        let (group, chosen, rejected) = match user % 2 {
            0 => ("kind", kind, exact),
            _ => ("exact", exact, kind),
        };
        json!({
            "user": format!("u{user}"), "prompt": prompts[(user + vote) % prompts.len()], "group": group,
            "criterion": if group == "kind" { "please be a friend" } else { "proof because measured" },
            "chosen": chosen, "rejected": rejected, "split": if user < 8 { "train" } else { "test" },
        })
    };
    (0..120).map(row).collect()
}

fn without(field: &str) -> Vec<Value> {
    let mut rows = data();
    rows.iter_mut().for_each(|row| drop(row.as_object_mut().unwrap().remove(field)));
    rows
}

/// Returns the lines of a table without the last, which names the bundle's directory.
fn table(said: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = said.lines().collect();
    lines.pop();
    lines
}

#[test]
fn fit_says_first_what_it_learns_from_and_how() {
    let place = Place::new();
    let first = |name: &str, rows: &[Value]| {
        let data = place.write(name, rows);
        let args = ["--encoder", "models/toy", "--data", &data, "--out", &place.at("out"), "--k", "2"];
        let said = place.succeeds("fit", &args);
        said.lines().take(4).map(ToOwned::to_owned).collect::<Vec<String>>()
    };
    let said = first("whole.jsonl", &data());
    assert_eq!(said[0], "80 train rows, 8 people with 10.0 rows each; 40 test rows");
    assert_eq!(said[1], "mixture by user: every train row has a user");

    // One row without a user changes what is learned, so that it has to be said.
    let mut rows = data();
    rows[5].as_object_mut().unwrap().remove("user");
    rows[7]["rejected"] = rows[7]["chosen"].clone();
    rows[9] = rows[8].clone();
    let said = first("torn.jsonl", &rows);
    assert_eq!(said[0], "80 train rows, 8 people with 9.9 rows each; 40 test rows");
    assert_eq!(said[1], "mixture by prompt: 1 of 80 train rows has no user");
    assert_eq!(said[2], "1 train row with the same text chosen and rejected");
    assert_eq!(said[3], "1 train row repeated; each counts");

    let rows = without("user");
    assert_eq!(first("nobody.jsonl", &rows)[0], "80 train rows, no row has a user; 40 test rows");
}

#[test]
fn what_fit_writes_is_fit_to_serve_and_the_same_twice() {
    let place = Place::new();
    let first = place.fit("bundle", &["--k", "2"]);
    let said = place.succeeds("check", &["--bundle", &place.at("bundle")]);
    let manifest = place.manifest("bundle");
    assert!(said.contains(&format!("revision {}, 2 heads", manifest.revision)), "{said}");
    assert!(first.contains("data/kind") && first.contains(&manifest.revision), "{first}");
    // The second run finds the embeddings of the first and nothing else; the third finds nothing.
    let again = place.fit("again", &["--k", "2"]);
    fs::remove_dir_all(place.at("cache")).unwrap();
    let anew = place.fit("anew", &["--k", "2"]);
    assert_eq!([table(&first), table(&first)], [table(&again), table(&anew)]);
    assert_eq!(place.files("bundle"), place.files("again"));
    assert_eq!(place.files("bundle"), place.files("anew"));
}

#[test]
fn every_kind_of_columns_and_mixture_gives_a_bundle_that_is_fit_to_serve() {
    let place = Place::new();
    let runs: [&[&str]; 5] = [
        &["--k", "auto"],
        &["--k", "2", "--mixture", "prompt", "--epochs", "2", "--batch", "16"],
        &["--k", "1", "--features", "response"],
        &["--k", "2", "--features", "length,product,prompt", "--debias", "length"],
        &[
            "--k",
            "2",
            "--deviation-ridge",
            "3",
            "--router-personalization",
            "0",
            "--context-field",
            "criterion",
        ],
    ];
    for (idx, more) in runs.into_iter().enumerate() {
        let out = format!("bundle{idx}");
        place.fit(&out, more);
        place.succeeds("check", &["--bundle", &place.at(&out)]);
    }
    let prompts_too = place.manifest("bundle3").input.features;
    assert_eq!(serde_json::to_value(prompts_too).unwrap(), json!(["log_length", "response", "prompt"]));
}

#[test]
fn questions_that_fit_chooses_are_fit_to_serve() {
    let place = Place::new();
    let question = |i: usize| {
        let a = format!("thanks{}", " friend".repeat(i % 4));
        json!({ "prompt": "what is it", "a": a, "b": format!("exactly{}", " seven".repeat(i % 5)) })
    };
    // A question counts once, also swapped or repeated.
    let mut rows: Vec<Value> = (0..6).map(question).collect();
    rows.push(json!({ "prompt": "what is it", "a": rows[0]["b"], "b": rows[0]["a"] }));
    rows.push(rows[1].clone());
    rows.push(json!({ "prompt": "what is it", "a": "tea", "b": "tea" }));
    let candidates = place.write("candidates.jsonl", &rows);
    for (out, n, expected) in [("bundle", "3", 3), ("all", "64", 6)] {
        place.fit(out, &["--k", "2", "--questions", n, "--candidates", &candidates]);
        place.succeeds("check", &["--bundle", &place.at(out)]);
        let text = String::from_utf8(place.read(&format!("{out}/questions.jsonl"))).unwrap();
        let questions = json_lines(&text);
        let ids: Vec<&str> = questions.iter().map(|question| question["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["q01", "q02", "q03", "q04", "q05", "q06"][..expected]);
        assert!(place.manifest(out).questions.is_some());
    }
    place.fit("none", &["--k", "2"]);
    assert!(place.manifest("none").questions.is_none());
    let (none, some) = (place.manifest("none"), place.manifest("bundle"));
    assert_eq!(none.revision, some.revision, "questions change no score");
    assert_eq!(none.heads, some.heads, "candidates are not learned from");
}

#[test]
fn replay_of_what_fit_wrote_finds_the_groups_and_is_the_same_twice() {
    let place = Place::new();
    place.fit("bundle", &["--k", "2"]);
    for (order, reserve) in [("random", "0"), ("given", "0"), ("informative", "0.5")] {
        let more = ["--order", order, "--reserve", reserve];
        let first = place.replay("a.json", &more);
        assert_eq!(first, place.replay("b.json", &more));
        let (a, b) = (place.read("a.json"), place.read("b.json"));
        assert_eq!(a, b, "{order}");
        let figures: Value = serde_json::from_slice(&a).unwrap();
        assert_eq!(figures["revision"], place.manifest("bundle").revision);
        assert_eq!(figures["groups"], json!(["kind", "exact"]));
        assert_eq!(figures["n"], json!([20, 20, 40]));
        let curves = figures["curves"].as_array().unwrap();
        let ledger = curves.iter().find(|curve| curve["rule"] == "Bayes ledger" && curve["group"].is_null());
        let points = ledger.unwrap()["points"].as_array().unwrap();
        let accuracy = |idx: usize| points[idx]["accuracy"]["mean"].as_f64().unwrap();
        assert_eq!(points[0]["people"], 4);
        assert!(accuracy(2) > 0.9 && accuracy(2) > accuracy(0), "{order}: {points:?}");
        assert!(first.contains("Bayes ledger: exact") && first.contains("oracle head"), "{first}");
        let of = |rule: &str| curves.iter().find(|curve| curve["rule"] == rule).unwrap()["points"][2].clone();
        assert_eq!(of("Bayes ledger")["over_ledger"]["mean"], 0.0);
        assert!(of("ledger and blend")["over_ledger"]["mean"].is_f64(), "{first}");
    }
    let said = place.replay("disjoint.json", &["--disjoint", "0.5"]);
    assert!(
        said.starts_with(
            "accuracy after n labels on each person's choices between responses without a label"
        )
    );
    let figures: Value = serde_json::from_slice(&place.read("disjoint.json")).unwrap();
    assert_eq!(figures["disjoint"], 0.5);
}

#[test]
fn replay_without_a_train_row_leaves_out_what_needs_one_and_says_so() {
    let place = Place::new();
    place.fit("bundle", &["--k", "2"]);
    let whole = place.replay("whole.json", &["--order", "given"]);
    assert!(!whole.contains("left out"), "{whole}");
    place.write("data.jsonl", &data_of("test"));
    let said = place.replay("alone.json", &["--order", "given", "--html", &place.at("alone.html")]);
    let expected = "left out, for want of train rows of others than the people replayed: style ruler, lexical ruler, single head, best head, blend ledger, ledger and blend, quantile over users, population";
    assert!(said.lines().any(|line| line == expected), "{said}");
    let line = |said: &str, rule: &str| {
        let line = said.lines().find(|line| line.starts_with(rule));
        line.map(ToOwned::to_owned)
    };
    for rule in ["length only", "static mixture", "Bayes ledger", "oracle head", "mixture", "maxmin"] {
        assert_eq!(line(&said, rule), line(&whole, rule), "{rule} needs no train row");
        assert!(line(&said, rule).is_some(), "{rule}");
    }
    assert_eq!([line(&said, "single head"), line(&said, "population")], [None, None]);
    let figures: Value = serde_json::from_slice(&place.read("alone.json")).unwrap();
    assert_eq!((&figures["best_head"], &figures["known"]), (&Value::Null, &json!(0)));
    assert_eq!(figures["left_out"].as_array().unwrap().len(), 8);
    let page = String::from_utf8(place.read("alone.html")).unwrap();
    assert!(page.contains("left out, for want of train rows") && page.contains("Sure and right"));
}

#[test]
fn route_changes_the_router_alone_and_is_the_same_twice() {
    let place = Place::new();
    place.fit("bundle", &["--k", "2", "--context-field", "nothing"]);
    let before = place.files("bundle");
    let first = place.route("routed", &["--json", &place.at("a.json")]);
    let again = place.route("again", &["--json", &place.at("b.json")]);
    assert_eq!(table(&first), table(&again));
    assert_eq!(place.files("routed"), place.files("again"));
    assert_eq!(place.files("bundle"), before, "what is read is not written");
    place.succeeds("check", &["--bundle", &place.at("routed")]);
    for ((name, old), (same, new)) in before.iter().zip(&place.files("routed")) {
        assert_eq!(name, same);
        let is_changed = name == Path::new("router.onnx") || name == Path::new(MANIFEST);
        assert_eq!(old != new, is_changed, "{}", name.display());
    }
    assert_ne!(place.manifest("bundle").revision, place.manifest("routed").revision);
    // The rule decides which router is written.
    let paper = place.route("paper", &["--rule", "paper"]);
    assert_eq!(table(&paper), table(&first), "both rules are measured, whichever makes the bundle");
    assert_ne!(place.manifest("paper").revision, place.manifest("routed").revision);
    // A tuned router is one that `fit` could have written, so that it can be tuned on.
    let (routed, data, out) = (place.at("routed"), place.at("data.jsonl"), place.at("tuned on"));
    let args = ["--bundle", &routed, "--data", &data, "--out", &out, "--seeds", "1", "--budget", "2"];
    place.succeeds("tune-router", &args);
    place.succeeds("check", &["--bundle", &out]);
}

#[test]
fn fit_and_route_without_a_test_row_make_the_same_bundle_and_measure_nothing() {
    let place = Place::new();
    place.fit("bundle", &["--k", "2", "--context-field", "nothing"]);
    place.route("routed", &[]);
    place.write("data.jsonl", &data_of("train"));
    place.fit("alone", &["--k", "2", "--context-field", "nothing"]);
    let graphs =
        |bundle: &str| ["heads.onnx", "router.onnx"].map(|name| place.read(&format!("{bundle}/{name}")));
    assert_eq!(graphs("alone"), graphs("bundle"));
    let said =
        place.route("untested", &["--html", &place.at("route.html"), "--json", &place.at("route.json")]);
    assert!(said.starts_with("nothing is measured, for want of test rows\n"), "{said}");
    assert_eq!(graphs("untested"), graphs("routed"));
    let figures: Value = serde_json::from_slice(&place.read("route.json")).unwrap();
    assert_eq!((&figures["rows"], &figures["people"]), (&json!([]), &json!(0)));
    let page = String::from_utf8(place.read("route.html")).unwrap();
    assert!(page.contains("What the labels of a criterion say") && !page.contains("Differences"));
}

#[test]
fn every_command_writes_a_page_that_asks_for_nothing() {
    let place = Place::new();
    place.fit("bundle", &["--k", "2", "--html", &place.at("fit.html")]);
    place.replay("a.json", &["--html", &place.at("replay.html")]);
    place.route("routed", &["--html", &place.at("route.html")]);
    for (name, words) in [
        ("fit.html", ["Every head on every group", "Sure and right", "What each head likes"]),
        ("replay.html", ["Accuracy as labels come in", "One policy for everybody", "The weights of"]),
        ("route.html", ["Accuracy by labels", "By criterion", "What the labels of a criterion say"]),
    ] {
        let page = String::from_utf8(place.read(name)).unwrap();
        assert!(words.iter().all(|word| page.contains(word)), "{name}");
        assert!(page.contains("<svg") && !page.contains("src=") && !page.contains("<script"), "{name}");
    }
}

#[test]
fn flags_that_make_no_sense_are_named() {
    let place = Place::new();
    place.fit_refuses(2, &["--k", "0"], &["--k", "\"0\"", "from 1 to 64"]);
    place.fit_refuses(2, &["--k", "2,x"], &["--k", "\"x\""]);
    place.fit_refuses(2, &["--merge=-1"], &["--merge", "found -1"]);
    place.fit_refuses(2, &["--ridge", "1,nan"], &["--ridge", "nan", "a number >= 0"]);
    place.fit_refuses(2, &["--questions", "3"], &["--candidates"]);
    place.fit_refuses(2, &["--features", "size"], &["--features", "size"]);
    place.fit_refuses(64, &["--features", "length,length"], &["--features", "Length twice"]);
    let debias = ["--features", "response", "--debias", "length"];
    place.fit_refuses(64, &debias, &["--debias length", "found no length"]);
    let data = place.at("data.jsonl");
    place.refuses(2, "replay", &["--data", &data, "--reserve", "0.95"], &["--reserve", "0.95"]);
    place.refuses(2, "replay", &["--data", &data, "--reserve", "0.5", "--disjoint", "0.5"], &["--disjoint"]);
    place.refuses(2, "replay", &["--data", &data, "--transfer", "2"], &["--transfer", "found 2"]);
    for rate in ["0", "2000", "nan"] {
        let found = format!("found {rate}, expected a number above 0, at most 1000");
        place.refuses(2, "replay", &["--data", &data, "--learning-rate", rate], &["--learning-rate", &found]);
    }
    place.refuses(2, "replay", &["--data", &data, "--seeds", "0"], &["--seeds"]);
    let out = place.at("refused");
    let route = ["--bundle", "models/toy", "--data", &data, "--out", &out, "--budget", "0"];
    place.refuses(2, "tune-router", &route, &["--budget"]);
}

#[test]
fn data_that_lack_a_field_are_named() {
    let place = Place::new();
    let nobody = place.write("nobody.jsonl", &without("user"));
    let words = ["`user`", "nobody"];
    place.refuses(64, "replay", &["--bundle", "models/toy", "--data", &nobody], &words);
    let by_user = ["--mixture", "user", "--encoder", "models/toy", "--data", &nobody, "--out"];
    place.refuses(
        64,
        "fit",
        &[&by_user[..], &[&place.at("refused")]].concat(),
        &["--mixture user", "`user`", "nobody"],
    );

    let (data, out) = (place.at("data.jsonl"), place.at("refused"));
    let route = ["--bundle", "models/toy", "--data", &data, "--out", &out, "--criterion-field", "aspect"];
    place.refuses(64, "tune-router", &route, &["--criterion-field", "`aspect`", "in data"]);

    let mut rows = data_of("train");
    let train = place.write("train.jsonl", &rows);
    place.refuses(
        64,
        "replay",
        &["--bundle", "models/toy", "--data", &train],
        &["test split", "train.jsonl"],
    );
    rows = data_of("test");
    let test = place.write("test.jsonl", &rows);
    let fit = ["--encoder", "models/toy", "--data", &test, "--out", &out];
    place.refuses(64, "fit", &fit, &["train split", "test.jsonl"]);
}

fn data_of(split: &str) -> Vec<Value> {
    data().into_iter().filter(|row| row["split"] == split).collect()
}

#[test]
fn columns_of_other_names_are_read_by_a_map_and_unknown_ones_are_told() {
    let place = Place::new();
    let renamed = |row: Value| {
        let mut row = row;
        row["question"] = row["prompt"].take();
        row.to_string()
    };
    let rows: Vec<String> = data().into_iter().map(renamed).collect();
    let (data, out) = (place.write_text("renamed.jsonl", &rows.join("\n")), place.at("mapped"));
    let fit = ["--encoder", "models/toy", "--data", &data, "--out", &out, "--ridge", "1"];
    place.succeeds("fit", &[&fit[..], &["--map", "prompt=question"]].concat());
    place.refuses(64, "fit", &fit, &["renamed.jsonl:1: missing `prompt`"]);
    place.refuses(
        2,
        "fit",
        &[&fit[..], &["--map", "question=prompt"]].concat(),
        &["found the name \"question\""],
    );
    let unknown = ["--map", "prompt=question,group=topic,weight=share"];
    place.refuses(
        64,
        "fit",
        &[&fit[..], &unknown].concat(),
        &["--map: found no row with the column `share`"],
    );
}

#[test]
fn a_line_that_can_not_be_read_is_named_by_every_command() {
    let place = Place::new();
    let good = data()[0].to_string();
    let bad = place.write_text("bad.jsonl", &format!("{good}\n{good}\n{{\"prompt\": \n"));
    let (data, out) = (place.at("data.jsonl"), place.at("refused"));
    let words = ["bad.jsonl:3: "];
    place.refuses(64, "fit", &["--encoder", "models/toy", "--out", &out, "--data", &data, &bad], &words);
    place.refuses(64, "replay", &["--bundle", "models/toy", "--data", &data, &bad], &words);
    place.refuses(
        64,
        "tune-router",
        &["--bundle", "models/toy", "--out", &out, "--data", &data, &bad],
        &words,
    );
    place.fit_refuses(64, &["--candidates", &bad, "--questions", "2"], &words);
    place.fit_refuses(64, &["--responses", &bad], &["bad.jsonl:1: ", "missing field `id`"]);
    place.refuses(64, "replay", &["--data", &place.at("nowhere.jsonl")], &["nowhere.jsonl: can't be read"]);
}

#[test]
fn a_bundle_that_is_not_there_is_named() {
    let place = Place::new();
    let (data, nowhere, out) = (place.at("data.jsonl"), place.at("nowhere"), place.at("refused"));
    let words = ["nowhere", "bundle.toml", "can't be read"];
    place.refuses(64, "fit", &["--encoder", &nowhere, "--data", &data, "--out", &out], &words);
    place.refuses(64, "replay", &["--bundle", &nowhere, "--data", &data], &words);
    place.refuses(64, "tune-router", &["--bundle", &nowhere, "--data", &data, "--out", &out], &words);
}

/// Returns the rows of `data` as exports of /export/preferences: pairs and a ranking, and thumbs.
fn exports() -> [Vec<Value>; 2] {
    let (mut said, mut thumbs) = (Vec::new(), Vec::new());
    for (i, row) in data().into_iter().enumerate() {
        let export = |columns: Value, kind: &str, event: usize| {
            let mut export = columns;
            for (name, value) in [
                ("prompt", row["prompt"].clone()),
                ("user", row["user"].clone()),
                ("context", Value::Null),
                ("at", json!("2026-01-01T00:00:00Z")),
                ("kind", json!(kind)),
                ("event_id", json!(format!("e{event}"))),
                ("comment", Value::Null),
                ("metadata", Value::Null),
            ] {
                export[name] = value;
            }
            export
        };
        let pair = |chosen: &Value, rejected: &Value, weight: f64| json!({ "chosen": chosen, "rejected": rejected, "weight": weight });
        let third = json!("weather");
        if i % 5 == 0 {
            for (chosen, rejected) in
                [(&row["chosen"], &row["rejected"]), (&row["chosen"], &third), (&row["rejected"], &third)]
            {
                said.push(export(pair(chosen, rejected, 1.0 / 3.0), "ranking", i));
            }
        } else {
            said.push(export(pair(&row["chosen"], &row["rejected"], 1.0), "pair", i));
        }
        let label = json!({ "completion": row["chosen"], "label": true });
        thumbs.push(export(label, "thumb", 1000 + 2 * i));
        thumbs.push(export(json!({ "completion": row["rejected"], "label": false }), "thumb", 1001 + 2 * i));
    }
    [said, thumbs]
}

#[test]
fn an_export_is_fitted_and_replayed_as_it_is() {
    let place = Place::new();
    let [said, thumbs] = exports();
    let (said, thumbs) = (place.write("said.jsonl", &said), place.write("thumbs.jsonl", &thumbs));
    let held_out = ["--data", &said, &thumbs, "--test-share", "0.3"];
    let fit = [
        "--encoder",
        "models/toy",
        "--k",
        "2",
        "--ridge",
        "1",
        "--features",
        "response,length,style,lexical",
    ];
    let out = place.at("bundle");
    let told = place.succeeds("fit", &[&fit[..], &held_out, &["--out", &out]].concat());
    assert!(told.contains("labels of weight") && told.contains("mixture by user"), "{told}");
    place.succeeds("check", &["--bundle", &out]);
    let bundle = place.at("bundle");
    let replay = ["--bundle", &bundle, "--seeds", "3", "--after", "0,1,4"];
    let of_strangers = place.succeeds("replay", &[&replay[..], &held_out].concat());
    assert!(of_strangers.lines().any(|line| line.starts_with("style ruler")), "{of_strangers}");
    // Without a share, everybody is replayed and nothing is learned from them.
    let of_all = place.succeeds("replay", &[&replay[..], &["--data", &said]].concat());
    assert!(
        of_all.contains("left out, for want of train rows") && of_all.contains("Bayes ledger"),
        "{of_all}"
    );
    let people = of_all.lines().find(|line| line.starts_with("people")).unwrap();
    assert_eq!(people.split_whitespace().nth(1), Some("12"), "{of_all}");
}

#[test]
fn what_compares_nothing_and_a_place_that_is_none_are_refused_before_anything_is_encoded() {
    let place = Place::new();
    let same = json!({ "prompt": "p", "chosen": "tea", "rejected": "tea", "user": "u" });
    let tie = json!({ "prompt": "p", "kind": "tie", "responses": ["tea", "it"], "user": "u" });
    let (toy, out) = (toy(), place.at("refused"));
    for (name, row) in [("same.jsonl", same), ("ties.jsonl", tie)] {
        let data = place.write(name, &[row]);
        let args = ["--encoder", toy.to_str().unwrap(), "--data", &data, "--out", &out];
        place.refuses(64, "fit", &args, &["found no train row that prefers one response to another"]);
    }
    let (data, file) = (place.at("data.jsonl"), place.write_text("file", "no directory"));
    let below = format!("{file}/bundle");
    let args = ["--encoder", toy.to_str().unwrap(), "--data", &data, "--out", &below];
    place.refuses(64, "fit", &args, &["--out: ", "found no place to write to"]);
    assert!(!Path::new(&place.at("cache")).exists(), "nothing was encoded");
    place.fit_refuses(64, &["--test-share", "0.2"], &["--test-share: found rows that name their split"]);
    let row = json!({ "prompt": "p", "chosen": "tea", "rejected": "weather", "user": "u" });
    let data = place.write("unshared.jsonl", &[row]);
    let args = ["--encoder", toy.to_str().unwrap(), "--data", &data, "--out", &out, "--features", "lexical"];
    place.refuses(64, "fit", &args, &["--features lexical: found no two train responses that share a word"]);
}
