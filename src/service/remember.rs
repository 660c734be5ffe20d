//! Writes a receipt for every answered response that has an id, for feedback about it.

use std::sync::Arc;

use super::Service;
use super::pipeline::Routed;
use crate::state::Receipt;

/// Receipts written without a pause on an async thread, at about 1 us each.
const RECEIPTS_AT_ONCE: usize = 256;

impl Service {
    /// Remembers the scores of the responses with ids, before the answer is sent: a click may follow at once.
    ///
    /// An empty id is none: feedback from a template that did not fill it in must find nothing.
    pub(super) async fn remember(&self, routed: &Routed) {
        let Routed { user, items, scores, .. } = routed;
        let is_named = |ids: &[Option<String>]| ids.iter().flatten().any(|id| !id.is_empty());
        if !self.receipts.are_on() || !items.iter().any(|item| is_named(&item.ids)) {
            return;
        }
        let at_ms = self.now_ms();
        let mut n_written = 0;
        for (item, item_scores) in items.iter().zip(&scores.items).filter(|(item, _)| is_named(&item.ids)) {
            let router_logits: Arc<[f64]> = item_scores.router_logits.as_slice().into();
            for ((text, id), row) in item.responses.iter().zip(&item.ids).zip(item_scores.rows.clone()) {
                let Some(id) = id.as_deref().filter(|id| !id.is_empty()) else { continue };
                let receipt = Receipt {
                    heads: self.heads.clone(),
                    at_ms,
                    prompt: item.prompt.clone(),
                    text: text.clone(),
                    rewards: scores.rewards.raw(row).into(),
                    router_logits: router_logits.clone(),
                };
                self.receipts.remember(user.as_ref(), id, receipt);
                n_written += 1;
                if n_written % RECEIPTS_AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        self.receipts.run_pending_tasks();
    }
}
