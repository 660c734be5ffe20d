//! The configuration: layers, and all problems at once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::num::NonZeroUsize;

use micro_reward::types::config::{Config, Layers, Provider};

fn problems(layers: Layers) -> String {
    Config::new(layers).unwrap_err().to_string()
}

#[test]
fn the_embedded_defaults_are_valid() {
    let config = Config::new(Layers::defaults()).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    // A key that no code reads would be a problem.
}

#[test]
fn later_layers_win() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    fs::write(&file, "[batch]\ntokens = 100\nmax_queued_texts = 5\n[posterior]\nlearning_rate = 2").unwrap();
    let variables = [("MICRO_REWARD__BATCH__TOKENS".to_owned(), "200".to_owned())];
    let layers = Layers::defaults().file(&file).environment(variables);
    let config = Config::new(layers.flag("--x", "server.listen", Some("127.0.0.1:9".to_owned()))).unwrap();
    assert_eq!(config.batch.tokens.map(NonZeroUsize::get), Some(200));
    assert_eq!(config.batch.max_queued_texts.get(), 5);
    assert_eq!((config.posterior.routing(0.5).eta, config.server.listen.port()), (2.0, 9));
}

#[test]
fn a_config_with_eight_faults_has_eight_problems() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    let text = "[server]\nlisten = \"nowhere\"\nmax_body_bytes = -1\nlisten_on = 1\n\
                [posterior]\nfloor = 2.0\ntransfer = -0.5\n[population]\nsample_size = 1_000_000\nrefresh = \"0s\"\n[stat]\nengine = \"memory\"\n";
    fs::write(&file, text).unwrap();
    let found = problems(Layers::defaults().file(&file));
    for expected in [
        "`server.listen`: found \"nowhere\", expected an address",
        "`server.max_body_bytes`: found -1, expected a whole number above 0",
        "`server.listen_on`: unknown key `listen_on`",
        "`posterior.floor`: found 2, expected a number from 0 to 0.5",
        "`posterior.transfer`: found -0.5, expected a number from 0 to 1",
        "`population.sample_size`: found 1000000, expected at most 16384",
        "`population.refresh`: found \"0s\", expected a duration above 0",
        "`stat`: unknown section `stat`",
    ] {
        assert!(found.contains(expected), "{expected} is missing in\n{found}");
    }
    assert_eq!(found.lines().count(), 8, "{found}");
    assert!(found.lines().all(|line| line.contains("bad.toml")), "{found}");
}

#[test]
fn all_bodies_together_may_be_as_large_as_one() {
    let flag = |key: &str, text: &str| Layers::defaults().flag("--x", key, Some(text.to_owned()));
    let found = problems(flag("server.max_buffered_bytes", "1000"));
    let expected = "found 1000, expected at least `server.max_body_bytes`, which is 67108864";
    assert!(found.contains(&format!("`server.max_buffered_bytes`: {expected}")), "{found}");
    let layers = flag("server.max_body_bytes", "1000").flag(
        "--y",
        "server.max_buffered_bytes",
        Some("1000".to_owned()),
    );
    assert_eq!(Config::new(layers).unwrap().server.max_buffered_bytes.get(), 1000);
}

#[test]
fn a_variable_that_names_no_key_is_refused() {
    let variables = [("MICRO_REWARD__SERVER__LISTN".to_owned(), "x".to_owned())];
    assert!(problems(Layers::defaults().environment(variables)).contains("MICRO_REWARD__SERVER__LISTN"));
}

#[test]
fn a_value_of_the_wrong_type_is_named() {
    let found = problems(Layers::defaults().flag("--tokens", "batch.tokens", Some("many".to_owned())));
    assert!(found.contains("--tokens: `batch.tokens`: found \"many\" (string), expected integer"), "{found}");
}

#[test]
fn durations_that_would_never_end_are_refused() {
    let layers = Layers::defaults().flag("--x", "shutdown.ready_delay", Some("584000000000y".to_owned()));
    let found = problems(layers.flag("--y", "server.request_timeout", Some("2h".to_owned())));
    assert!(
        found.contains("--x: `shutdown.ready_delay`") && found.contains("expected a duration of at most 1h"),
        "{found}"
    );
    assert!(found.contains("--y: `server.request_timeout`"), "{found}");
    assert!(
        problems(Layers::defaults().flag("--z", "health.stall_limit", Some("0s".to_owned())))
            .contains("above 0")
    );
}

#[test]
fn the_encoders_devices_and_threads_are_checked_by_name() {
    let flag = |key: &str, text: &str| Layers::defaults().flag("--x", key, Some(text.to_owned()));
    let config = Config::new(flag("model.execution_providers", "cuda, cpu")).unwrap();
    assert_eq!(config.model.execution_providers, [Provider::Cuda, Provider::Cpu]);
    assert_eq!(config.batch.threads.get(), 1, "one session for a device that is no core");
    assert!(config.batch.tokens.is_none(), "measured");
    for (key, text, expected) in [
        ("model.execution_providers", "gpu", "found \"gpu\", expected \"cpu\" or \"cuda\" or \"tensorrt\""),
        ("batch.interactive_threads", "-1", "found -1, expected a whole number above 0"),
        ("batch.interactive_threads", "1000000", "found 1000000, expected at most 1024"),
        ("batch.tokens", "-1", "found -1, expected a whole number above 0"),
        ("population.sample_size", "0", "found 0, expected a whole number above 0"),
        ("cache.max_bytes", "-1", "found -1, expected a whole number of bytes, 0 or above"),
    ] {
        let found = problems(flag(key, text));
        assert!(found.contains(&format!("`{key}`: {expected}")), "{found}");
    }
}
