//! What was said once, judged by these heads: how ledgers are made anew for another bundle.

use std::sync::Arc;

use super::hear::Hearing;
use super::{Service, unavailable};
use crate::state::{Change, ChangeKind, Outcome};
use crate::types::{Error, Heard};

impl Service {
    /// Makes changes that were made before, in order, each at its own time. What feedback adds is judged anew, by the
    /// function that judges it as it comes; so every one needs its texts. Afterwards `changes` say what was added.
    ///
    /// # Errors
    /// When the encoder or the store can't work now, or a text can't be tokenised: then no change was made.
    pub async fn relearn(&self, changes: &mut [Change]) -> Result<Vec<Outcome>, Error> {
        let heard = changes.iter().filter_map(|change| match &change.kind {
            ChangeKind::Add(event) => event.heard.clone(),
            _ => None,
        });
        let hearing = |heard: Arc<Heard>| Hearing { known: vec![None; heard.responses.len()], heard };
        let mut hearings: Vec<Hearing> = heard.map(hearing).collect();
        let mut weighed = self.weigh(hearings.iter_mut().collect()).await?.into_iter();
        for change in changes.iter_mut() {
            if let ChangeKind::Add(event) = &mut change.kind
                && event.heard.is_some()
                && let Some(anew) = weighed.next()
            {
                *event = anew;
            }
        }
        self.store.change(changes.to_vec()).await.map_err(unavailable)
    }
}
