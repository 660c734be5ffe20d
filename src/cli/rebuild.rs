//! `micro-reward rebuild`: scores the events of one data directory by another bundle's heads, into a new one.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args as ClapArgs;

use super::progress::bar;
use super::{Failure, say};
use crate::batch::EmbeddingCache;
use crate::server::assembly;
use crate::service::{Model, Service};
use crate::state::{
    Change, ChangeKind, Departure, Embedded, EventKey, EventLog, LedgerEvent, MergeStep, OpenError, Outcome,
    Receipts, Survey, UserKey, UserStore, Withdrawal, Withdrawn,
};
use crate::types::config::{Config, Layers, environment};
use crate::types::{SystemClock, UserId};

/// Changes scored and applied at once, unless their texts have `CHUNK_BYTES` before.
const CHUNK: usize = 256;
const CHUNK_BYTES: usize = 4 << 20;

/// Ledgers belong to heads; raw events do not. Rules such as `feedback.max_age` and `posterior.half_life` are those
/// of the config, as in `serve`. No server may use either directory meanwhile; the old one stays unchanged.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The data directory whose events are read.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Directory to write the new data to; must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The bundle whose heads score the events.
    #[arg(long, value_name = "DIR")]
    bundle: Option<String>,
    /// A TOML file that overlays the defaults.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// The counts of a rebuild, and the increments that later events may withdraw.
#[derive(Debug, Default)]
struct Done {
    n_events: u64,
    n_without_texts: u64,
    /// Feedback with a text that the new tokenizer turns into no token.
    n_untokenizable: u64,
    /// Feedback that the rules refuse.
    n_refused: u64,
    /// Users with imported evidence of other heads, which has no events.
    imported: HashSet<UserKey>,
    /// Users with imported evidence in a directory where only events name users, and no event names them.
    unnamed: HashSet<UserKey>,
    n_users: usize,
    /// Users whose former ledgers counted more events than are left.
    n_incomplete: usize,
    /// Increments by the new heads of events that are withdrawn after their rows have forgotten them.
    added: HashMap<(UserKey, EventKey), Vec<Withdrawn>>,
    /// Time in ms for which the new rows remember events.
    max_age_ms: i64,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let layers = match &args.config {
        Some(path) => Layers::defaults().file(path),
        None => Layers::defaults(),
    };
    let layers = layers.environment(environment()).flag("--bundle", "model.bundle", args.bundle.clone());
    let config = Config::new(layers).map_err(Failure::refused)?;
    check_places(args)?;
    let log = EventLog::open(&args.from).map_err(Failure::refused)?;
    let survey = log.survey().map_err(Failure::refused)?;
    // The new data directory is renamed into place at the end, so it is complete or absent, however the run ends.
    let parent = args.to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    let beside = tempfile::Builder::new().prefix(".rebuild-").tempdir_in(parent);
    let beside = beside.map_err(|error| super::files::at(parent, &error))?;
    let dir = beside.path().join("data");

    // Acked events count, so no limit of the queue may shed any of them.
    let config = Config {
        batch: crate::types::config::Batch { max_queued_texts: NonZeroUsize::MAX, ..config.batch },
        ..config
    };
    let cache = Arc::new(EmbeddingCache::new(config.cache.max_bytes));
    let model = assembly::load(&config, &config.model.bundle, &cache, None).map_err(Failure::refused)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?;
    let workers = model.workers.clone();
    let done = runtime.block_on(rebuild(&config, model, (&log, &survey), &dir));
    workers.stop();
    let done = done?;
    std::fs::rename(&dir, &args.to).map_err(|error| super::files::at(&args.to, &error))?;
    report(&done, args);
    Ok(())
}

fn check_places(Args { from, to, .. }: &Args) -> Result<(), Failure> {
    if !from.join("VERSION").is_file() {
        return Err(Failure::refused(format!("--from: found no data directory at {}", from.display())));
    }
    let is_taken = match std::fs::read_dir(to) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    if is_taken {
        let to = to.display();
        return Err(Failure::refused(format!(
            "--to: found something at {to}, expected nothing or an empty directory"
        )));
    }
    Ok(())
}

async fn rebuild(
    config: &Config,
    model: Model,
    (log, survey): (&EventLog, &Survey),
    dir: &Path,
) -> Result<Done, Failure> {
    let mut into = assembly::embedded(config, &model);
    (into.dir, into.is_sync) = (dir.to_owned(), false);
    (into.max_users, into.rules.max_events) = (usize::MAX, usize::MAX);
    let max_age_ms = into.rules.max_age_ms;
    let is_keyed = log.hand_on_secret(dir).map_err(Failure::failed)?;
    let keeps_imports = survey.ledger_id == Some(into.ledger_id);
    let store = Embedded::open(into, Arc::new(SystemClock)).map_err(Failure::failed)?;
    let store: Arc<dyn UserStore> = Arc::new(store);
    let names = if is_keyed { None } else { Some(names(log)?) };
    let keys = store.keys();
    let id = |user: UserKey| names.as_ref().and_then(|names| names.get(&user));
    let named = |user: UserKey| if is_keyed { Some(user) } else { id(user).map(|id| keys.of(id)) };
    let settings = assembly::settings(config, &model);
    let service = Service::new(model, store.clone(), Receipts::off(), Arc::new(SystemClock), settings);

    let mut done = Done { max_age_ms, ..Done::default() };
    let bar = bar("score");
    bar.set_length(survey.n_events.values().sum());
    let (mut changes, mut n_bytes) = (Vec::new(), 0);
    let mut departed = HashSet::new();
    for logged in log.unerased().map_err(Failure::refused)? {
        let mut change = logged.map_err(|error: OpenError| Failure::refused(error))?.change;
        // A user whom no event names can't be given a user key of the new directory.
        let Some(user) = named(change.user) else {
            if let ChangeKind::Import(_) = &change.kind {
                done.unnamed.insert(change.user);
            }
            continue;
        };
        if let ChangeKind::Merge(MergeStep::Depart(departure)) = &mut change.kind
            && let Some(id) = id(change.user)
        {
            *departure = Departure::new(&keys, id, &departure.account, change.now_ms);
        }
        change.user = user;
        if let ChangeKind::Merge(step) = &mut change.kind {
            // An id that no event names keeps its old key, which no user of the new directory has; the evidence that
            // it gave an account stays there.
            step.others().into_iter().for_each(|other| *other = named(*other).unwrap_or(*other));
        }
        match &mut change.kind {
            ChangeKind::Add(event) => match &event.resolved {
                Some(resolved) => {
                    bar.inc(1);
                    n_bytes += resolved.prompt.len();
                    n_bytes += resolved.responses.iter().map(|response| response.text.len()).sum::<usize>();
                }
                None => {
                    done.n_without_texts += 1;
                    let Some(takes_back) = change.taking_back() else { continue };
                    change = takes_back;
                }
            },
            ChangeKind::Import(_) if !keeps_imports => {
                make(&service, std::mem::take(&mut changes), survey, &mut done).await?;
                done.finish(change.user);
                done.imported.insert(change.user);
                continue;
            }
            ChangeKind::Erase => _ = done.imported.remove(&change.user),
            ChangeKind::Withdraw(Withdrawal { key, events }) => {
                // The increments by the new heads must be complete before they are withdrawn.
                make(&service, std::mem::take(&mut changes), survey, &mut done).await?;
                match done.added.remove(&(change.user, *key)) {
                    Some(added) => *events = added,
                    None => continue,
                }
            }
            ChangeKind::Merge(MergeStep::Depart(departure)) => {
                // The merge is repeated with the increments by the new heads, so the steps that follow it in the log
                // are skipped.
                make(&service, std::mem::take(&mut changes), survey, &mut done).await?;
                departed.insert(change.user);
                done.depart(change.user, departure.into);
                let merged = service.accounts().depart(change).await;
                merged.map_err(|error| Failure::failed(error.to_string()))?;
                continue;
            }
            // A row absorbed without its departure in the log has left its evidence, but no events.
            ChangeKind::Merge(MergeStep::Absorb(absorbed)) if !departed.contains(&absorbed.from) => {
                if !keeps_imports {
                    done.imported.insert(change.user);
                    continue;
                }
            }
            ChangeKind::Merge(MergeStep::Expect(_) | MergeStep::Forgo(_)) => {}
            ChangeKind::Merge(_) => continue,
            ChangeKind::Import(_) | ChangeKind::Retract(_) => {}
        }
        changes.push(change);
        if changes.len() >= CHUNK || n_bytes >= CHUNK_BYTES {
            n_bytes = 0;
            make(&service, std::mem::take(&mut changes), survey, &mut done).await?;
        }
    }
    make(&service, changes, survey, &mut done).await?;
    bar.finish();
    for (&user, &n) in &survey.n_events {
        let Some(user) = named(user) else {
            done.n_incomplete += 1;
            continue;
        };
        let row = store.get(user, 0).await.map_err(Failure::failed)?.row;
        let is_short = row.map_or(0, |row| row.ledgers.n_events()) < n;
        done.n_incomplete += usize::from(is_short || done.imported.contains(&user));
    }
    done.n_users = store.n_users();
    store.close().await;
    match store.trouble() {
        Some(trouble) => Err(Failure::failed(trouble)),
        None => Ok(done),
    }
}

/// Returns the users of a directory without a secret, as far as events name them.
fn names(log: &EventLog) -> Result<HashMap<UserKey, UserId>, Failure> {
    let mut names = HashMap::new();
    for logged in log.unerased().map_err(Failure::refused)? {
        let change = logged.map_err(|error: OpenError| Failure::refused(error))?.change;
        match change.kind {
            ChangeKind::Add(LedgerEvent { resolved: Some(resolved), .. }) => {
                names.entry(change.user).or_insert_with(|| resolved.user.clone());
            }
            ChangeKind::Merge(MergeStep::Depart(departure)) => {
                names.entry(departure.into).or_insert_with(|| departure.account.clone());
            }
            _ => {}
        }
    }
    Ok(names)
}

/// Applies changes together, and counts the outcomes of the feedback among them.
async fn make(
    service: &Service,
    mut changes: Vec<Change>,
    survey: &Survey,
    done: &mut Done,
) -> Result<(), Failure> {
    let outcomes =
        service.relearn(&mut changes).await.map_err(|error| Failure::failed(with_source(&error)))?;
    for (change, outcome) in changes.iter().zip(outcomes) {
        match outcome {
            Ok(outcome) => done.count(change, outcome, survey),
            Err(error) if error.code() == "untokenizable_text" => {
                done.n_untokenizable += 1;
                // Feedback without tokens still takes back the events that it replaces.
                if let ChangeKind::Add(LedgerEvent { replaces: Some(replaced), .. }) = &change.kind {
                    done.forget(change, *replaced);
                }
            }
            Err(error) => return Err(Failure::failed(with_source(&error))),
        }
    }
    Ok(())
}

impl Done {
    /// Moves the increments of a merged id to its account, which can withdraw them from then on.
    fn depart(&mut self, user: UserKey, account: UserKey) {
        let keys: Vec<EventKey> =
            self.added.keys().filter(|(owner, _)| *owner == user).map(|(_, key)| *key).collect();
        for key in keys {
            let theirs = self.added.remove(&(user, key)).unwrap_or_default();
            let own = self.added.entry((account, key)).or_default();
            // An event that was sent under both ids counts once.
            let is_own = |event: &Withdrawn| own.iter().any(|own| own.is_same(event));
            let alone: Vec<Withdrawn> = theirs.into_iter().filter(|event| !is_own(event)).collect();
            own.extend(alone);
        }
        if self.imported.remove(&user) {
            self.imported.insert(account);
        }
    }

    fn count(&mut self, change: &Change, outcome: Outcome, survey: &Survey) {
        match (&change.kind, outcome) {
            (ChangeKind::Add(event), Outcome::Applied(_) | Outcome::Replaced(_)) => {
                self.n_events += 1;
                if let (Some(replaced), Outcome::Replaced(_)) = (event.replaces, outcome) {
                    self.forget(change, replaced);
                }
                if survey.withdrawn.contains(&event.key) {
                    self.added.entry((change.user, event.key)).or_default().push(Withdrawn::of(event));
                }
            }
            (ChangeKind::Add(_), _) => self.n_refused += 1,
            (ChangeKind::Retract(key), Outcome::Applied(_)) => self.forget(change, *key),
            (ChangeKind::Import(_), Outcome::Applied(_)) => self.finish(change.user),
            _ => {}
        }
    }

    /// Drops the events with this key that the row remembered: the row has taken them back itself.
    fn forget(&mut self, Change { user, now_ms, .. }: &Change, key: EventKey) {
        let since_ms = now_ms.saturating_sub(self.max_age_ms);
        if let Some(added) = self.added.get_mut(&(*user, key)) {
            added.retain(|event| event.at_ms < since_ms);
        }
    }

    /// Drops a user's increments, which can't be withdrawn: imported evidence has replaced them.
    fn finish(&mut self, user: UserKey) {
        self.added.retain(|(owner, _), _| *owner != user);
    }
}

fn with_source(error: &crate::types::Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

fn report(done: &Done, args: &Args) {
    let out = &mut std::io::stdout();
    let Done { n_events, n_users, .. } = done;
    say(out, &format!("{}: ledgers of {n_users} users out of {n_events} events", args.to.display()));
    let left_out = [
        (done.n_without_texts, "events were kept without texts and do not count"),
        (done.n_untokenizable, "events have a text that the tokenizer makes nothing of, and do not count"),
        (done.n_refused, "events are not taken by `[feedback]`, and do not count"),
        (done.imported.len() as u64, "users have imported evidence of other heads, which does not count"),
        (
            done.unnamed.len() as u64,
            "users have imported evidence and no event that names them; it does not count",
        ),
        (done.n_incomplete as u64, "users have said more than the events that are still kept"),
    ];
    for (n, what) in left_out.into_iter().filter(|(n, _)| *n > 0) {
        say(out, &format!("  {n} {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::{Ledgers, pair};

    const KEY: EventKey = EventKey(1);

    fn change(now_ms: i64, kind: ChangeKind) -> Change {
        Change { user: UserKey::from([0; 16]), now_ms, kind }
    }

    fn add(at_ms: i64) -> Change {
        let event = LedgerEvent {
            key: KEY,
            at_ms,
            context: None,
            question: None,
            increment: pair(&[at_ms as f64, 1.0]),
            content: None,
            replaces: None,
            resolved: None,
        };
        change(at_ms, ChangeKind::Add(event))
    }

    /// Returns the times of the events with `KEY` that can still be withdrawn.
    fn left(changes: &[Change]) -> Vec<i64> {
        let survey = Survey { withdrawn: HashSet::from([KEY]), ..Survey::default() };
        let mut done = Done { max_age_ms: 100, ..Done::default() };
        changes.iter().for_each(|change| done.count(change, Outcome::Applied(1), &survey));
        done.added.into_values().flatten().map(|event| event.at_ms).collect()
    }

    #[test]
    fn a_retraction_takes_all_that_the_row_remembers_and_a_late_one_the_rest() {
        let retract = |now_ms| change(now_ms, ChangeKind::Retract(KEY));
        // The last two events were sent under two ids of one user.
        let said = [add(0), add(150), add(160)];
        assert_eq!(left(&said), [0, 150, 160]);
        assert_eq!(left(&[&said[..], &[retract(170)]].concat()), [0]);
        assert_eq!(left(&[&said[..], &[retract(1000)]].concat()), [0, 150, 160]);
    }

    #[test]
    fn nothing_is_taken_back_from_what_was_imported() {
        let import = change(5, ChangeKind::Import(Ledgers::new(2)));
        assert_eq!(left(&[add(0), import, add(10)]), [10]);
    }
}
