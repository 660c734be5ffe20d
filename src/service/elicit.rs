//! /elicit: which question tells most about a user, among those of the caller or those of the bundle.

use super::items::{Item, Route};
use super::judge::{Judged, JudgedItem};
use super::route::Ask;
use super::unread::Paths;
use super::{Service, context_key};
use crate::mixture::{mutual_information, preference};
use crate::types::{
    Candidate, ElicitAnswer, ElicitRequest, Error, ErrorKind, NextQuestion, OpenQuestion, RankedCandidate,
    UserId,
};

impl Service {
    /// The candidates, most informative first under the user's routed weights.
    ///
    /// # Errors
    /// As [`Service::score`].
    pub async fn elicit(&self, request: ElicitRequest) -> Result<ElicitAnswer, Error> {
        let ElicitRequest { user, context, candidates, limit } = request;
        let mut ids = Vec::with_capacity(candidates.len());
        let mut items = Vec::with_capacity(candidates.len());
        let mut response_ids = Vec::with_capacity(candidates.len());
        for (idx, mut candidate) in candidates.into_iter().enumerate() {
            let at = format!("candidates[{idx}]");
            let prompt = candidate.prompt_text(&at)?;
            let Candidate { id, a, b, .. } = candidate;
            for (field, text) in [("prompt", &prompt), ("a", &a.text), ("b", &b.text)] {
                self.check_size(text, || format!("{at}.{field}"))?;
            }
            ids.push(id);
            items.push(Item { prompt: prompt.into(), responses: vec![a.text.into(), b.text.into()] });
            response_ids.push(vec![a.id, b.id]);
        }
        let ask = Ask { user, context, paths: Paths::Candidates, ..Ask::default() };
        let routed = self.route(ask, (items, response_ids)).await?;
        let asked = routed.judged.items.iter().zip(&routed.items).zip(ids).enumerate();
        let mut ranked: Vec<RankedCandidate> = asked
            .map(|(index, ((item, routed_item), id))| {
                let margins = margins(&routed.judged, item);
                RankedCandidate {
                    index,
                    id,
                    information: mutual_information(&routed_item.weights, &margins),
                    preference: preference(&routed_item.weights, &margins),
                }
            })
            .collect();
        ranked.sort_by(|x, y| y.information.total_cmp(&x.information));
        ranked.truncate(limit.map_or(usize::MAX, usize::from));
        Ok(ElicitAnswer { revision: self.revision(), stale: routed.stale, candidates: ranked })
    }

    /// The bundle's question that this user has not answered and that tells most, under the population prior and
    /// what the user has said, in general or in a context.
    ///
    /// # Errors
    /// `NotFound` for a bundle without questions; what can go wrong with encoding them, on the first call that works.
    pub async fn next_question(&self, user: &UserId, context: Option<String>) -> Result<NextQuestion, Error> {
        let context = self.check_context(context)?;
        let asked = context_key(context.as_deref());
        let questions = self.bundle.questions();
        if questions.is_empty() {
            return Err(
                Error::new(ErrorKind::NotFound, "the bundle has no questions").with_code("no_questions")
            );
        }
        let margins = self.questions.margins(|| self.question_margins()).await?;
        let (row, stale) = self.row(Some(user), 0).await?;
        let weights = self.weights(&self.bundle.log_prior(), &self.evidence(row.as_ref()), asked);
        let is_answered = |idx: usize| {
            row.as_ref().is_some_and(|row| row.answered.contains(self.questions.key(idx, asked)))
        };
        let open = (0..questions.len()).filter(|idx| !is_answered(*idx));
        let told: Vec<(usize, f64)> =
            open.map(|idx| (idx, mutual_information(&weights, &margins[idx]))).collect();
        // Among equals, the bundle's order decides.
        let next = told.iter().reduce(|best, other| if other.1 > best.1 { other } else { best });
        let question = next.map(|&(idx, information)| {
            let question = questions[idx].clone();
            OpenQuestion {
                id: question.id,
                prompt: question.prompt,
                a: question.a,
                b: question.b,
                information,
            }
        });
        let (of, answered) = (questions.len(), questions.len() - told.len());
        Ok(NextQuestion { revision: self.revision(), stale, question, answered, of })
    }

    /// Every head's margin on every question of the bundle, `[n][K]`.
    async fn question_margins(&self) -> Result<Vec<Vec<f64>>, Error> {
        let item = |question: &crate::model::Question| Item {
            prompt: question.prompt.as_str().into(),
            responses: vec![question.a.as_str().into(), question.b.as_str().into()],
        };
        let items = self.bundle.questions().iter().map(item).collect();
        let judged = self.judge(items, Route::No, Paths::Questions).await?;
        Ok(judged.items.iter().map(|item| margins(&judged, item)).collect())
    }
}

/// `d_k` of an item with two responses.
fn margins(judged: &Judged, item: &JudgedItem) -> Vec<f64> {
    judged.rewards.margins(item.rows.start, item.rows.start + 1)
}
