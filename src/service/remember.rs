//! What an answer leaves behind for feedback: a receipt of every response that has an id.

use std::sync::Arc;

use super::Service;
use super::items::Item;
use super::judge::Judged;
use crate::state::Receipt;
use crate::types::UserId;

/// Receipts written without a pause on an async thread, at about 1 us each.
const RECEIPTS_AT_ONCE: usize = 256;

impl Service {
    /// Remembers what was judged of the responses with ids, before the answer leaves: a click may follow at once.
    ///
    /// An empty id is none: feedback from a template that did not fill it in must find nothing.
    pub(super) async fn remember(
        &self,
        user: Option<&UserId>,
        (items, ids): (&[Item], &[Vec<Option<String>>]),
        judged: &Judged,
    ) {
        let named = |ids: &[Option<String>]| ids.iter().flatten().any(|id| !id.is_empty());
        if !self.receipts.are_on() || !ids.iter().any(|ids| named(ids)) {
            return;
        }
        let at_ms = self.now_ms();
        let mut n_written = 0;
        for ((item, ids), judged_item) in
            items.iter().zip(ids).zip(&judged.items).filter(|((_, ids), _)| named(ids))
        {
            let router_logits: Arc<[f64]> = judged_item.router_logits.as_slice().into();
            for ((text, id), row) in item.responses.iter().zip(ids).zip(judged_item.rows.clone()) {
                let Some(id) = id.as_deref().filter(|id| !id.is_empty()) else { continue };
                let receipt = Receipt {
                    heads: self.heads.clone(),
                    at_ms,
                    prompt: item.prompt.clone(),
                    text: text.clone(),
                    rewards: judged.rewards.raw(row).into(),
                    router_logits: router_logits.clone(),
                };
                self.receipts.remember(user, id, receipt);
                n_written += 1;
                if n_written % RECEIPTS_AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        self.receipts.settle();
    }
}
