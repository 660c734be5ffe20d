//! What an operator's probe sees when a background thread dies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{Client, library, toy};
use jiff::Timestamp;
use micro_reward::app::App;
use micro_reward::types::config::{Config, Layers};
use micro_reward::types::{Clock, SystemClock};

/// A clock that kills the thread that keeps the rows, and nobody else.
#[derive(Debug)]
struct Deadly;

impl Clock for Deadly {
    fn now(&self) -> Timestamp {
        assert_ne!(std::thread::current().name(), Some("keeper"), "as a defect of the keeper would");
        SystemClock.now()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn livez_names_the_background_thread_that_died() {
    let dir = tempfile::tempdir().unwrap();
    let text = |path: &std::path::Path| Some(path.to_str().unwrap().to_owned());
    let layers = Layers::defaults()
        .flag("test", "model.bundle", text(&toy()))
        .flag("test", "model.onnxruntime_library", text(&library()))
        .flag("test", "state.data_dir", text(dir.path()))
        .flag("test", "state.checkpoint_every", Some("1ms".to_owned()))
        .flag("test", "server.listen", Some("127.0.0.1:0".to_owned()))
        .flag("test", "server.admin_listen", Some("127.0.0.1:0".to_owned()));
    let app = App::start(Config::new(layers).unwrap(), Arc::new(Deadly)).await.unwrap();
    let admin = Client::new(app.admin_address);
    let (mut status, mut said) = admin.get("/livez").await;
    while status == 200 {
        tokio::task::yield_now().await;
        (status, said) = admin.get("/livez").await;
    }
    assert_eq!((status, said.as_str().unwrap()), (503, "not alive: the keeper of the rows has died\n"));
    let (status, said) = admin.get("/readyz?verbose").await;
    assert!(status == 200 && said.as_str().unwrap().contains("the keeper of the rows has died"), "{said}");
    app.stop().await;
}
