//! Finds places in a text that no piece of a vocabulary can span.
//!
//! A model without a pre-tokenizer reads a text as one word. Between two characters that every piece keeps apart
//! nothing is merged and no path runs through, so that the texts before and after have the same tokens as alone.

use std::collections::HashSet;

use tokenizers::{Model, ModelWrapper};

/// The characters of a vocabulary.
#[derive(Debug)]
pub(super) struct Joints {
    /// Pieces of one character: these are never unknown, and unknown characters may be fused.
    known: HashSet<char>,
    /// Neighbors within a piece.
    joined: HashSet<(char, char)>,
}

impl Joints {
    /// Returns the joints of a tokenizer; none for a model that reads words, or whose pieces depend on more than
    /// their characters.
    pub(super) fn of(tokenizer: &tokenizers::Tokenizer) -> Option<Self> {
        let is_plain = match tokenizer.get_model() {
            ModelWrapper::BPE(model) => {
                let is_marked =
                    model.continuing_subword_prefix.is_some() || model.end_of_word_suffix.is_some();
                !is_marked && model.dropout.is_none_or(|share| share == 0.0) && !model.ignore_merges
            }
            ModelWrapper::Unigram(model) => model.alpha.is_none_or(|alpha| alpha == 0.0),
            ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) => false,
        };
        if tokenizer.get_pre_tokenizer().is_some() || !is_plain {
            return None;
        }
        let (mut known, mut joined) = (HashSet::new(), HashSet::new());
        for piece in tokenizer.get_model().get_vocab().into_keys() {
            let mut chars = piece.chars();
            let Some(mut last) = chars.next() else { continue };
            if piece.len() == last.len_utf8() {
                known.insert(last);
            }
            for next in chars {
                joined.insert((last, next));
                last = next;
            }
        }
        Some(Self { known, joined })
    }

    /// True if `a` and `b` next to each other are never in one token.
    pub(super) fn are_apart(&self, a: char, b: char) -> bool {
        !self.joined.contains(&(a, b)) && self.known.contains(&a) && self.known.contains(&b)
    }

    /// Splits a text at the last such place; the first part is empty where there is none.
    pub(super) fn split_last<'a>(&self, text: &'a str) -> (&'a str, &'a str) {
        let mut after = None;
        for (at, c) in text.char_indices().rev() {
            if after.is_some_and(|after| self.are_apart(c, after)) {
                return text.split_at(at + c.len_utf8());
            }
            after = Some(c);
        }
        ("", text)
    }
}
