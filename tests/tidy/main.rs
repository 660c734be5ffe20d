//! The laws of the house, checked on its source.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking and says what it saw")]

mod circles;
mod map;
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Most lines that a file may have before its tests: half of all files, nine of ten, and any.
const MAX_LINES: [usize; 3] = [95, 240, 380];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file as (module, path, text without its tests).
fn sources() -> Vec<(String, PathBuf, String)> {
    let mut files = Vec::new();
    walk(&root().join("src"), &mut files);
    let source = |path: PathBuf| {
        let relative = path.strip_prefix(root().join("src")).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap().to_owned();
        (first.trim_end_matches(".rs").to_owned(), path, text)
    };
    files.into_iter().map(source).collect()
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The floor of a top-level module; engines share one and do not know one another.
fn floor(module: &str) -> u8 {
    match module {
        "mixture" | "surface" | "telemetry" => 0,
        "types" => 1,
        "model" | "batch" | "state" | "fit" | "replay" | "page" => 2,
        "service" => 3,
        "transport" => 4,
        "server" => 5,
        "cli" | "lib" => 6,
        "main" => 7,
        _ => panic!("{module} has no floor: give it one here and in ARCHITECTURE.md"),
    }
}

/// Modules that a file names by `crate::module`.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        let list = rest.strip_prefix('{').map_or(rest, |list| list.split('}').next().unwrap());
        let names: Vec<&str> = if rest.starts_with('{') { list.split(',').collect() } else { vec![rest] };
        for name in names {
            let name = name.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            if !name.is_empty() {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

#[test]
fn imports_go_down_the_floors_only() {
    for (module, path, text) in sources() {
        for import in imports(&text).into_iter().filter(|import| *import != module) {
            let (here, there) = (floor(&module), floor(&import));
            assert!(there < here, "{}: {module} imports {import}", path.display());
            let may_see = ["service", "types", "telemetry"].contains(&import.as_str());
            assert!(
                module != "transport" || may_see,
                "{}: transport sees verbs and their words",
                path.display()
            );
        }
    }
}

#[test]
fn protocols_do_not_know_one_another() {
    for (_, path, text) in sources().into_iter().filter(|(module, ..)| module == "transport") {
        for [here, there] in [["http", "grpc"], ["grpc", "http"]] {
            let is_here = path.strip_prefix(root().join("src/transport")).unwrap().starts_with(here);
            let knows = text.contains(&format!("transport::{there}"));
            assert!(!is_here || !knows, "{}: {here} knows {there}", path.display());
        }
    }
}

#[test]
fn the_mathematics_is_pure() {
    for (_, path, text) in sources().into_iter().filter(|(module, ..)| module == "mixture") {
        for impure in ["async ", "std::fs", "std::io", "std::time", "tokio", "Instant", "Result<"] {
            assert!(!text.contains(impure), "{}: {impure}", path.display());
        }
    }
}

#[test]
fn files_are_short() {
    let length = |(_, path, text): (_, PathBuf, String)| (text.lines().count(), path);
    let is_tests = |path: &Path| path.ends_with("tests.rs");
    let mut files: Vec<_> = sources().into_iter().map(length).filter(|(_, path)| !is_tests(path)).collect();
    files.sort();
    let n_files = files.len();
    for (n_short, most) in [n_files / 2, n_files * 9 / 10, n_files].into_iter().zip(MAX_LINES) {
        let longer = &files[n_short.min(n_files - 1)..];
        let (n_lines, path) = &files[n_short.max(1) - 1];
        assert!(
            *n_lines <= most,
            "{} has {n_lines} lines, {n_short} files may have {most}: {longer:?}",
            path.display()
        );
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (_, path, text) in sources().into_iter().filter(|(module, ..)| module != "main") {
        assert!(text.starts_with("//! "), "{} has no module doc", path.display());
    }
}

#[test]
fn nothing_is_left_for_later() {
    let marks =
        ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "XX".to_owned() + "X", "#[ig".to_owned() + "nore"];
    for (_, path, text) in sources() {
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{}: {mark}", path.display());
        }
    }
}

#[test]
fn every_config_key_is_explained() {
    let default = fs::read_to_string(root().join("config/default.toml")).unwrap();
    let table: toml::Table = default.parse().unwrap();
    let lines: Vec<&str> = default.lines().collect();
    for (section, entries) in &table {
        for key in entries.as_table().unwrap().keys() {
            let idx = lines.iter().position(|line| line.starts_with(&format!("{key} = "))).unwrap();
            assert!(lines[idx - 1].starts_with("# "), "{section}.{key} has no comment");
        }
    }
}

#[test]
fn metric_names_are_spelled_once_and_emitted_as_their_kind() {
    let table = fs::read_to_string(root().join("src/telemetry/metric.rs")).unwrap();
    let elsewhere: Vec<_> =
        sources().into_iter().filter(|(_, path, _)| !path.ends_with("telemetry/metric.rs")).collect();
    // What runs inside the shared store is named alike.
    let is_metric = |path: &Path| !path.ends_with("state/valkey/function.rs");
    let spelled =
        elsewhere.iter().find(|(_, path, text)| is_metric(path) && text.contains("\"micro_reward_"));
    assert!(spelled.is_none(), "{:?} spells a metric's name", spelled.map(|(_, path, _)| path));
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() > 3 && words[2] == "=" && words[3].starts_with("\"micro_reward_"))
        .collect();
    assert_eq!(rows.len(), table.matches("\"micro_reward_").count(), "each row was read");
    for row in rows {
        let (kind, constant) = (row[0], row[1]);
        let mut emitted = vec![format!("{kind}!(metric::{constant}")];
        if kind == "gauge" {
            emitted.push(format!("Raised::new(metric::{constant})"));
        }
        let is_emitted = |text: &str| {
            let on_one_line = text.split_whitespace().collect::<String>();
            emitted.iter().any(|call| on_one_line.contains(call))
        };
        let n_files = elsewhere.iter().filter(|(.., text)| is_emitted(text)).count();
        assert!(n_files > 0, "{constant} is never emitted");
    }
}

#[test]
fn only_the_configuration_reads_the_environment() {
    for (_, path, text) in sources().into_iter().filter(|(_, path, _)| !path.ends_with("types/config/mod.rs"))
    {
        assert!(!text.contains("env::var"), "{}", path.display());
    }
}

/// Every file below a place of the repository, and its text.
fn texts(place: &str) -> Vec<(String, String)> {
    let path = root().join(place);
    if path.is_file() {
        return vec![(place.to_owned(), fs::read_to_string(&path).unwrap())];
    }
    let names = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "__pycache__").flat_map(|name| texts(&format!("{place}/{name}"))).collect()
}

/// The ports of a user's server are named by what starts nothing, and by the example that its user runs against it.
#[test]
fn no_test_check_or_bench_names_what_a_users_server_has() {
    let ports = ["80".to_owned() + "80", "80".to_owned() + "81"];
    let may_name = ["tests/config.rs", "deploy/test_policy.py", "deploy/README.md", "examples/quickstart.sh"];
    // Pinned hashes have any digits; pods and containers have ports of their own.
    let is_apart = |file: &str| {
        let is_deployed = file.starts_with("deploy/kubernetes") || file.starts_with("deploy/docker");
        is_deployed || file.ends_with(".txt") || may_name.contains(&file)
    };
    for place in ["tests", "benches", "examples", "deploy", "proto/check"] {
        for (file, text) in texts(place).iter().filter(|(file, _)| !is_apart(file)) {
            for port in &ports {
                assert!(!text.contains(port.as_str()), "{file} names the port {port}");
            }
        }
    }
}

/// A process inherits the shell's settings, and an app takes the default ports and directory, unless somebody sees to it.
#[test]
fn whoever_starts_the_program_keeps_the_users_settings_out() {
    let (program, app) = ("CARGO_BIN_EXE_".to_owned() + "micro-reward", "App::".to_owned() + "start(");
    let popen = "Po".to_owned() + "pen(";
    let prefix = "\"MICRO_REWARD__\"";
    for (file, text) in ["tests", "benches", "examples"].into_iter().flat_map(texts) {
        let starts_it = text.contains(&program) || text.contains(&popen);
        assert!(!starts_it || text.contains(prefix), "{file} starts the program in the user's environment");
        let free = ["server.listen", "server.admin_listen", "state.data_dir"];
        let is_apart = free.iter().all(|key| text.contains(key));
        assert!(!text.contains(&app) || is_apart, "{file} starts an app on the default ports or data");
    }
}
