//! Receipts: scores of responses with ids, so that feedback can reference the responses by id alone.
//!
//! Receipts are bounded by bytes and by age; the least recently used are evicted first. This module deliberately
//! knows no bundle: a receipt is numbers and texts of some heads, and the caller says which heads count.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;

use super::receipt_log::{Entry, ReceiptLog};
use super::{OpenError, Receipt, UserKey, UserKeys};
use crate::types::config;
use crate::types::{HeadsFingerprint, Liveness, UserId};

/// The receipts of one process.
#[derive(Debug)]
pub struct Receipts {
    /// The cache; none where receipts are turned off.
    cache: Option<Cache<u128, Held>>,
    ttl: Duration,
    /// Log that keeps receipts across restarts, if they are persisted.
    log: Option<Arc<ReceiptLog>>,
    /// Hash function of users in what is stored; in memory alone it needs no secret.
    keys: UserKeys,
    /// Hash function of users in the store, which erases users by these keys.
    users: UserKeys,
    /// The owners whose receipts the next sweep drops.
    erased: Mutex<HashSet<u64>>,
    sweep: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Held {
    /// Hash of the key of the user who requested the scores, if there is one.
    owner: Option<u64>,
    receipt: Arc<Receipt>,
}

impl Receipts {
    /// Returns receipts that never exceed the bounds, and are empty; 0 bytes turn them off.
    #[must_use]
    pub fn new(bounds: config::Responses) -> Self {
        let config::Responses { max_bytes, ttl, .. } = bounds;
        let build = || {
            Cache::builder()
                .max_capacity(max_bytes)
                .weigher(|_, held: &Held| u32::try_from(held.receipt.bytes()).unwrap_or(u32::MAX))
                // Eviction by frequency would drop the newest responses, which are those that feedback is about.
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(ttl)
                .build()
        };
        let cache = (max_bytes > 0).then(build);
        Self {
            cache,
            ttl,
            log: None,
            keys: UserKeys::default(),
            users: UserKeys::default(),
            erased: Mutex::default(),
            sweep: tokio::sync::Mutex::default(),
        }
    }

    /// Returns receipts that are turned off.
    #[must_use]
    pub fn off() -> Self {
        Self::new(config::Responses { max_bytes: 0, ttl: Duration::ZERO, is_persisted: false })
    }

    /// Returns [`Receipts::new`] with the receipts that `dir` holds, and stores later ones there. Blocks.
    ///
    /// # Errors
    /// When the directory can't be used, or another process owns it.
    pub fn kept_in(dir: &Path, bounds: config::Responses, now_ms: i64) -> Result<Self, OpenError> {
        let receipts = Self::new(bounds);
        let Some(cache) = &receipts.cache else { return Ok(receipts) };
        let log = ReceiptLog::open(dir, (bounds.ttl, now_ms), |entry| match entry {
            Entry::Remember { key, owner, receipt } if receipts.counts(&receipt, now_ms) => {
                cache.insert(key, Held { owner, receipt: Arc::new(receipt) });
            }
            Entry::Remember { .. } => {}
            Entry::Forget { owner } => forget(cache, &HashSet::from([owner])),
        })?;
        receipts.run_pending_tasks();
        Ok(Self { keys: log.keys.clone(), log: Some(Arc::new(log)), ..receipts })
    }

    /// Returns the same receipts, for the users of a store with these keys.
    #[must_use]
    pub fn of_users(self, users: UserKeys) -> Self {
        Self { users, ..self }
    }

    /// Reports whether receipts are turned on.
    #[must_use]
    pub fn are_on(&self) -> bool {
        self.cache.is_some()
    }

    /// Stores the receipt of a request of a user, or of one without a user. The newest of an id wins.
    pub fn remember(&self, user: Option<&UserId>, id: &str, receipt: Receipt) {
        if let Some(cache) = &self.cache {
            let (key, owner) = (self.key(user, id), user.map(|user| self.owner(self.users.of(user))));
            if let Some(log) = &self.log {
                log.append(&Entry::Remember { key, owner, receipt: &receipt });
            }
            cache.insert(key, Held { owner, receipt: Arc::new(receipt) });
        }
    }

    /// Returns the receipt of an id: the user's own, or else the one of a request without a user. A receipt that is
    /// too old, or of other heads, counts as none.
    #[must_use]
    pub fn find(
        &self,
        user: &UserId,
        id: &str,
        heads: &HeadsFingerprint,
        now_ms: i64,
    ) -> Option<Arc<Receipt>> {
        let cache = self.cache.as_ref()?;
        [Some(user), None].into_iter().find_map(|user| {
            let held = cache.get(&self.key(user, id))?;
            let counts = held.receipt.heads == *heads && self.counts(&held.receipt, now_ms);
            counts.then_some(held.receipt)
        })
    }

    /// Returns 128 bits of BLAKE3: with fewer, a client could search for an id that stands for another user's
    /// response.
    fn key(&self, user: Option<&UserId>, id: &str) -> u128 {
        let user = user.map(UserId::as_str);
        let mut hasher = self.keys.hasher();
        // The length keeps two pairs of user and id from having the same bytes.
        hasher.update(&user.map_or(0, |user| 1 + user.len() as u64).to_le_bytes());
        hasher.update(user.unwrap_or_default().as_bytes());
        hasher.update(id.as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        u128::from_le_bytes(first)
    }

    /// Returns the owner of a user's receipts. The keys of a store may be unkeyed hashes, which must not be written
    /// to files.
    fn owner(&self, user: UserKey) -> u64 {
        let digest = self.keys.hasher().update(user.as_bytes()).finalize();
        digest.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }

    /// Reports whether a receipt counts by the service's clock: the cache expires receipts by its own clock.
    fn counts(&self, receipt: &Receipt, now_ms: i64) -> bool {
        let age = now_ms.saturating_sub(receipt.at_ms).max(0).unsigned_abs();
        u128::from(age) < self.ttl.as_millis()
    }

    /// Forgets all receipts of users. The sweep visits all receipts, off the async threads; callers that arrive
    /// meanwhile share the next sweep. (The cache's own invalidation by predicate makes every `find` try every
    /// pending predicate: 0.4 ms with a thousand of them.)
    pub async fn forget(&self, users: &[UserKey]) {
        let Some(cache) = self.cache.clone() else { return };
        for owner in users.iter().map(|user| self.owner(*user)) {
            self.erased.lock().insert(owner);
            if let Some(log) = &self.log {
                log.append(&Entry::Forget { owner });
            }
        }
        let _sweeping = self.sweep.lock().await;
        let owners = std::mem::take(&mut *self.erased.lock());
        if owners.is_empty() {
            return;
        }
        // The task fails only while the process ends, and the receipts end with it.
        let log = self.log.clone();
        let sweep = move || {
            forget(&cache, &owners);
            log.iter().for_each(|log| log.forget(&owners));
        };
        let _ = tokio::task::spawn_blocking(sweep).await;
    }

    /// Evicts receipts that exceed the bounds, and starts a sweep of the log if one is due. The cache evicts by
    /// itself, but up to 64 receipts later, which may be long ones.
    pub fn run_pending_tasks(&self) {
        if let Some(cache) = &self.cache {
            cache.run_pending_tasks();
        }
        if let Some(log) = self.log.clone().filter(|log| log.is_due()) {
            let part = log.liveness.part("the sweep of receipts");
            tokio::task::spawn_blocking(move || {
                log.sweep();
                part.end();
            });
        }
    }

    /// Returns the liveness of the log's background parts.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        self.log.as_ref().map(|log| log.liveness.clone()).unwrap_or_default()
    }

    /// Returns the number of receipts, and about how many bytes they hold.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        self.run_pending_tasks();
        self.cache.as_ref().map_or((0, 0), |cache| (cache.entry_count(), cache.weighted_size()))
    }
}

/// Drops the receipts of these owners from the cache.
fn forget(cache: &Cache<u128, Held>, owners: &HashSet<u64>) {
    let is_erased = |held: &Held| held.owner.is_some_and(|owner| owners.contains(&owner));
    for (key, _) in cache.iter().filter(|(_, held)| is_erased(held)) {
        cache.invalidate(&*key);
    }
    cache.run_pending_tasks();
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn bounds(max_bytes: u64) -> config::Responses {
        config::Responses { max_bytes, ttl: Duration::from_millis(HOUR_MS as u64), is_persisted: false }
    }

    fn receipts(max_bytes: u64) -> Receipts {
        Receipts::new(bounds(max_bytes))
    }

    fn receipt(text: &str) -> Receipt {
        Receipt {
            heads: "h1".into(),
            at_ms: 0,
            prompt: "tea?".into(),
            text: text.into(),
            rewards: Box::new([1.0, 2.0]),
            router_logits: Arc::new([0.5, 0.5]),
        }
    }

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    fn key(user: &UserId) -> UserKey {
        UserKeys::default().of(user)
    }

    #[tokio::test]
    async fn the_users_own_receipt_comes_first_and_nobodys_second() {
        let (receipts, ann, ben) = (receipts(1 << 20), user("ann"), user("ben"));
        let text =
            |user: &UserId| receipts.find(user, "a", &"h1".into(), 0).map(|found| found.text.to_string());
        receipts.remember(Some(&ann), "a", receipt("of ann"));
        assert_eq!((text(&ann), text(&ben)), (Some("of ann".to_owned()), None));
        receipts.remember(None, "a", receipt("of nobody"));
        assert_eq!((text(&ann).unwrap(), text(&ben).unwrap()), ("of ann".to_owned(), "of nobody".to_owned()));
        receipts.remember(Some(&ann), "a", receipt("newer"));
        assert_eq!(text(&ann).unwrap(), "newer");
        receipts.forget(&[key(&ann)]).await;
        assert_eq!(text(&ann).unwrap(), "of nobody");
    }

    #[test]
    fn a_receipt_counts_for_its_heads_and_until_it_is_too_old() {
        let (receipts, ann) = (receipts(1 << 20), user("ann"));
        receipts.remember(Some(&ann), "a", receipt("x"));
        let is_found = |heads: &str, now_ms| receipts.find(&ann, "a", &heads.into(), now_ms).is_some();
        assert!(is_found("h1", HOUR_MS - 1) && is_found("h1", -5));
        assert!(!is_found("h1", HOUR_MS) && !is_found("h2", 0));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_are_forgotten_first() {
        let (max_bytes, ann) = (100_000, user("ann"));
        let receipts = receipts(max_bytes);
        for n in 0..5_000 {
            receipts.remember(Some(&ann), &format!("{n}"), receipt(&"x".repeat(n % 700)));
            if n % 100 == 99 {
                let (_, bytes) = receipts.size();
                assert!(bytes <= max_bytes, "{bytes}");
            }
        }
        let (n_held, bytes) = receipts.size();
        assert!(bytes > max_bytes * 9 / 10 && n_held > 50, "{n_held} {bytes}");
        let held: Vec<usize> =
            (0..5_000).filter(|n| receipts.find(&ann, &format!("{n}"), &"h1".into(), 0).is_some()).collect();
        assert_eq!(held, (5_000 - n_held as usize..5_000).collect::<Vec<_>>(), "the newest, without a gap");
        receipts.remember(Some(&ann), "huge", receipt(&"x".repeat(200_000)));
        assert!(receipts.size().1 <= max_bytes);
        assert_eq!(receipts.find(&ann, "huge", &"h1".into(), 0), None);
    }

    #[test]
    fn a_long_receipt_takes_the_place_of_thousands_of_short_ones_at_once() {
        let (max_bytes, ann) = (20_000_000, user("ann"));
        let receipts = receipts(max_bytes);
        for n in 0..40_000 {
            receipts.remember(Some(&ann), &format!("{n}"), receipt("x"));
        }
        receipts.run_pending_tasks();
        receipts.remember(Some(&ann), "long", receipt(&"x".repeat(15_000_000)));
        let (n_held, bytes) = receipts.size();
        assert!(bytes <= max_bytes && n_held < 8_000, "{n_held} {bytes}");
        assert!(receipts.find(&ann, "long", &"h1".into(), 0).is_some());
    }

    #[tokio::test]
    async fn an_erased_users_receipts_leave_memory() {
        let receipts = receipts(1 << 20);
        for n in 0..100 {
            receipts.remember(Some(&user(["ann", "ben"][n % 2])), &format!("{n}"), receipt("x"));
        }
        assert_eq!(receipts.size().0, 100);
        let (ann, cid) = (user("ann"), user("cid"));
        let (ann, cid) = ([key(&ann)], [key(&cid)]);
        tokio::join!(receipts.forget(&ann), receipts.forget(&cid));
        assert_eq!(receipts.size().0, 50);
    }

    #[test]
    fn zero_bytes_turn_them_off() {
        let (receipts, ann) = (receipts(0), user("ann"));
        receipts.remember(Some(&ann), "a", receipt("x"));
        assert!(!receipts.are_on() && receipts.find(&ann, "a", &"h1".into(), 0).is_none());
        assert_eq!(receipts.size(), (0, 0));
    }

    #[tokio::test]
    async fn files_are_kept_by_when_answers_were_given_and_not_by_their_own_times() {
        let dir = tempfile::tempdir().unwrap();
        let segments = || {
            let files = std::fs::read_dir(dir.path().join("journal")).unwrap();
            let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
            paths.sort();
            paths
        };
        let touch = |at| {
            for path in segments() {
                std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
            }
        };
        let swept_at = |now_ms| {
            let receipts = Receipts::kept_in(dir.path(), bounds(1 << 20), now_ms).unwrap();
            let log = receipts.log.as_ref().unwrap();
            // The check records a sweep, so that `run_pending_tasks` starts none beside the test's.
            assert!(log.is_due());
            log.sweep();
            receipts
        };
        swept_at(0).remember(Some(&user("ann")), "a", receipt("x"));
        let first = segments()[0].clone();
        touch(std::time::UNIX_EPOCH);
        assert_eq!(swept_at(HOUR_MS - 1000).size().0, 1);
        assert!(first.exists());
        touch(std::time::SystemTime::now());
        assert_eq!(swept_at(HOUR_MS + 1).size().0, 0);
        assert!(!first.exists());
    }

    /// Returns the files of a directory that hold a text.
    fn holding(dir: &Path, text: &str) -> Vec<std::path::PathBuf> {
        let files = std::fs::read_dir(dir.join("journal")).unwrap().map(|file| file.unwrap().path());
        let holds = |path: &std::path::PathBuf| {
            std::fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
        };
        files.filter(holds).collect()
    }

    fn spoil(path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    #[tokio::test]
    async fn a_damaged_file_is_removed_and_keeps_no_other_beyond_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let opened = |now_ms| {
            let receipts = Receipts::kept_in(dir.path(), bounds(1 << 20), now_ms).unwrap();
            // The check records a sweep, so that `run_pending_tasks` starts none beside the test's.
            assert!(receipts.log.as_ref().unwrap().is_due());
            receipts
        };
        for (n, text) in ["first text", "second text", "third text"].into_iter().enumerate() {
            opened(n as i64).remember(Some(&user("ann")), text, receipt(text));
        }
        // One file is damaged before the start, and one while the log is open.
        spoil(&holding(dir.path(), "first text")[0]);
        let receipts = opened(3);
        assert_eq!((holding(dir.path(), "first text").len(), receipts.size().0), (0, 2));
        let log = receipts.log.as_ref().unwrap();
        spoil(&holding(dir.path(), "second text")[0]);
        log.sweep();
        assert_eq!(holding(dir.path(), "second text").len(), 0);
        assert_eq!(holding(dir.path(), "third text").len(), 1);
        drop(receipts);
        let late = opened(HOUR_MS + 1);
        late.log.as_ref().unwrap().sweep();
        assert_eq!(holding(dir.path(), "third text").len(), 0);
    }

    #[tokio::test]
    async fn an_erased_users_receipts_leave_a_damaged_file_too() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["text of ann", "text of ben"] {
            let receipts = Receipts::kept_in(dir.path(), bounds(1 << 20), 0).unwrap();
            receipts.remember(Some(&user(&text[8..])), "a", receipt(text));
        }
        let receipts = Receipts::kept_in(dir.path(), bounds(1 << 20), 0).unwrap();
        spoil(&holding(dir.path(), "text of ann")[0]);
        receipts.forget(&[key(&user("ann"))]).await;
        assert!(holding(dir.path(), "text of ann").is_empty());
        assert_eq!(holding(dir.path(), "text of ben").len(), 1);
    }

    #[tokio::test]
    async fn a_directory_of_the_version_before_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        drop(Receipts::kept_in(dir.path(), bounds(1 << 20), 0).unwrap());
        let version = dir.path().join("VERSION");
        std::fs::write(&version, "micro-reward data 1\n").unwrap();
        drop(Receipts::kept_in(dir.path(), bounds(1 << 20), 0).unwrap());
        assert_eq!(std::fs::read_to_string(&version).unwrap(), "micro-reward data 2\n");
    }

    #[tokio::test]
    async fn what_is_persisted_is_there_after_a_kill_unless_its_user_was_erased() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("receipts");
        let receipts = Receipts::kept_in(&path, bounds(1 << 20), 0).unwrap();
        receipts.remember(Some(&user("ann")), "a", receipt("old"));
        receipts.remember(Some(&user("ann")), "a", receipt("new"));
        receipts.remember(Some(&user("ben")), "b", receipt("of ben"));
        receipts.forget(&[key(&user("ben"))]).await;
        let holds = |text: &str| {
            let files = std::fs::read_dir(path.join("journal")).unwrap();
            let bytes =
                files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect::<Vec<u8>>();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        };
        assert!(holds("new") && !holds("of ben"));
        receipts.remember(None, "c", receipt("of nobody"));
        drop(receipts);
        let again = Receipts::kept_in(&path, bounds(1 << 20), HOUR_MS / 2).unwrap();
        let text = |name: &str, id: &str, now_ms: i64| {
            again.find(&user(name), id, &"h1".into(), now_ms).map(|found| found.text.to_string())
        };
        assert_eq!(text("ann", "a", HOUR_MS / 2), Some("new".to_owned()));
        assert_eq!(text("ben", "b", HOUR_MS / 2), None);
        assert_eq!(text("ben", "c", HOUR_MS / 2), Some("of nobody".to_owned()));
        assert_eq!(text("ann", "a", HOUR_MS), None);
        drop(again);
        let late = Receipts::kept_in(&path, bounds(1 << 20), HOUR_MS).unwrap();
        assert_eq!(late.size().0, 0);
    }
}
