//! The embedded engine on the disk: restarts, damage, owners, spilling, erasure.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::FakeClock;
use common::changes::{K, RULES, add, erase, retract, user};
use micro_reward::state::{
    ChangeKind, Embedded, EmbeddedConfig, EventLog, Heads, OpenError, Outcome, RouterStore, Row,
};
use tempfile::TempDir;

const HEADS: Heads = Heads { n_heads: K, key: 7 };

/// A checkpoint is made when it is asked for only.
fn config(dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        dir: dir.to_owned(),
        heads: HEADS,
        rules: RULES,
        max_users: 1000,
        resident_users: 1000,
        is_sync: true,
        checkpoint_every: Duration::from_secs(3600),
        retention: Duration::from_secs(3600),
        erase_within: Duration::from_secs(3600),
    }
}

async fn rows(store: &Embedded, n_users: usize) -> Vec<Option<Row>> {
    let mut rows = Vec::new();
    for n in 0..n_users {
        rows.push(store.get(user(n), 0).await.unwrap().row);
    }
    rows
}

fn open(config: EmbeddedConfig) -> Result<Embedded, OpenError> {
    Embedded::open(config, FakeClock::at(1000))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let of =
        |dir: &Path| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    of(dir).into_iter().flat_map(|path| if path.is_dir() { of(&path) } else { vec![path] }).collect()
}

/// What a kill leaves: the files as they are, in another place, without an owner.
fn copy(dir: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for path in files(dir) {
        let copy = to.path().join(path.strip_prefix(dir).unwrap());
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(path, copy).unwrap();
    }
    to
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The segment that holds frames.
fn written(dir: &Path) -> PathBuf {
    segments(dir).into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

/// Whether any file holds a text; one that is replaced meanwhile is looked at in its new shape.
fn holds(dir: &Path, text: &str) -> bool {
    let holds = |path: PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    files(dir).into_iter().any(holds)
}

#[tokio::test]
async fn what_was_acked_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change((0..500).map(|id| add(id % 20, id)).collect()).await.unwrap();
    store.change(vec![retract(3, 3), erase(4, 600), add(4, 601)]).await.unwrap();
    let killed = copy(dir.path());
    let again = open(config(killed.path())).unwrap();
    assert_eq!(rows(&again, 20).await, rows(&store, 20).await);
    assert_eq!(again.n_users(), 20);
    assert!(matches!(again.change(vec![add(1, 21)]).await.unwrap()[..], [Outcome::Duplicate(_)]));
}

#[tokio::test]
async fn a_stop_leaves_nothing_to_replay_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change((0..500).map(|id| add(id % 20, id)).collect()).await.unwrap();
    let before = rows(&store, 20).await;
    store.close().await;
    drop(store);
    for path in segments(dir.path()) {
        std::fs::remove_file(path).unwrap();
    }
    let again = open(config(dir.path())).unwrap();
    assert_eq!(rows(&again, 20).await, before);
    assert!(matches!(again.change(vec![add(1, 600)]).await.unwrap()[..], [Outcome::Applied(26)]));
}

#[tokio::test]
async fn a_torn_tail_is_cut_wherever_the_write_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change(vec![add(0, 0), add(0, 1)]).await.unwrap();
    let two = rows(&store, 1).await;
    let whole = written(dir.path()).metadata().unwrap().len();
    store.change(vec![add(0, 2)]).await.unwrap();
    let length = written(dir.path()).metadata().unwrap().len();
    for end in whole..length {
        let killed = copy(dir.path());
        let file = std::fs::OpenOptions::new().write(true).open(written(killed.path())).unwrap();
        file.set_len(end).unwrap();
        let again = open(config(killed.path())).unwrap();
        assert_eq!(rows(&again, 1).await, two, "cut at {end}");
        assert_eq!(again.change(vec![add(0, 2)]).await.unwrap(), [Outcome::Applied(3)]);
    }
}

#[tokio::test]
async fn a_tail_that_was_never_filled_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change(vec![add(0, 0), add(0, 1)]).await.unwrap();
    let killed = copy(dir.path());
    let file = std::fs::OpenOptions::new().write(true).open(written(killed.path())).unwrap();
    file.set_len(file.metadata().unwrap().len() + 3000).unwrap();
    let again = open(config(killed.path())).unwrap();
    assert_eq!(rows(&again, 1).await, rows(&store, 1).await);
}

#[tokio::test]
async fn a_flipped_byte_of_the_journal_is_named_by_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change((0..5).map(|id| add(0, id)).collect()).await.unwrap();
    let path = written(dir.path());
    let length = path.metadata().unwrap().len() as usize;
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    // The file of rows has made the journal needless: without it, everything is replayed.
    std::fs::remove_file(dir.path().join("rows.redb")).unwrap();
    for at in 0..length {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&path, flipped).unwrap();
        let refused = open(config(dir.path())).unwrap_err();
        let OpenError::Damaged { path: named, offset, .. } = &refused else { panic_with(at, &refused) };
        assert_eq!(named, &path);
        assert!(*offset <= at as u64, "byte {at} is before {offset}");
        std::fs::remove_file(dir.path().join("rows.redb")).unwrap();
    }
}

#[allow(clippy::panic, reason = "a test fails by panicking")]
fn panic_with(at: usize, error: &OpenError) -> ! {
    panic!("byte {at}: {error}")
}

#[tokio::test]
async fn a_flipped_byte_of_the_file_of_rows_is_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change((0..200).map(|id| add(id, id)).collect()).await.unwrap();
    let right = rows(&store, 200).await;
    store.close().await;
    drop(store);
    let path = dir.path().join("rows.redb");
    let bytes = std::fs::read(&path).unwrap();
    let mut n_found = 0;
    for round in 0..60 {
        let at = round * 7919 % bytes.len();
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&path, flipped).unwrap();
        match open(config(dir.path())) {
            Err(refused) => {
                assert!(refused.to_string().contains("rows.redb"), "{refused}");
                n_found += 1;
            }
            Ok(store) => {
                for (n, right) in right.iter().enumerate() {
                    match store.get(user(n), 0).await {
                        Ok(reading) => assert_eq!(&reading.row, right, "byte {at}"),
                        Err(refused) => {
                            assert!(refused.to_string().contains("rows.redb"), "{refused}");
                            n_found += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(n_found > 0);
}

/// Puts bytes that are no row in the place of a user's.
fn spoil(dir: &Path, n: usize) {
    let rows = redb::TableDefinition::<[u8; 16], &[u8]>::new("rows");
    let database = redb::Database::open(dir.join("rows.redb")).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(rows).unwrap().insert(user(n).as_bytes(), &b"garbage"[..]).unwrap();
    write.commit().unwrap();
}

#[tokio::test]
async fn a_row_that_can_not_be_read_is_its_users_trouble_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change((0..6).map(|id| add(id % 3, id)).collect()).await.unwrap();
    store.close().await;
    drop(store);
    spoil(dir.path(), 1);
    let store =
        open(EmbeddedConfig { checkpoint_every: Duration::from_millis(1), ..config(dir.path()) }).unwrap();
    let outcomes = store.change(vec![add(1, 10), retract(1, 1), add(2, 11)]).await.unwrap();
    assert_eq!(outcomes, [Outcome::Unreadable, Outcome::Unreadable, Outcome::Applied(3)]);
    assert!(store.get(user(1), 0).await.unwrap_err().is_of_one_row());
    let mut others = vec![];
    for n in [0, 2] {
        others.push(store.get(user(n), 0).await.unwrap().row.unwrap());
    }
    let sample = store.sample(10).await.unwrap();
    assert!(sample.len() == 2 && others.iter().all(|row| sample.contains(row)));
    // Checkpoints and sweeps go on.
    assert_eq!(store.trouble(), None);

    // To forget somebody nothing of theirs need be read.
    assert_eq!(store.change(vec![erase(1, 50)]).await.unwrap(), [Outcome::Applied(1)]);
    let killed = copy(dir.path());
    for store in [store, open(config(killed.path())).unwrap()] {
        let outcomes = store.change(vec![add(1, 10), add(1, 60)]).await.unwrap();
        assert_eq!(outcomes, [Outcome::Late, Outcome::Applied(2)]);
    }
}

#[tokio::test]
async fn a_tombstone_that_can_not_be_read_does_not_stop_the_sweep() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change(vec![add(0, 0), add(1, 1), erase(0, 5), erase(1, 5)]).await.unwrap();
    store.close().await;
    drop(store);
    let tombstones = redb::TableDefinition::<[u8; 16], &[u8]>::new("tombstones");
    let database = redb::Database::open(dir.path().join("rows.redb")).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(tombstones).unwrap().insert(user(1).as_bytes(), &b"garbage"[..]).unwrap();
    write.commit().unwrap();
    drop(database);
    let soon = EmbeddedConfig { erase_within: Duration::from_millis(1), ..config(dir.path()) };
    let later = 2 * RULES.max_age_ms;
    let store = Embedded::open(soon.clone(), FakeClock::at(later)).unwrap();
    // The keeper's first round sweeps, and this is done in the first or a later one.
    store.change(vec![add(2, 2), erase(2, later)]).await.unwrap();
    while holds(&dir.path().join("journal"), "user-2") {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.trouble(), None);
    store.close().await;
    drop(store);
    let store = Embedded::open(soon, FakeClock::at(later)).unwrap();
    assert_eq!(store.get(user(0), 0).await.unwrap().row, None);
    assert!(store.get(user(1), 0).await.unwrap_err().is_of_one_row());
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    assert!(matches!(open(config(dir.path())), Err(OpenError::Owned { .. })));
    assert!(matches!(EventLog::open(dir.path()), Err(OpenError::Owned { .. })));
    drop(store);
    open(config(dir.path())).unwrap();
}

#[tokio::test]
async fn evidence_of_other_heads_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(config(dir.path())).unwrap());
    let other = EmbeddedConfig { heads: Heads { key: 8, ..HEADS }, ..config(dir.path()) };
    assert!(matches!(open(other), Err(OpenError::OtherHeads { .. })));
}

#[tokio::test]
async fn a_directory_of_another_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(config(dir.path())).unwrap());
    std::fs::write(dir.path().join("VERSION"), "micro-reward data 2\n").unwrap();
    assert!(matches!(open(config(dir.path())), Err(OpenError::Version { .. })));
}

#[tokio::test]
async fn what_was_acked_counts_under_stricter_rules_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change((0..300).map(|id| add(id % 3, 299 - id)).collect()).await.unwrap();
    let killed = copy(dir.path());
    let mut strict = EmbeddedConfig { max_users: 1, ..config(killed.path()) };
    (strict.rules.max_age_ms, strict.rules.max_events) = (10, 5);
    let again = open(strict).unwrap();
    let ledgers =
        |rows: Vec<Option<Row>>| rows.into_iter().map(|row| row.unwrap().ledgers).collect::<Vec<_>>();
    assert_eq!(ledgers(rows(&again, 3).await), ledgers(rows(&store, 3).await));
}

#[tokio::test]
async fn a_restart_remembers_what_was_remembered_and_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change(vec![add(0, 1), add(0, 2), add(0, 3)]).await.unwrap();
    // Their window is over: an id may be used again, and what was said can't be taken back.
    let later = RULES.max_age_ms + 100;
    let mut again = add(0, 1);
    again.now_ms = later;
    if let ChangeKind::Add(event) = &mut again.kind {
        event.at_ms = later;
    }
    let mut retraction = retract(0, 2);
    retraction.now_ms = later;
    let outcomes = store.change(vec![again, retraction]).await.unwrap();
    assert!(matches!(outcomes[..], [Outcome::Applied(4), Outcome::Unknown]));
    let killed = copy(dir.path());
    let mut other = config(killed.path());
    other.rules.max_age_ms *= 2;
    assert_eq!(rows(&open(other).unwrap(), 1).await, rows(&store, 1).await);
}

#[tokio::test]
async fn a_file_of_rows_that_is_older_than_the_journal_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let brief = EmbeddedConfig { retention: Duration::ZERO, ..config(dir.path()) };
    for round in 0..2 {
        let store = open(brief.clone()).unwrap();
        store.change((0..100).map(|id| add(id % 4, round * 100 + id)).collect()).await.unwrap();
        store.close().await;
    }
    drop(open(brief.clone()).unwrap());
    std::fs::write(dir.path().join("rows.redb"), "").unwrap();
    let refused = open(brief).unwrap_err().to_string();
    assert!(refused.contains("rows.redb") && refused.contains("the journal begins at change"), "{refused}");
}

#[tokio::test]
async fn an_erasure_goes_on_where_a_segment_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let store = open(config(dir.path())).unwrap();
        store.change((0..40).map(|id| add(id % 4, round * 100 + id)).collect()).await.unwrap();
        store.close().await;
    }
    let first = segments(dir.path()).remove(0);
    let mut bytes = std::fs::read(&first).unwrap();
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let soon = EmbeddedConfig { erase_within: Duration::from_millis(1), ..config(dir.path()) };
    let store = open(soon).unwrap();
    store.change(vec![erase(1, 200)]).await.unwrap();
    let second = segments(dir.path()).remove(1);
    while std::fs::read(&second).unwrap().windows(6).any(|window| window == b"user-1") {
        tokio::task::yield_now().await;
    }
    while store.trouble().is_none() {
        tokio::task::yield_now().await;
    }
    assert!(store.trouble().unwrap().contains(first.file_name().unwrap().to_str().unwrap()));
    let cut_short = store.events().unwrap().standing().err().map(|error| error.to_string());
    assert!(cut_short.is_some_and(|error| error.contains("fails its checksum")));
}

#[tokio::test]
async fn an_export_of_a_segment_that_was_cut_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let store = open(config(dir.path())).unwrap();
        store.change((0..40).map(|id| add(id % 4, round * 100 + id)).collect()).await.unwrap();
        store.close().await;
    }
    let first = std::fs::OpenOptions::new().write(true).open(&segments(dir.path())[0]).unwrap();
    first.set_len(first.metadata().unwrap().len() - 5).unwrap();
    let store = open(config(dir.path())).unwrap();
    let error = store.events().unwrap().standing().err().map(|error| error.to_string());
    assert!(error.is_some_and(|error| error.contains("a frame is not whole")));
}

#[tokio::test]
async fn users_beyond_memory_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let small = EmbeddedConfig {
        resident_users: 20,
        checkpoint_every: Duration::from_millis(1),
        ..config(dir.path())
    };
    let store = open(small).unwrap();
    let big_dir = tempfile::tempdir().unwrap();
    let big = open(config(big_dir.path())).unwrap();
    for round in 0..4 {
        for chunk in (0..800).collect::<Vec<_>>().chunks(50) {
            let changes = || chunk.iter().map(|&n| add(n, round * 800 + n)).collect();
            store.change(changes()).await.unwrap();
            big.change(changes()).await.unwrap();
        }
    }
    assert_eq!(rows(&store, 800).await, rows(&big, 800).await);
    assert_eq!((store.n_users(), big.n_users()), (800, 800));
    assert_eq!(store.sample(30).await.unwrap(), big.sample(30).await.unwrap());
    store.close().await;
    drop(store);
    let again = open(config(dir.path())).unwrap();
    assert_eq!(rows(&again, 800).await, rows(&big, 800).await);
    assert_eq!(again.n_users(), 800);
}

#[tokio::test]
async fn an_erased_user_leaves_every_file() {
    let dir = tempfile::tempdir().unwrap();
    let soon = EmbeddedConfig { erase_within: Duration::from_millis(1), ..config(dir.path()) };
    let store = open(soon).unwrap();
    store.change((0..100).map(|id| add(id % 4, id)).collect()).await.unwrap();
    assert!(holds(dir.path(), "user-1"));
    store.change(vec![erase(1, 200)]).await.unwrap();
    while holds(dir.path(), "user-1") {
        tokio::task::yield_now().await;
    }
    assert!(holds(dir.path(), "user-2"));
    let killed = copy(dir.path());
    let again = open(config(killed.path())).unwrap();
    assert_eq!(rows(&again, 4).await, rows(&store, 4).await);
    assert_eq!(again.n_users(), 3);
}

#[tokio::test]
async fn an_erasure_that_a_kill_interrupts_is_done_after_the_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change((0..100).map(|id| add(id % 4, id)).collect()).await.unwrap();
    store.change(vec![erase(1, 200)]).await.unwrap();
    let killed = copy(dir.path());
    assert!(holds(killed.path(), "user-1"));
    let soon = EmbeddedConfig { erase_within: Duration::from_millis(1), ..config(killed.path()) };
    let again = open(soon).unwrap();
    while holds(killed.path(), "user-1") {
        tokio::task::yield_now().await;
    }
    assert_eq!(rows(&again, 4).await, rows(&store, 4).await);
}

#[tokio::test]
async fn events_that_stand_can_be_read_while_others_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change((0..20).map(|id| add(id % 4, id)).collect()).await.unwrap();
    store.change(vec![erase(1, 50), retract(2, 2), add(1, 60)]).await.unwrap();
    let said = |log: &EventLog| {
        let raw = |logged: Result<micro_reward::state::Logged, OpenError>| match logged.unwrap().change.kind {
            ChangeKind::Add(event) => Some(event.heard.unwrap().prompt.to_string()),
            _ => None,
        };
        log.standing().unwrap().filter_map(raw).collect::<Vec<String>>()
    };
    let expected: Vec<String> = (0..20)
        .filter(|id| id % 4 != 1 && *id != 2)
        .map(|id| format!("user-{} said event-{id}", id % 4))
        .chain(["user-1 said event-60".to_owned()])
        .collect();
    assert_eq!(said(&store.events().unwrap()), expected);
    drop(store);
    assert_eq!(said(&EventLog::open(dir.path()).unwrap()), expected);
}

#[tokio::test]
async fn old_events_are_dropped_and_their_evidence_stays() {
    let dir = tempfile::tempdir().unwrap();
    let brief = EmbeddedConfig { retention: Duration::ZERO, ..config(dir.path()) };
    let store = open(brief.clone()).unwrap();
    store.change((0..100).map(|id| add(id % 4, id)).collect()).await.unwrap();
    let before = rows(&store, 4).await;
    store.close().await;
    drop(store);
    let again = open(brief).unwrap();
    again.close().await;
    assert!(!holds(&dir.path().join("journal"), "said"));
    assert_eq!(rows(&again, 4).await, before);
}

#[tokio::test]
async fn a_directory_that_can_not_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = open(config(&file.join("data"))).unwrap_err().to_string();
    assert!(refused.contains("file/data"), "{refused}");
}
