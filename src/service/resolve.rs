//! Resolves an event to a feedback with all its texts: checks, the time window, receipts.

use std::sync::Arc;
use std::time::Duration;

use super::Service;
use super::pipeline::{Item, Part};
use crate::state::Receipt;
use crate::types::{
    AckStatus, Error, ErrorKind, Event, EventId, Feedback, ResolvedFeedback, ResolvedResponse, ResponseRef,
    UserId,
};

/// Time within which a response that is being scored will have a receipt.
const SCORED_WITHIN: Duration = Duration::from_secs(1);

/// A feedback, and the known scores of its responses.
pub(super) struct PendingFeedback {
    pub(super) resolved: Arc<ResolvedFeedback>,
    /// Every head's log-odds of each response, shape `[n][K]`; none for those that came as texts.
    pub(super) known: Vec<Option<Vec<f64>>>,
}

/// The answer to an event that is not resolved.
pub(super) enum Unresolved {
    /// The event changes nothing, and its sender need not act.
    Acked(EventId, AckStatus),
    /// The receipts of its ids are gone: the event is an error unless it was applied before.
    Forgotten { event_id: EventId, user: UserId, error: Box<Error> },
    /// The event can't be accepted.
    Refused(Error),
}

impl From<Error> for Unresolved {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl PendingFeedback {
    /// Returns the texts that the heads have yet to score; none for a feedback by ids alone.
    pub(super) fn item(&self) -> Option<Item> {
        let responses = self.resolved.responses.iter().zip(&self.known);
        let unknown =
            responses.filter(|(_, known)| known.is_none()).map(|(response, _)| response.text.clone());
        let responses: Vec<Arc<str>> = unknown.collect();
        (!responses.is_empty()).then(|| Item::unnamed(self.resolved.prompt.clone(), responses))
    }

    /// Returns the field that a text of the item came in.
    pub(super) fn field(&self, part: Part) -> String {
        let unknown = self.known.iter().enumerate().filter(|(_, known)| known.is_none());
        match part {
            Part::Prompt => "prompt".to_owned(),
            Part::Response(nth) => {
                let idx = unknown.map(|(idx, _)| idx).nth(nth);
                self.resolved.field(idx.unwrap_or(nth))
            }
        }
    }
}

impl Service {
    /// Checks one event and resolves its ids, without the encoder.
    pub(super) fn resolve(&self, event: Event, now_ms: i64) -> Result<PendingFeedback, Unresolved> {
        let mut feedback = event.check()?;
        feedback.context = self.check_context(feedback.context)?;
        self.check_texts(&feedback)?;
        let at_ms = feedback.at.map_or(now_ms, |at| at.as_millisecond());
        let window = self.settings.window;
        let max_skew = millis(window.max_clock_skew);
        if now_ms.saturating_sub(at_ms) > millis(window.max_age) {
            return Err(Unresolved::Acked(feedback.event_id, AckStatus::Late));
        }
        if at_ms.saturating_sub(now_ms) > max_skew {
            let ahead = at_ms - now_ms;
            let detail =
                format!("found a time {ahead} ms ahead of this server's, expected at most {max_skew}");
            return Err(Error::invalid_field("at", detail).with_code("event_in_the_future").into());
        }
        self.find_responses(feedback, at_ms, now_ms)
    }

    fn check_texts(&self, feedback: &Feedback) -> Result<(), Error> {
        if let Some(prompt) = &feedback.prompt {
            self.check_size(prompt, || "prompt".to_owned())?;
        }
        for (idx, response) in feedback.responses.iter().enumerate() {
            if let ResponseRef::Text(text) = response {
                self.check_size(text, || feedback.field(idx))?;
            }
        }
        Ok(())
    }

    /// Resolves the ids by their receipts.
    fn find_responses(
        &self,
        mut feedback: Feedback,
        at_ms: i64,
        now_ms: i64,
    ) -> Result<PendingFeedback, Unresolved> {
        let mut prompt = feedback.prompt.take();
        let mut known = Vec::with_capacity(feedback.responses.len());
        for (idx, response) in feedback.responses.iter().enumerate() {
            let ResponseRef::Id(id) = response else {
                known.push(None);
                continue;
            };
            let receipt = self.receipts.find(&feedback.user, id, &self.heads, now_ms);
            let receipt = receipt.ok_or_else(|| forgotten(&feedback, idx))?;
            match &prompt {
                Some(prompt) if *prompt != receipt.prompt => {
                    return Err(different_prompts(&feedback, idx).into());
                }
                Some(_) => {}
                None => prompt = Some(receipt.prompt.clone()),
            }
            known.push(Some(receipt));
        }
        let Feedback { event_id, user, context, responses, judgment, replaces, comment, metadata, .. } =
            feedback;
        let resolved_response = |(response, receipt): (ResponseRef, &Option<Arc<Receipt>>)| match response {
            ResponseRef::Text(text) => ResolvedResponse { id: None, text },
            ResponseRef::Id(id) => {
                let text = receipt.as_ref().map(|receipt| receipt.text.clone());
                ResolvedResponse { id: Some(id), text: text.unwrap_or_default() }
            }
        };
        let responses = responses.into_iter().zip(&known).map(resolved_response).collect();
        let log_odds = |receipt: &Option<Arc<Receipt>>| {
            receipt.as_ref().map(|receipt| self.bundle.log_odds(&receipt.rewards))
        };
        let known = known.iter().map(log_odds).collect();
        let prompt = prompt.unwrap_or_default();
        let resolved = ResolvedFeedback {
            event_id,
            user,
            at_ms,
            context,
            prompt,
            responses,
            judgment,
            replaces,
            comment,
            metadata,
        };
        Ok(PendingFeedback { resolved: Arc::new(resolved), known })
    }
}

fn forgotten(feedback: &Feedback, idx: usize) -> Unresolved {
    let detail = "no response with this id is remembered for this user: send this again once it has been scored, or send the prompt and the text";
    let error = Error::new(ErrorKind::NotFound, detail);
    // A click may arrive before the request that scores its response is done.
    let error = error.with_retry_after(SCORED_WITHIN).with_code("unknown_response");
    let error = error.with_field(feedback.field(idx));
    let (event_id, user) = (feedback.event_id.clone(), feedback.user.clone());
    Unresolved::Forgotten { event_id, user, error: Box::new(error) }
}

fn different_prompts(feedback: &Feedback, idx: usize) -> Error {
    Error::invalid_field(feedback.field(idx), "is a response to another prompt than those before it")
        .with_code("different_prompts")
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
