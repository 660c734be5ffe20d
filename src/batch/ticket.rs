//! The ticket of a request: its texts' way into the queue, and their answers.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::flight::Pending;
use super::queue::Queue;
use super::refused::Refused;
use crate::types::{EncodeError, Encoded, TextKey, Tokens};

/// A request that was admitted with a number of texts, which it pushes as they are tokenized.
#[derive(Debug)]
pub struct Ticket {
    answers: Answers,
    n_promised: usize,
    is_bulk: bool,
    /// Tag of the text that was pushed last.
    tag: u64,
}

impl Queue {
    /// Admits a request with `n_texts` texts, whose caller waits until `deadline`; all of them or none.
    ///
    /// # Errors
    /// Returns [`Refused`] when they do not fit, or when other texts would take the time that the caller has.
    pub fn open(self: &Arc<Self>, n_texts: usize, deadline: Option<Instant>) -> Result<Ticket, Refused> {
        let is_bulk = self.promise(n_texts, deadline)?;
        let answers = Answers { queue: self.clone(), pending: VecDeque::with_capacity(n_texts) };
        Ok(Ticket { answers, n_promised: n_texts, is_bulk, tag: 0 })
    }
}

impl Ticket {
    /// Adds some of the admitted texts, each with its key. A text that another request has on its way is not encoded
    /// again.
    pub fn push(&mut self, texts: Vec<(TextKey, Tokens)>) {
        self.n_promised -= texts.len();
        let (pending, tag) = self.answers.queue.push(texts, self.is_bulk, self.tag);
        self.tag = tag;
        self.answers.pending.extend(pending);
    }

    /// Returns the answers to the texts that were pushed.
    #[must_use]
    pub fn answers(mut self) -> Answers {
        let pending = std::mem::take(&mut self.answers.pending);
        Answers { queue: self.answers.queue.clone(), pending }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.n_promised > 0 {
            self.answers.queue.withdraw(self.n_promised, self.is_bulk);
        }
    }
}

/// The answers to one request's texts. Dropping it drops the texts that no other request awaits.
#[derive(Debug)]
pub struct Answers {
    queue: Arc<Queue>,
    /// Texts in the order of pushing.
    pending: VecDeque<Pending>,
}

impl Answers {
    /// Returns every text's answer, in the order of pushing. An encoder's failure with one does not affect the
    /// others.
    pub async fn all(mut self) -> Vec<Result<Encoded, EncodeError>> {
        let mut all = Vec::with_capacity(self.pending.len());
        while let Some(pending) = self.pending.front_mut() {
            // A text stays in its place until it is answered, so that dropping this future drops the text as well.
            all.push(match pending {
                Pending::Known(encoded) => Ok(encoded.clone()),
                Pending::Flying(_, receiver) => match receiver.wait_for(Option::is_some).await {
                    Ok(answer) => answer.clone().unwrap_or(Err(EncodeError::Gone)),
                    Err(_) => Err(EncodeError::Gone),
                },
            });
            self.pending.pop_front();
        }
        all
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let key = |pending: Pending| match pending {
            Pending::Known(_) => None,
            Pending::Flying(key, _) => Some(key),
        };
        let keys: Vec<TextKey> = self.pending.drain(..).filter_map(key).collect();
        if !keys.is_empty() {
            self.queue.abandon(&keys);
        }
    }
}
