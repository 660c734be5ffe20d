//! Probes after the death of a background thread.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{Client, start_by, toy};
use jiff::Timestamp;
use micro_reward::types::{Clock, SystemClock};

/// A clock that panics on the checkpointer's thread, and on no other.
#[derive(Debug)]
struct Deadly;

impl Clock for Deadly {
    fn now(&self) -> Timestamp {
        assert_ne!(
            std::thread::current().name(),
            Some("checkpointer"),
            "as a defect of the checkpointer would"
        );
        SystemClock.now()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn livez_names_the_background_thread_that_died() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        ("state.engine", "embedded"),
        ("state.data_dir", dir.path().to_str().unwrap()),
        ("state.checkpoint_every", "1ms"),
    ];
    let app = start_by(Arc::new(Deadly), &toy(), &settings).await;
    let admin = Client::new(app.admin_address);
    let (mut status, mut said) = admin.get("/livez").await;
    while status == 200 {
        tokio::task::yield_now().await;
        (status, said) = admin.get("/livez").await;
    }
    assert_eq!((status, said.as_str().unwrap()), (503, "not alive: the checkpointer has died\n"));
    let (status, said) = admin.get("/readyz?verbose").await;
    assert!(status == 200 && said.as_str().unwrap().contains("the checkpointer has died"), "{said}");
    app.stop().await;
}
