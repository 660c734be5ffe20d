//! Reads `questions.jsonl`: pairs that tell the heads apart, for new users.
//!
//! Each line is one JSON object of `id`, `prompt`, `a` and `b`. Questions change no score, so they are no part of the
//! revision.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::types::json;

/// Upper bound of questions: more than a user answers, and the server scans all of them for every answer.
const MAX_QUESTIONS: usize = 64;

/// Upper bound of a text's bytes, since users read the questions.
const MAX_TEXT_BYTES: usize = 16 << 10;

/// The question which of two responses to a prompt is better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Its name, unique in its bundle.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// One response.
    pub a: String,
    /// The other; never the same text.
    pub b: String,
}

impl Question {
    /// True if this is the question about these two responses, in either order.
    #[must_use]
    pub fn is_about(&self, prompt: &str, [x, y]: [&str; 2]) -> bool {
        let (a, b) = (self.a.as_str(), self.b.as_str());
        self.prompt == prompt && ((a, b) == (x, y) || (a, b) == (y, x))
    }

    /// Returns its texts, each with its field.
    pub(super) fn texts(&self) -> [(&'static str, &str); 3] {
        [("prompt", &self.prompt), ("a", &self.a), ("b", &self.b)]
    }

    /// Returns its problem, if any: the field, what was found and what was expected.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let named = std::iter::once(("id", self.id.as_str())).chain(self.texts());
        for (field, text) in named {
            if text.trim().is_empty() {
                return Some(format!("`{field}`: found no text, expected some"));
            }
            if text.len() > MAX_TEXT_BYTES {
                let found = text.len();
                return Some(format!("`{field}`: found {found} bytes, expected at most {MAX_TEXT_BYTES}"));
            }
        }
        (self.a == self.b).then(|| "`b`: found the text of `a`, expected another".to_owned())
    }
}

/// A problem of a line; line 0 is the file as a whole.
pub(super) type LineProblem = (usize, String);

/// Reads the questions of a file, each with its line, and all problems. Blank lines are skipped.
pub(super) fn read(text: &str) -> (Vec<(usize, Question)>, Vec<LineProblem>) {
    let (mut questions, mut problems) = (Vec::<(usize, Question)>::new(), Vec::new());
    // These map an id, and a question, to the first line that has it.
    let (mut ids, mut asked) = (HashMap::new(), HashMap::new());
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let mut n_lines = 0;
    for (line, text) in lines {
        n_lines += 1;
        let question: Question = match json::read(text.as_bytes()) {
            Ok(question) => question,
            Err(fault) => {
                problems.push((line, fault.of_line()));
                continue;
            }
        };
        problems.extend(question.problem().map(|problem| (line, problem)));
        let first = *ids.entry(question.id.clone()).or_insert(line);
        if first != line {
            problems.push((
                line,
                format!("`id`: found \"{}\" as in line {first}, expected another", question.id),
            ));
        }
        let mut pair = [question.a.clone(), question.b.clone()];
        pair.sort();
        let first = *asked.entry((question.prompt.clone(), pair)).or_insert(line);
        if first != line {
            problems.push((line, format!("asks the question of line {first} again")));
        }
        questions.push((line, question));
    }
    if n_lines == 0 || n_lines > MAX_QUESTIONS {
        problems.push((0, format!("found {n_lines} questions, expected 1 to {MAX_QUESTIONS}")));
    }
    (questions, problems)
}
