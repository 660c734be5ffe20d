//! Feedback a second that the shared engine takes, for `benches/valkey`.
//!
//! Every user has a first set of events; then each adds as many again, one call per event, in requests of 16 from
//! many callers at once. Prints the rate, and the bytes of a row after the first set.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use micro_reward::mixture::{Decay, pair};
use micro_reward::state::{
    Change, ChangeKind, EventKey, LedgerEvent, LedgerId, Outcome, RowRules, UserKeys, UserStore,
    ValkeyConfig, ValkeyStore,
};
use micro_reward::types::{Secret, SystemClock};
use tokio::time::Instant;

/// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const K: usize = 8;

/// Events of different users in one request.
const AT_ONCE: usize = 16;

fn change(user: usize, id: usize) -> Result<Change, Box<dyn Error + Send + Sync>> {
    let margins: Vec<f64> = (0..K).map(|k| ((user * 31 + id * 7 + k) as f64).sin()).collect();
    let event = LedgerEvent {
        key: EventKey(id as u64),
        at_ms: id as i64,
        context: None,
        question: None,
        increment: pair(&margins),
        content: None,
        replaces: None,
        resolved: None,
    };
    let user = UserKeys::default().of(&format!("user-{user}").parse()?);
    Ok(Change { user, now_ms: id as i64, kind: ChangeKind::Add(event) })
}

/// Adds the events `ids` of every user, with `n_callers` callers at once; returns the time that the store took.
async fn say(
    store: &Arc<ValkeyStore>,
    n_users: usize,
    ids: std::ops::Range<usize>,
    n_callers: usize,
) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    let mut of_callers: Vec<Vec<Change>> = Vec::new();
    for caller in 0..n_callers {
        let users = || (caller..n_users).step_by(n_callers);
        let changes = ids.clone().flat_map(|id| users().map(move |user| change(user, id)));
        of_callers.push(changes.collect::<Result<_, _>>()?);
    }
    let start = Instant::now();
    let caller = |changes: Vec<Change>| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut changes = changes.into_iter();
            loop {
                let request: Vec<Change> = changes.by_ref().take(AT_ONCE).collect();
                if request.is_empty() {
                    break;
                }
                let outcomes = store.change(request).await?;
                if !outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied(_))) {
                    return Err(format!("found {outcomes:?}").into());
                }
            }
            Ok::<(), Box<dyn Error + Send + Sync>>(())
        })
    };
    for caller in of_callers.into_iter().map(caller).collect::<Vec<_>>() {
        caller.await??;
    }
    Ok(start.elapsed())
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "it is a command")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, n_users, n_events, n_callers] = &args[..] else {
        return Err("usage: valkey_rate URL USERS EVENTS CALLERS".into());
    };
    let (n_users, n_events, n_callers) = (n_users.parse()?, n_events.parse()?, n_callers.parse()?);
    let second = Duration::from_secs(10);
    let store = ValkeyStore::open(ValkeyConfig {
        urls: vec![Secret::from(url.clone())],
        is_cluster: false,
        username: String::new(),
        password: Secret::default(),
        ca_pem: None,
        prefix: "rate:".to_owned(),
        connect_timeout: second,
        response_timeout: second,
        max_staleness: second,
        ledger_id: LedgerId { n_heads: K, key: 0 },
        rules: RowRules { n_heads: K, decay: Decay::NONE, max_age_ms: i64::MAX, max_events: usize::MAX },
        max_users: usize::MAX,
        cached_users: n_users,
        outbox: None,
        is_sync: true,
        user_key: Secret::default(),
        clock: Arc::new(SystemClock),
        erase_within: second,
    });
    let store = Arc::new(store.await?);
    say(&store, n_users, 0..n_events, n_callers).await?;
    let row = store.get(change(0, 0)?.user, 0).await?.row.ok_or("there is no row")?;
    let bytes = postcard::to_allocvec(&row)?.len() + 9;
    let took = say(&store, n_users, n_events..2 * n_events, n_callers).await?;
    let rate = (n_users * n_events) as f64 / took.as_secs_f64();
    println!("{rate:.0} {bytes}");
    store.close().await;
    Ok(())
}
