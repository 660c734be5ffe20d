//! `[valkey]`: the shared store. Its errors never show a value that was found: it may be a password.

use std::path::PathBuf;
use std::time::Duration;

use super::section::{HOUR, Section};
use crate::types::Secret;

/// The least length of a secret: a shorter one could be found by trying.
const MIN_SECRET_BYTES: usize = 16;

/// The shared store.
#[derive(Debug, Clone)]
pub struct Valkey {
    /// One url; several for a cluster only. Secret as a whole: a url may hold a password.
    pub urls: Vec<Secret>,
    pub is_cluster: bool,
    pub username: String,
    pub password: Secret,
    /// The secret of the hashes by which users are known in the store; empty means none.
    pub user_key: Secret,
    pub ca_file: Option<PathBuf>,
    pub prefix: String,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
}

impl Valkey {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let is_cluster = section.value("cluster");
        Self {
            urls: urls(&mut section, "url", is_cluster),
            is_cluster,
            username: section.value("username"),
            password: section.value::<String>("password").into(),
            user_key: secret(&mut section, "user_key"),
            ca_file: Some(section.value("ca_file")).filter(|path: &PathBuf| !path.as_os_str().is_empty()),
            prefix: section.value("prefix"),
            connect_timeout: section.duration_above_zero("connect_timeout", HOUR),
            response_timeout: section.duration_above_zero("response_timeout", HOUR),
        }
    }
}

fn urls(section: &mut Section<'_>, key: &str, is_cluster: bool) -> Vec<Secret> {
    let text: String = section.value(key);
    let urls: Vec<&str> = text.split(',').map(str::trim).filter(|url| !url.is_empty()).collect();
    match urls.len() {
        0 => section.refuse(key, "found none, expected such as \"redis://host:6379\"".to_owned()),
        1 => {}
        n if !is_cluster => {
            section.refuse(key, format!("found {n}, expected one, or `valkey.cluster = true`"));
        }
        _ => {}
    }
    urls.into_iter().map(|url| url.to_owned().into()).collect()
}

fn secret(section: &mut Section<'_>, key: &str) -> Secret {
    let text: String = section.value(key);
    if !text.is_empty() && text.len() < MIN_SECRET_BYTES {
        let n_bytes = text.len();
        section.refuse(key, format!("found {n_bytes} bytes, expected at least {MIN_SECRET_BYTES} or none"));
    }
    text.into()
}
