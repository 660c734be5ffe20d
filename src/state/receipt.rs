//! A receipt: how one response with an id was scored.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::types::HeadsFingerprint;

/// Bytes of an entry beside its texts and numbers, the cache's share and the allocator's included: 617 by the growth
/// of a process with a million entries.
const ENTRY_BYTES: usize = 640;

/// Record of the scores of one response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Fingerprint of the heads that scored it.
    pub heads: HeadsFingerprint,
    /// Time of the scores, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The prompt, shared with the other responses to it.
    pub prompt: Arc<str>,
    /// The response.
    pub text: Arc<str>,
    /// Every head's raw reward, shape `[K]`.
    pub rewards: Box<[f32]>,
    /// The router's logits as they were used, shape `[K]`; shared like the prompt.
    pub router_logits: Arc<[f64]>,
}

impl Receipt {
    /// Returns about how many bytes of memory it holds. Shared parts count in full: they stay for as long as any
    /// receipt does.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.prompt.len() + self.text.len();
        ENTRY_BYTES + texts + size_of_val(&*self.rewards) + size_of_val(&*self.router_logits)
    }
}
