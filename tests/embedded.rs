//! The embedded engine on the disk: restarts, damage, owners, eviction, erasure.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::FakeClock;
use common::changes::{K, RULES, Unkeyed, add, erase, event, id as nth, import, key, replace, retract, user};
use micro_reward::mixture::Decay;
use micro_reward::state::{
    Accounts, Change, ChangeKind, Departure, Embedded, EmbeddedConfig, EventLog, LedgerId, MergeStep,
    OpenError, Outcome, Row, StoreError, UserKey, UserKeys, UserStore,
};
use micro_reward::types::UserId;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

const LEDGER_ID: LedgerId = LedgerId { n_heads: K, key: 7 };

/// Returns a config whose checkpoints happen on request only.
fn config(dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        dir: dir.to_owned(),
        ledger_id: LEDGER_ID,
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

/// Copies the files as a kill leaves them to another directory, without an owner.
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

/// Returns the segment that holds frames.
fn written(dir: &Path) -> PathBuf {
    segments(dir).into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

/// True if any file holds a text; a file that is replaced meanwhile is read in its new form.
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
async fn what_replaces_is_replayed_to_the_same_rows_whatever_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    let changes = [
        vec![add(0, 1), replace(0, 2, 1), replace(0, 3, 2)],
        vec![replace(1, 3, 2), add(1, 1), replace(1, 2, 1)],
        vec![replace(2, 3, 2), replace(2, 2, 1), add(2, 1)],
        vec![retract(3, 2), add(3, 1), replace(3, 2, 1)],
        vec![add(4, 1), replace(4, 2, 1), retract(4, 2), replace(4, 2, 1)],
    ];
    store.change(changes.concat()).await.unwrap();
    let before = rows(&store, 5).await;
    let said = |log: &EventLog| {
        let mut said = standing(log);
        said.sort();
        said
    };
    let expected = ["user-0 said event-3", "user-1 said event-3", "user-2 said event-3"];
    assert_eq!(said(&store.events().unwrap()), expected);
    let survey = |dir: &Path| {
        let n_events = EventLog::open(dir).unwrap().survey().unwrap().n_events;
        (0..5).map(|n| n_events.get(&user(n)).copied().unwrap_or_default()).collect::<Vec<_>>()
    };
    let killed = copy(dir.path());
    assert_eq!(survey(killed.path()), [1, 1, 1, 0, 0]);
    let again = open(config(killed.path())).unwrap();
    assert_eq!(rows(&again, 5).await, before);
    again.close().await;
    drop(again);
    assert_eq!(survey(killed.path()), [1, 1, 1, 0, 0]);
}

#[tokio::test]
async fn a_directory_of_the_version_before_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change(vec![add(1, 1)]).await.unwrap();
    drop(store);
    let version = dir.path().join("VERSION");
    std::fs::write(&version, "micro-reward data 1\n").unwrap();
    assert_eq!(EventLog::open(dir.path()).unwrap().standing().unwrap().count(), 1);
    assert_eq!(
        std::fs::read_to_string(&version).unwrap(),
        "micro-reward data 1\n",
        "who reads leaves it as it is"
    );
    open(config(dir.path())).unwrap();
    assert_eq!(std::fs::read_to_string(&version).unwrap(), "micro-reward data 2\n");
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
async fn acked_frames_behind_a_blank_megabyte_are_damage_and_not_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change((0..8).map(|id| add(0, id)).collect()).await.unwrap();
    let first = written(dir.path()).metadata().unwrap().len();
    // A disk loses up to 2.5 MB of these frames, and acked frames follow them.
    for at in (8..24_000).step_by(500) {
        store.change((at..at + 500).map(|id| add(id % 100, id)).collect()).await.unwrap();
    }
    let length = written(dir.path()).metadata().unwrap().len();
    assert!(length > first + 2_600_000, "{length}");
    for blank in [1 << 20, 1_200_000, 2_500_000] {
        let killed = copy(dir.path());
        let path = written(killed.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[first as usize..first as usize + blank].fill(0);
        std::fs::write(&path, bytes).unwrap();
        let refused = open(config(killed.path())).unwrap_err();
        let OpenError::Damaged { path: named, offset, .. } = &refused else { panic_with(blank, &refused) };
        assert_eq!((named, *offset), (&path, first), "{refused}");
    }
}

/// Writes forty events to each of `n` segments.
async fn rounds(dir: &Path, n: usize) {
    for round in 0..n {
        let store = open(config(dir)).unwrap();
        store.change((0..40).map(|id| add(id % 4, round * 100 + id)).collect()).await.unwrap();
        store.close().await;
    }
}

#[tokio::test]
async fn a_segment_that_is_missing_between_others_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    rounds(dir.path(), 4).await;
    let paths = segments(dir.path());
    // Retention drops the oldest segments, so that a missing first one is no damage.
    let older = copy(dir.path());
    std::fs::remove_file(older.path().join("journal").join(paths[0].file_name().unwrap())).unwrap();
    open(config(older.path())).unwrap();
    let name = paths[1].file_name().unwrap();
    std::fs::remove_file(&paths[1]).unwrap();
    let cut_short = EventLog::open(dir.path()).unwrap().standing().err().unwrap().to_string();
    let refused = open(config(dir.path())).unwrap_err().to_string();
    for said in [refused, cut_short] {
        assert!(said.contains(name.to_str().unwrap()) && said.contains("is missing"), "{said}");
    }
}

#[tokio::test]
async fn a_segment_in_the_place_of_another_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    rounds(dir.path(), 2).await;
    let paths = segments(dir.path());
    std::fs::copy(&paths[0], &paths[1]).unwrap();
    let refused = open(config(dir.path())).unwrap_err();
    let OpenError::Damaged { path, .. } = &refused else { panic_with(0, &refused) };
    assert_eq!(path, &paths[1]);
    assert!(refused.to_string().contains("found change 1, expected 41 or a later one"), "{refused}");
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
    // The file of rows makes the journal redundant; without it, every frame is replayed.
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

/// Replaces a user's row by bytes that are no row.
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
    // Checkpoints and sweeps continue.
    assert_eq!(store.trouble(), None);

    // An erasure need not read the row.
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
    // The checkpointer sweeps in its first round, and completes this erasure in the first or a later one.
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
    let other = EmbeddedConfig { ledger_id: LedgerId { key: 8, ..LEDGER_ID }, ..config(dir.path()) };
    assert!(matches!(open(other), Err(OpenError::OtherLedgerId { .. })));
}

#[tokio::test]
async fn a_directory_of_another_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(config(dir.path())).unwrap());
    std::fs::write(dir.path().join("VERSION"), "micro-reward data 3\n").unwrap();
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
    // The window of these events is over: an id may be used again, and no event can be retracted.
    let later = RULES.max_age_ms + 100;
    let mut again = add(0, 1);
    again.now_ms = later;
    if let ChangeKind::Add(event) = &mut again.kind {
        event.at_ms = later;
    }
    let mut retraction = retract(0, 2);
    retraction.now_ms = later;
    let outcomes = store.change(vec![again, retraction]).await.unwrap();
    assert!(matches!(outcomes[..], [Outcome::Applied(4), Outcome::Unknown { is_news: true }]));
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
    rounds(dir.path(), 2).await;
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
    rounds(dir.path(), 2).await;
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
    let expected: Vec<String> = (0..20)
        .filter(|id| id % 4 != 1 && *id != 2)
        .map(|id| format!("user-{} said event-{id}", id % 4))
        .chain(["user-1 said event-60".to_owned()])
        .collect();
    assert_eq!(standing(&store.events().unwrap()), expected);
    drop(store);
    assert_eq!(standing(&EventLog::open(dir.path()).unwrap()), expected);
}

/// Time at which the rows have forgotten the events of the first second.
const LATE: i64 = RULES.max_age_ms + 1000;

fn context(n: u64) -> Change {
    let mut change = add(1, n as usize);
    if let ChangeKind::Add(event) = &mut change.kind {
        event.context = Some(n);
    }
    change
}

/// Adds feedback of user 1, in general, in contexts and in more contexts than have a ledger; then a later event, at
/// which the row has to forget the others.
async fn say_and_forget(store: &Embedded, skip: Option<usize>) {
    let many = (100..150).rev().map(context);
    let said: Vec<Change> = (0..6).map(|id| add(1, id)).chain(many).collect();
    let said = said.into_iter().enumerate().filter(|(idx, _)| Some(*idx) != skip);
    store.change(said.map(|(_, change)| change).collect()).await.unwrap();
    store.change(vec![add(1, LATE as usize), add(2, 7)]).await.unwrap();
}

fn standing(log: &EventLog) -> Vec<String> {
    let prompt = |logged: Result<micro_reward::state::Logged, OpenError>| match logged.unwrap().change.kind {
        ChangeKind::Add(event) => Some(event.resolved.unwrap().prompt.to_string()),
        _ => None,
    };
    log.standing().unwrap().filter_map(prompt).collect()
}

#[tokio::test]
async fn a_vote_can_be_taken_back_for_as_long_as_its_raw_event_is_kept() {
    let halving = Decay::with_half_life(std::num::NonZeroU64::new(3_600_000).unwrap());
    for decay in [Decay::NONE, halving] {
        let with_decay = |dir: &Path| {
            let mut config = config(dir);
            config.rules.decay = decay;
            config
        };
        // A retraction keeps the time of a ledger's latest event, and the slot of a context where all are taken.
        for idx in [0, 1, 5, 7, 20] {
            let [dir, never_dir] = [0; 2].map(|_| tempfile::tempdir().unwrap());
            let store = open(with_decay(dir.path())).unwrap();
            say_and_forget(&store, None).await;
            let never = open(with_decay(never_dir.path())).unwrap();
            say_and_forget(&never, Some(idx)).await;
            let id = if idx < 6 { idx } else { 149 - (idx - 6) };
            let taken = store.retract(user(1), key(id), LATE + 1).await.unwrap();
            assert_eq!(taken, Outcome::Applied(58), "{idx}");
            let ledgers = |rows: Vec<Option<Row>>| rows[1].as_ref().unwrap().ledgers.clone();
            let expected = ledgers(rows(&never, 2).await);
            assert_eq!(ledgers(rows(&store, 2).await), expected, "{idx}");
            // A retry changes nothing, nor does one after a kill, a stop, or when the retraction itself is forgotten.
            assert_eq!(store.retract(user(1), key(id), LATE + 2).await.unwrap(), Outcome::Duplicate(58));
            let killed = copy(dir.path());
            let again = open(with_decay(killed.path())).unwrap();
            assert_eq!(rows(&again, 3).await, rows(&store, 3).await);
            again.close().await;
            drop(again);
            let again = open(with_decay(killed.path())).unwrap();
            let later = 3 * LATE;
            again.change(vec![add(1, later as usize)]).await.unwrap();
            let before = ledgers(rows(&again, 2).await);
            assert_eq!(again.retract(user(1), key(id), later).await.unwrap(), Outcome::Duplicate(59));
            assert_eq!(ledgers(rows(&again, 2).await), before);
            let said = standing(&again.events().unwrap());
            assert_eq!(said.len(), 58);
            assert!(!said.contains(&format!("user-1 said event-{id}")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_retractions_at_once_subtract_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open(config(dir.path())).unwrap());
    say_and_forget(&store, None).await;
    let tasks = (0..32).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.retract(user(1), key(n % 4), LATE + 1).await.unwrap() })
    });
    let outcomes = futures::future::join_all(tasks).await;
    let n_applied = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Applied(_)))).count();
    assert_eq!(n_applied, 4);
    assert!(outcomes.iter().all(|o| matches!(o, Ok(Outcome::Applied(_) | Outcome::Duplicate(_)))));
    let never_dir = tempfile::tempdir().unwrap();
    let never = open(config(never_dir.path())).unwrap();
    never.change((4..6).map(|id| add(1, id)).chain((100..150).rev().map(context)).collect()).await.unwrap();
    never.change(vec![add(1, LATE as usize)]).await.unwrap();
    let ledgers = |rows: Vec<Option<Row>>| rows[1].as_ref().unwrap().ledgers.clone();
    assert_eq!(ledgers(rows(&store, 2).await), ledgers(rows(&never, 2).await));
}

#[tokio::test]
async fn a_late_retraction_that_a_kill_interrupts_is_done_once_by_its_retry() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    say_and_forget(&store, None).await;
    // The mark is in the journal, and nothing is subtracted yet.
    let mark = Change { now_ms: LATE + 1, ..retract(1, 3) };
    assert_eq!(store.change(vec![mark]).await.unwrap(), [Outcome::Unknown { is_news: true }]);
    let killed = copy(dir.path());
    assert_eq!(store.retract(user(1), key(3), LATE + 2).await.unwrap(), Outcome::Applied(58));
    let again = open(config(killed.path())).unwrap();
    assert_eq!(again.retract(user(1), key(3), LATE + 2).await.unwrap(), Outcome::Applied(58));
    assert_eq!(rows(&again, 3).await, rows(&store, 3).await);
    assert_eq!(again.retract(user(1), key(3), LATE + 2).await.unwrap(), Outcome::Duplicate(58));
}

#[tokio::test]
async fn what_an_import_or_an_erasure_came_after_can_not_be_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    say_and_forget(&store, None).await;
    let carried = rows(&store, 3).await[2].as_ref().unwrap().ledgers.clone();
    store.change(vec![Change { now_ms: LATE, ..import(1, &carried) }]).await.unwrap();
    let before = rows(&store, 2).await[1].as_ref().unwrap().ledgers.clone();
    assert_eq!(store.retract(user(1), key(3), LATE + 1).await.unwrap(), Outcome::Unknown { is_news: false });
    assert_eq!(rows(&store, 2).await[1].as_ref().unwrap().ledgers, before);
    // A retraction that found nothing leaves earlier events unknown, and a mark does not outlive an import.
    let import = Change { now_ms: LATE + 1, ..import(1, &carried) };
    store.change(vec![import]).await.unwrap();
    assert_eq!(store.retract(user(1), key(3), LATE + 2).await.unwrap(), Outcome::Unknown { is_news: false });
    store.change(vec![erase(2, LATE + 2), add(2, LATE as usize + 10)]).await.unwrap();
    assert_eq!(store.retract(user(2), key(7), LATE + 11).await.unwrap(), Outcome::Unknown { is_news: false });
    assert_eq!(rows(&store, 3).await[2].as_ref().unwrap().ledgers.n_events(), 1);
}

#[tokio::test]
async fn a_late_retraction_over_a_damaged_segment_is_refused_and_subtracts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    say_and_forget(&store, None).await;
    store.close().await;
    drop(store);
    let path = written(dir.path());
    let store = open(config(dir.path())).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[300] ^= 1;
    std::fs::write(&path, flipped).unwrap();
    let before = rows(&store, 2).await[1].as_ref().unwrap().clone();
    let refused = store.retract(user(1), key(3), LATE + 1).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unreadable(_)), "{refused}");
    assert!(refused.to_string().contains(path.file_name().unwrap().to_str().unwrap()), "{refused}");
    let after = rows(&store, 2).await[1].as_ref().unwrap().clone();
    assert_eq!((after.version, after.ledgers), (before.version, before.ledgers));
    std::fs::write(&path, whole).unwrap();
    assert_eq!(store.retract(user(1), key(3), LATE + 2).await.unwrap(), Outcome::Applied(58));
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

fn id(name: &str) -> UserId {
    name.parse().unwrap()
}

/// Returns event `n` of the user with this key.
fn said_by(user: UserKey, n: usize) -> Change {
    Change { user, ..add(0, n) }
}

fn has_bytes(dir: &Path, bytes: &[u8]) -> bool {
    let has = |path| std::fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes);
    files(dir).into_iter().any(has)
}

#[tokio::test]
async fn who_reads_the_files_finds_nobody_by_trying_ids() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    let ann = store.keys().of(&id("ann"));
    store.change(vec![said_by(ann, 1)]).await.unwrap();
    let row = store.get(ann, 0).await.unwrap().row;
    store.close().await;
    drop(store);
    assert!(has_bytes(dir.path(), ann.as_bytes()));
    assert!(!has_bytes(dir.path(), UserKeys::default().of(&id("ann")).as_bytes()));
    let again = open(config(dir.path())).unwrap();
    assert_eq!(again.keys().of(&id("ann")), ann);
    assert_eq!(again.get(ann, 0).await.unwrap().row, row);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(open(config(other.path())).unwrap().keys().of(&id("ann")), ann);
}

#[tokio::test]
async fn a_secret_that_is_lost_damaged_or_of_another_directory_is_named() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&dir, &other] {
        let store = open(config(dir.path())).unwrap();
        store.change(vec![add(1, 1)]).await.unwrap();
        store.close().await;
    }
    let secret = dir.path().join("secret");
    let right = std::fs::read(&secret).unwrap();
    let refused = || {
        let error = open(config(dir.path())).unwrap_err();
        assert!(matches!(error, OpenError::Secret { .. }) && error.to_string().contains("secret"), "{error}");
        error.to_string()
    };
    std::fs::write(&secret, "garbage").unwrap();
    assert!(refused().contains("64 hex digits"));
    std::fs::remove_file(&secret).unwrap();
    assert!(refused().contains("found nothing"));
    std::fs::copy(other.path().join("secret"), &secret).unwrap();
    assert!(refused().contains("another secret"));
    std::fs::write(&secret, right).unwrap();
    open(config(dir.path())).unwrap();
}

#[tokio::test]
async fn a_directory_from_before_there_were_secrets_goes_on_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    let ann = UserKeys::default().of(&id("ann"));
    store.change(vec![said_by(ann, 1)]).await.unwrap();
    let killed = copy(dir.path());
    // The copy loses the secret and the record of it in the file of rows.
    for file in ["secret", "rows.redb"] {
        std::fs::remove_file(killed.path().join(file)).unwrap();
    }
    for _ in 0..2 {
        let again = open(config(killed.path())).unwrap();
        assert_eq!(again.keys().of(&id("ann")), ann);
        assert!(again.get(ann, 0).await.unwrap().row.is_some());
        again.close().await;
        assert!(!killed.path().join("secret").exists());
    }
    // A secret from another directory would lose every user.
    std::fs::copy(dir.path().join("secret"), killed.path().join("secret")).unwrap();
    assert!(matches!(open(config(killed.path())), Err(OpenError::Secret { .. })));
}

/// Sets the modification time of every file of the journal.
fn touch(dir: &Path, at: std::time::SystemTime) {
    for path in segments(dir) {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }
}

#[tokio::test]
async fn what_is_kept_depends_on_when_it_was_said_and_not_on_the_times_of_files() {
    let dir = tempfile::tempdir().unwrap();
    let hour_ms = 3_600_000;
    let opened_at = |ms| Embedded::open(config(dir.path()), FakeClock::at(ms)).unwrap();
    let store = opened_at(1000);
    store.change((0..100).map(|id| add(id % 4, id)).collect()).await.unwrap();
    let before = rows(&store, 4).await;
    store.close().await;
    drop(store);
    // A copy may lose its times, or be restored much later: events of the last hour stay.
    touch(dir.path(), std::time::UNIX_EPOCH);
    let again = opened_at(hour_ms);
    again.change(vec![add(5, 200)]).await.unwrap();
    again.close().await;
    drop(again);
    assert!(holds(&dir.path().join("journal"), "user-0 said event-0"));
    // Files with recent times hold events no longer than others.
    touch(dir.path(), std::time::SystemTime::now());
    let late = opened_at(hour_ms + 150);
    late.change(vec![add(6, 201)]).await.unwrap();
    late.close().await;
    assert!(!holds(&dir.path().join("journal"), "user-0 said event-0"));
    assert!(holds(&dir.path().join("journal"), "user-5 said event-200"));
    assert_eq!(rows(&late, 4).await, before);
}

#[tokio::test]
async fn the_last_events_before_a_silence_are_dropped_when_they_have_aged() {
    let dir = tempfile::tempdir().unwrap();
    let clock = FakeClock::at(1000);
    let brief = EmbeddedConfig {
        checkpoint_every: Duration::from_millis(1),
        retention: Duration::from_millis(800),
        ..config(dir.path())
    };
    let store = Embedded::open(brief, clock.clone()).unwrap();
    store.change((0..8).map(|id| add(id % 4, id)).collect()).await.unwrap();
    let before = rows(&store, 4).await;
    clock.advance(3_600_000);
    let dropped = async {
        while holds(&dir.path().join("journal"), "said") {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), dropped).await.is_ok(), "they are kept for ever");
    assert_eq!(rows(&store, 4).await, before);
}

#[tokio::test]
async fn what_a_kill_left_half_written_is_removed_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let parts = [
        "VERSION.part",
        "journal/1.part",
        "outbox/00000000000000000001.part",
        "dead_letters/unreadable_row.part",
    ];
    for part in parts.map(|part| dir.path().join(part)) {
        std::fs::create_dir_all(part.parent().unwrap()).unwrap();
        std::fs::write(part, "what somebody said").unwrap();
    }
    open(config(dir.path())).unwrap();
    assert!(!holds(dir.path(), "what somebody said"));
}

#[tokio::test]
async fn a_retraction_that_finds_nothing_new_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change(vec![add(0, 1), retract(0, 7)]).await.unwrap();
    let length = written(dir.path()).metadata().unwrap().len();
    let unknown = Outcome::Unknown { is_news: false };
    for now_ms in 8..12 {
        assert_eq!(store.retract(user(0), key(7), now_ms).await.unwrap(), unknown);
    }
    assert_eq!(store.change(vec![retract(0, 7)]).await.unwrap(), [unknown]);
    assert_eq!(written(dir.path()).metadata().unwrap().len(), length);
}

#[tokio::test]
async fn an_erasure_of_a_row_that_can_not_be_read_counts_alike_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    store.change((0..6).map(|id| add(id % 3, id)).collect()).await.unwrap();
    store.close().await;
    drop(store);
    spoil(dir.path(), 1);
    let store = open(config(dir.path())).unwrap();
    assert_eq!(store.change(vec![erase(1, 50)]).await.unwrap(), [Outcome::Applied(1)]);
    assert_eq!(store.n_users(), 2);
    let killed = copy(dir.path());
    assert_eq!(open(config(killed.path())).unwrap().n_users(), 2);
}

#[tokio::test]
async fn an_export_keeps_what_was_too_old_to_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path())).unwrap();
    let late = LATE as usize;
    store.change(vec![add(1, 1), add(2, 2), replace(2, 3, 2), add(3, 4)]).await.unwrap();
    // Event 2 was replaced in time, and remains so when a later event references it again.
    let outcomes = store.change(vec![replace(1, late, 1), replace(2, late, 2)]).await.unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied(_))), "{outcomes:?}");
    let said = standing(&store.events().unwrap());
    let expected = ["user-1 said event-1", "user-2 said event-3", "user-3 said event-4"].map(str::to_owned);
    let latest = [1, 2].map(|n| format!("user-{n} said event-{late}"));
    assert_eq!(said, [&expected[..], &latest[..]].concat());
    // A retraction removes event 1.
    assert!(matches!(store.retract(user(1), key(1), LATE + 1).await.unwrap(), Outcome::Applied(_)));
    assert_eq!(standing(&store.events().unwrap()), [&expected[1..], &latest[..]].concat());
}

#[tokio::test]
async fn a_directory_that_can_not_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = open(config(&file.join("data"))).unwrap_err().to_string();
    assert!(refused.contains("file/data"), "{refused}");
}

fn accounts(store: &std::sync::Arc<Embedded>) -> Accounts {
    Accounts::new(std::sync::Arc::new(Unkeyed(store.clone())), FakeClock::at(1000))
}

fn shared(config: EmbeddedConfig) -> std::sync::Arc<Embedded> {
    std::sync::Arc::new(open(config).unwrap())
}

/// Adds feedback of three ids, merges the first into the second and that into the third, with feedback after each
/// merge.
async fn say_and_merge(accounts: &Accounts) {
    accounts.change((0..9).map(|id| add(id % 3, id)).collect()).await.unwrap();
    accounts.merge(&nth(0), &nth(1), 20).await.unwrap();
    accounts.change(vec![add(0, 21), add(2, 22)]).await.unwrap();
    accounts.merge(&nth(1), &nth(2), 30).await.unwrap();
    accounts.change(vec![add(0, 31), add(1, 32), add(2, 33)]).await.unwrap();
}

async fn account(accounts: &Accounts, n: usize) -> Row {
    accounts.get(user(n), 0).await.unwrap().row.unwrap()
}

#[tokio::test]
async fn a_kill_at_any_moment_of_a_merge_loses_nothing_and_counts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let store = shared(config(dir.path()));
    say_and_merge(&accounts(&store)).await;
    let expected = account(&accounts(&store), 2).await;
    assert_eq!(expected.ledgers.n_events(), 14);
    let journal = std::fs::read(written(dir.path())).unwrap();
    let mut end = 36;
    let mut n_kills = 0;
    while end < journal.len() {
        let killed = copy(dir.path());
        let file = std::fs::OpenOptions::new().write(true).open(written(killed.path())).unwrap();
        file.set_len(end as u64).unwrap();
        let survey = EventLog::open(killed.path()).unwrap().survey().unwrap();
        let again = shared(config(killed.path()));
        let people = accounts(&again);
        // The first read completes a merge that was begun: nothing is missing then, and nothing counts twice.
        let mut n_events = 0;
        for n in 0..3 {
            let is_own = people.account_of(&nth(n)).await.unwrap().is_none();
            let row = people.get(user(n), 0).await.unwrap().row;
            let counts = row.filter(|_| is_own).map_or(0, |row| row.ledgers.n_events());
            assert_eq!(survey.n_events.get(&user(n)).copied().unwrap_or_default(), counts, "killed at {end}");
            n_events += counts;
        }
        let said = |logged: Result<micro_reward::state::Logged, OpenError>| logged.unwrap().change.kind;
        let is_said = |kind: &ChangeKind| matches!(kind, ChangeKind::Add(_));
        let n_said = again.events().unwrap().standing().unwrap().map(said).filter(is_said).count();
        assert_eq!(n_events, n_said as u64, "killed at {end}");
        say_and_merge(&people).await;
        let found = account(&people, 0).await;
        assert_eq!(
            (&found.ledgers, &found.answered),
            (&expected.ledgers, &expected.answered),
            "killed at {end}"
        );
        let reopened = copy(killed.path());
        assert_eq!(account(&accounts(&shared(config(reopened.path()))), 1).await, account(&people, 1).await);
        end += 20 + u32::from_le_bytes(*journal[end..].first_chunk().unwrap()) as usize;
        n_kills += 1;
    }
    assert!(n_kills > 20);
}

#[tokio::test]
async fn a_visitors_vote_can_be_taken_back_late_under_either_id() {
    for (taken_under, n) in [(0, 3), (2, 3), (2, 1), (1, 5), (0, 21)] {
        let dir = tempfile::tempdir().unwrap();
        let store = shared(config(dir.path()));
        let people = accounts(&store);
        say_and_merge(&people).await;
        let later = Change { now_ms: LATE, ..add(2, LATE as usize) };
        people.change(vec![later]).await.unwrap();
        let before = account(&people, 2).await;
        let taken = people.retract(user(taken_under), key(n), LATE + 1).await.unwrap();
        assert!(matches!(taken, Outcome::Applied(_)), "{taken:?}");
        let mut expected = before.ledgers.clone();
        let event = event([n % 3, 0][usize::from(n > 20)], n);
        expected.subtract(event.context, &event.increment, event.at_ms, Decay::NONE);
        assert_eq!(account(&people, 2).await.ledgers, expected);
        assert!(matches!(people.retract(user(0), key(n), LATE + 2).await.unwrap(), Outcome::Duplicate(_)));
        let said = standing(&store.events().unwrap());
        assert!(said.len() == 14 && !said.iter().any(|prompt| prompt.ends_with(&format!("event-{n}"))));
    }
}

#[tokio::test]
async fn an_erased_account_and_its_ids_leave_every_file_and_exports_name_the_account() {
    let dir = tempfile::tempdir().unwrap();
    let soon = EmbeddedConfig { erase_within: Duration::from_millis(1), ..config(dir.path()) };
    let store = shared(soon);
    let people = accounts(&store);
    say_and_merge(&people).await;
    let users: std::collections::HashSet<String> = store
        .events()
        .unwrap()
        .standing()
        .unwrap()
        .filter_map(|logged| match logged.unwrap().change.kind {
            ChangeKind::Add(event) => Some(event.resolved.as_ref()?.user.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(users, ["user-2".to_owned()].into());
    people.change(vec![add(3, 40)]).await.unwrap();
    store.close().await;
    drop((people, store));
    let soon = EmbeddedConfig { erase_within: Duration::from_millis(1), ..config(dir.path()) };
    let store = shared(soon);
    accounts(&store).erase(user(2), 50).await.unwrap();
    while ["user-0", "user-1", "user-2"].iter().any(|id| holds(dir.path(), id)) {
        tokio::task::yield_now().await;
    }
    assert!(holds(dir.path(), "user-3"));
}

/// Adds feedback of two ids, some of it replaced or retracted under either id, soon or when the row has forgotten it,
/// with a merge between.
async fn say_in_disorder(people: &Accounts, random: &mut ChaCha8Rng) {
    let merged_at = random.random_range(0..60);
    for step in 0..60_usize {
        let now_ms = step as i64 * 700;
        if step == merged_at {
            people.merge(&nth(0), &nth(1), now_ms).await.unwrap();
        }
        let n = random.random_range(0..2);
        let said = 700 * step;
        let old = 700 * random.random_range(0..=step);
        match random.random_range(0..10) {
            0..=4 => _ = people.change(vec![add(n, said)]).await.unwrap(),
            5..=7 if old < said => _ = people.change(vec![replace(n, said, old)]).await.unwrap(),
            _ => _ = people.retract(user(n), key(old), now_ms).await.unwrap(),
        }
    }
}

#[tokio::test]
async fn exports_and_surveys_hold_what_counts_whatever_is_replaced_taken_back_or_merged() {
    let mut random = ChaCha8Rng::seed_from_u64(12);
    for case in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        let store = shared(EmbeddedConfig { is_sync: false, ..config(dir.path()) });
        let people = accounts(&store);
        say_in_disorder(&people, &mut random).await;
        let n_events = account(&people, 1).await.ledgers.n_events();
        // A close writes every acked event to the files.
        store.close().await;
        let said = standing(&store.events().unwrap());
        assert_eq!(said.len() as u64, n_events, "case {case}: {said:?}");
        drop((people, store));
        let survey = EventLog::open(dir.path()).unwrap().survey().unwrap();
        assert_eq!(survey.n_events.get(&user(1)).copied().unwrap_or_default(), n_events, "case {case}");
        assert_eq!(survey.n_events.len(), usize::from(n_events > 0), "case {case}");
        // The journal alone gives the same counts.
        std::fs::remove_file(dir.path().join("rows.redb")).unwrap();
        let again = EventLog::open(dir.path()).unwrap().survey().unwrap();
        assert_eq!(again.n_events, survey.n_events, "case {case}");
    }
}

#[tokio::test]
async fn an_account_whose_row_can_not_be_read_is_erased_with_its_ids() {
    let dir = tempfile::tempdir().unwrap();
    let store = shared(config(dir.path()));
    let people = accounts(&store);
    say_and_merge(&people).await;
    people.change(vec![add(3, 40), add(4, 41)]).await.unwrap();
    // A kill has interrupted the merge of one more id.
    let departure = Departure::new(&UserKeys::default(), &nth(3), &nth(2), 42);
    for (n, step) in [(2, MergeStep::Expect(user(3))), (3, MergeStep::Depart(departure))] {
        store.change(vec![Change { kind: ChangeKind::Merge(step), ..erase(n, 42) }]).await.unwrap();
    }
    let n_users = store.n_users();
    store.close().await;
    drop((people, store));
    spoil(dir.path(), 2);
    let store = shared(EmbeddedConfig { erase_within: Duration::from_millis(1), ..config(dir.path()) });
    assert_eq!(store.n_users(), n_users);
    let people = accounts(&store);
    assert!(people.get(user(0), 0).await.unwrap_err().is_of_one_row());
    let erasure = people.erase(user(2), 50).await.unwrap();
    assert!(erasure.before.is_err() && matches!(erasure.outcome, Outcome::Applied(_)));
    for n in 0..4 {
        assert_eq!(people.account_of(&nth(n)).await.unwrap(), None);
        assert!(people.get(user(n), 0).await.unwrap().row.is_none_or(|row| row.is_tombstone()), "{n}");
        assert_eq!(people.change(vec![add(n, 49)]).await.unwrap(), [Outcome::Late]);
    }
    assert_eq!(store.n_users(), 1);
    while ["user-0", "user-1", "user-2", "user-3"].iter().any(|id| holds(dir.path(), id)) {
        tokio::task::yield_now().await;
    }
    assert!(holds(dir.path(), "user-4"));
}

#[tokio::test]
async fn what_is_on_its_way_to_an_account_is_in_no_sample_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = shared(config(dir.path()));
    store.change(vec![add(1, 1), add(2, 2)]).await.unwrap();
    let departure = Departure::new(&UserKeys::default(), &nth(1), &nth(2), 42);
    for (n, step) in [(2, MergeStep::Expect(user(1))), (1, MergeStep::Depart(departure))] {
        store.change(vec![Change { kind: ChangeKind::Merge(step), ..erase(n, 42) }]).await.unwrap();
    }
    let counts = async || -> Vec<u64> {
        store.sample(10).await.unwrap().iter().map(|row| row.ledgers.n_events()).collect()
    };
    assert_eq!((counts().await, store.n_users()), (vec![1], 1));
    account(&accounts(&store), 1).await;
    assert_eq!((counts().await, store.n_users()), (vec![2], 1));
}
