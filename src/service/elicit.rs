//! /elicit: finds the most informative question about a user, among those of the caller or those of the bundle.

use super::pipeline::{HeadScores, Item, ItemScores, Paths, RouterInput, RoutingRequest};
use super::{Service, context_key};
use crate::mixture::{mutual_information, preference};
use crate::model::Question;
use crate::types::{
    Candidate, ElicitAnswer, ElicitRequest, Error, ErrorKind, NextQuestion, OpenQuestion, RankedCandidate,
    UserId,
};

impl Service {
    /// Returns the candidates, most informative first under the user's routed weights.
    ///
    /// # Errors
    /// The errors of [`Service::score`].
    pub async fn elicit(&self, request: ElicitRequest) -> Result<ElicitAnswer, Error> {
        let ElicitRequest { user, context, candidates, limit } = request;
        let mut ids = Vec::with_capacity(candidates.len());
        let mut items = Vec::with_capacity(candidates.len());
        for (idx, mut candidate) in candidates.into_iter().enumerate() {
            let at = format!("candidates[{idx}]");
            let prompt = candidate.prompt_text(&at)?;
            let Candidate { id, a, b, .. } = candidate;
            for (field, text) in [("prompt", &prompt), ("a", &a.text), ("b", &b.text)] {
                self.check_size(text, || format!("{at}.{field}"))?;
            }
            ids.push(id);
            let (responses, response_ids) = (vec![a.text.into(), b.text.into()], vec![a.id, b.id]);
            items.push(Item { prompt: prompt.into(), responses, ids: response_ids });
        }
        let request =
            RoutingRequest { user, context, items, paths: Paths::Candidates, ..RoutingRequest::default() };
        let routed = self.apply_router(request).await?;
        self.remember(&routed).await;
        let asked = routed.scores.items.iter().zip(&routed.routed).zip(ids).enumerate();
        let mut ranked: Vec<RankedCandidate> = asked
            .map(|(index, ((item, routed_item), id))| {
                let margins = margins(&routed.scores, item);
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

    /// Returns the most informative question of the bundle that this user has not answered, under the population
    /// prior and the user's evidence, in general or in a context.
    ///
    /// # Errors
    /// `NotFound` for a bundle without questions; the errors of encoding the questions, until one call has encoded
    /// them.
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
        let informative: Vec<(usize, f64)> =
            open.map(|idx| (idx, mutual_information(&weights, &margins[idx]))).collect();
        // The first question in the bundle's order wins among equally informative ones.
        let next = informative.iter().reduce(|best, other| if other.1 > best.1 { other } else { best });
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
        let (of, answered) = (questions.len(), questions.len() - informative.len());
        Ok(NextQuestion { revision: self.revision(), stale, question, answered, of })
    }

    /// Computes every head's margin on every question of the bundle, shape `[n][K]`.
    async fn question_margins(&self) -> Result<Vec<Vec<f64>>, Error> {
        let item = |question: &Question| {
            let responses = vec![question.a.as_str().into(), question.b.as_str().into()];
            Item::unnamed(question.prompt.as_str().into(), responses)
        };
        let items = self.bundle.questions().iter().map(item).collect();
        let scores = self.score_heads(items, RouterInput::Nothing, Paths::Questions).await?;
        Ok(scores.items.iter().map(|item| margins(&scores, item)).collect())
    }
}

/// Returns the margins `d_k` of an item with two responses.
fn margins(scores: &HeadScores, item: &ItemScores) -> Vec<f64> {
    scores.rewards.margins(item.rows.start, item.rows.start + 1)
}
