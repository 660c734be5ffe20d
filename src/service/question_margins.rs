//! Keeps the keys of the bundle's questions, and every head's margins on them.

use std::future::Future;

use tokio::sync::OnceCell;

use crate::model::Question;
use crate::types::{Error, ResolvedFeedback, key64};

/// Keys and margins, in the bundle's order.
pub(super) struct Questions {
    keys: Vec<u64>,
    /// Margins of shape `[n][K]`; computed by the first request that needs them, so that a start takes no longer for
    /// them.
    margins: OnceCell<Vec<Vec<f64>>>,
}

impl Questions {
    pub(super) fn new(questions: &[Question]) -> Self {
        Self { keys: questions.iter().map(text_key).collect(), margins: OnceCell::new() }
    }

    /// Returns the key by which a row remembers an answered question. An answer in a context answers it there alone,
    /// as its evidence is of that context.
    pub(super) fn key(&self, idx: usize, context: Option<u64>) -> u64 {
        let key = self.keys[idx];
        context.map_or(key, |context| key64(&[key.to_le_bytes(), context.to_le_bytes()].concat()))
    }

    /// Returns the key of the question that a feedback answers, if it is one of `questions`.
    pub(super) fn answered(
        &self,
        questions: &[Question],
        resolved: &ResolvedFeedback,
        context: Option<u64>,
    ) -> Option<u64> {
        // Every feedback about two responses compares them.
        let [x, y] = resolved.responses.as_slice() else { return None };
        let idx =
            questions.iter().position(|question| question.is_about(&resolved.prompt, [&x.text, &y.text]))?;
        Some(self.key(idx, context))
    }

    /// Returns the margins, by `compute` if there are none yet. A failure is that call's alone: the next one tries
    /// again.
    pub(super) async fn margins<F>(&self, compute: impl FnOnce() -> F) -> Result<&[Vec<f64>], Error>
    where
        F: Future<Output = Result<Vec<Vec<f64>>, Error>>,
    {
        self.margins.get_or_try_init(compute).await.map(Vec::as_slice)
    }
}

/// Returns the key of a question's texts, the same for either order of the responses, in every bundle that asks it.
fn text_key(question: &Question) -> u64 {
    let mut pair = [&question.a, &question.b];
    pair.sort();
    let parts = [&question.prompt, pair[0], pair[1]];
    let framed = parts.iter().flat_map(|text| {
        let length = (text.len() as u64).to_le_bytes();
        length.into_iter().chain(text.bytes())
    });
    key64(&framed.collect::<Vec<u8>>())
}
