//! Finds the tail of a text that its last tokens depend on; the text before it is never tokenized.
//!
//! The law: the last `n` tokens of a text are those of its tail, and a tail with fewer tokens is the whole text.
//! Where the law can't be shown for the parts of a tokenizer, the tail is the text itself.

use std::borrow::Cow;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::{Model, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper, PreTokenizerWrapper};
use unicode_categories::UnicodeCategories;

use super::joints::Joints;

/// The method to find the tail of a text.
#[derive(Debug)]
pub(super) enum Tail {
    /// No law is known: the tail is the whole text.
    Whole,
    /// BERT's words: words and single characters, each of which has a token.
    Words(Words),
    /// Words between blanks, each of which has a token; blanks have none.
    Blanks,
    /// The text may be cut between some pairs of characters.
    Cuts(Cuts),
}

impl Tail {
    /// Returns the method for a tokenizer; `joints` are those of a model without a pre-tokenizer.
    pub(super) fn of(tokenizer: &tokenizers::Tokenizer, joints: Option<&Joints>) -> Self {
        // A token that is matched in the raw text may span any place where words end.
        if tokenizer.get_added_vocabulary().get_added_tokens_decoder().values().any(|token| !token.special) {
            return Self::Whole;
        }
        let steps = normalizers(tokenizer);
        let model = tokenizer.get_model();
        match (steps.as_slice(), tokenizer.get_pre_tokenizer(), model) {
            (
                [NormalizerWrapper::BertNormalizer(normalizer)],
                Some(PreTokenizerWrapper::BertPreTokenizer(_)),
                ModelWrapper::WordPiece(model),
            ) if normalizer.clean_text && normalizer.handle_chinese_chars => {
                Self::Words(Words::new(normalizer, model))
            }
            (
                [] | [NormalizerWrapper::Lowercase(_)],
                Some(PreTokenizerWrapper::Whitespace(_) | PreTokenizerWrapper::WhitespaceSplit(_)),
                ModelWrapper::WordLevel(_) | ModelWrapper::WordPiece(_) | ModelWrapper::Unigram(_),
            ) => Self::Blanks,
            (_, pre_tokenizer, _) => {
                Cuts::new(tokenizer, &steps, pre_tokenizer, joints).map_or(Self::Whole, Self::Cuts)
            }
        }
    }

    /// Returns the tail of `text` for its last `n_tokens` tokens.
    pub(super) fn of_text<'a>(&self, text: &'a str, n_tokens: usize) -> Cow<'a, str> {
        match self {
            // A text this short gains nothing from a cut.
            _ if text.len() <= n_tokens => Cow::Borrowed(text),
            Self::Whole => Cow::Borrowed(text),
            Self::Words(words) => Cow::Owned(condense(text, n_tokens, words.longest, |c| words.part(c))),
            Self::Blanks => {
                let part = |c: char| if c.is_whitespace() { Part::Blank } else { Part::Word };
                Cow::Owned(condense(text, n_tokens, usize::MAX, part))
            }
            Self::Cuts(cuts) => Cow::Borrowed(cuts.tail(text, n_tokens)),
        }
    }
}

/// Returns the normalizers, one after another.
fn normalizers(tokenizer: &tokenizers::Tokenizer) -> Vec<&NormalizerWrapper> {
    let mut steps: Vec<&NormalizerWrapper> = tokenizer.get_normalizer().into_iter().collect();
    while let Some(idx) = steps.iter().position(|step| matches!(step, NormalizerWrapper::Sequence(_))) {
        if let NormalizerWrapper::Sequence(inner) = steps[idx] {
            steps.splice(idx..=idx, inner.as_ref());
        }
    }
    steps
}

/// The role of a character in the words of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// No role: the words around it are one.
    Nothing,
    /// The end of a word.
    Blank,
    /// A word by itself.
    Alone,
    /// A part of a word, which is longer for it.
    Word,
}

/// Returns the last `n_words` words of a text, with one blank between two; words longer than `longest` characters
/// keep one character more than that.
fn condense(text: &str, n_words: usize, longest: usize, part: impl Fn(char) -> Part) -> String {
    let mut reversed = Vec::new();
    let (mut n_complete, mut n_in_word) = (0, 0_usize);
    for c in text.chars().rev() {
        let part = part(c);
        if matches!(part, Part::Blank | Part::Alone) && n_in_word > 0 {
            (n_complete, n_in_word) = (n_complete + 1, 0);
            if part == Part::Blank {
                reversed.push(' ');
            }
        }
        if n_complete >= n_words {
            break;
        }
        match part {
            Part::Nothing | Part::Blank => {}
            Part::Alone => {
                n_complete += 1;
                reversed.push(c);
            }
            Part::Word => {
                if n_in_word <= longest {
                    reversed.push(c);
                }
                n_in_word += 1;
            }
        }
    }
    reversed.iter().rev().collect()
}

/// BERT's normalizer, pre-tokenizer and WordPiece.
#[derive(Debug)]
pub(super) struct Words {
    strips_marks: bool,
    /// Characters of a word above which it is one unknown token.
    longest: usize,
}

impl Words {
    fn new(normalizer: &BertNormalizer, model: &WordPiece) -> Self {
        Self {
            strips_marks: normalizer.strip_accents.unwrap_or(normalizer.lowercase),
            longest: model.max_input_chars_per_word,
        }
    }

    /// Returns the role that a character has for the normalizer and the pre-tokenizer; a test checks all characters.
    fn part(&self, c: char) -> Part {
        if c.is_ascii_alphanumeric() || c == ' ' {
            return if c == ' ' { Part::Blank } else { Part::Word };
        }
        let is_blank = matches!(c, '\t' | '\n' | '\r');
        if matches!(c, '\0' | char::REPLACEMENT_CHARACTER) || (c.is_other() && !is_blank) {
            Part::Nothing
        } else if is_blank || c.is_whitespace() {
            Part::Blank
        } else if is_ideograph(c) || c.is_ascii_punctuation() || c.is_punctuation() {
            Part::Alone
        } else if self.strips_marks && c.is_mark_nonspacing() {
            Part::Nothing
        } else if self.strips_marks && MARKED_PUNCTUATION.contains(&c) {
            Part::Alone
        } else {
            Part::Word
        }
    }
}

/// Symbols that are punctuation once their marks are stripped.
const MARKED_PUNCTUATION: [char; 4] = ['\u{1fef}', '\u{2260}', '\u{226e}', '\u{226f}'];

/// True for characters that `BertNormalizer` puts blanks around.
fn is_ideograph(c: char) -> bool {
    matches!(
        c,
        '\u{4e00}'..='\u{9fff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{20000}'..='\u{2a6df}'
            | '\u{2a700}'..='\u{2b73f}'
            | '\u{2b740}'..='\u{2b81f}'
            | '\u{2b920}'..='\u{2ceaf}'
            | '\u{f900}'..='\u{faff}'
            | '\u{2f800}'..='\u{2fa1f}'
    )
}

/// Pairs of printable ASCII characters between which a text may be cut: both sides are normalized, cut into words and
/// tokenized as they are within the text, and the part that begins with the second character has a token.
#[derive(Debug)]
pub(super) struct Cuts {
    /// Bit `b` of `safe[a]` is set if the text may be cut between `a` and `b`.
    safe: Box<[u128; 128]>,
    /// True if the second character is a blank, and the normalizer prepends what it would become.
    drops_blank: bool,
}

impl Cuts {
    /// Finds these pairs; none where there is no such pair.
    fn new(
        tokenizer: &tokenizers::Tokenizer,
        steps: &[&NormalizerWrapper],
        pre_tokenizer: Option<&PreTokenizerWrapper>,
        joints: Option<&Joints>,
    ) -> Option<Self> {
        use NormalizerWrapper::{
            Lowercase, NFC, NFD, NFKC, NFKD, Precompiled, Prepend, Replace, StripAccents,
        };
        // These steps turn a text up to a printable ASCII character, and the text from the next one on, into what
        // they turn both together into.
        let is_local = |step: &NormalizerWrapper| match step {
            NFC(_) | NFD(_) | NFKC(_) | NFKD(_) | Lowercase(_) | StripAccents(_) | Precompiled(_)
            | Prepend(_) => true,
            Replace(_) => replaces_one_character(step),
            _ => false,
        };
        if !steps.iter().all(|step| is_local(step)) {
            return None;
        }
        let prepended = steps.iter().find_map(|step| match step {
            Prepend(step) => Some(step.prepend.as_str()),
            _ => None,
        });
        let reads_clusters = steps.iter().any(|step| matches!(step, Precompiled(_)));
        let alone = |c: char| alone(tokenizer, prepended.unwrap_or_default(), c);
        let is_blank = |c: char| c == ' ';
        let is_safe: Box<dyn Fn(char, char, char) -> bool> = match (pre_tokenizer, joints) {
            (None, Some(joints)) => {
                let blank = alone(' ');
                let is_prepended = prepended.is_some();
                if is_prepended && (reads_clusters || blank.map(String::from).as_deref() != prepended) {
                    return None;
                }
                Box::new(move |b, new_a, new_b| {
                    (!is_prepended || is_blank(b)) && joints.are_apart(new_a, new_b)
                })
            }
            (Some(PreTokenizerWrapper::Metaspace(metaspace)), _)
                if prepended.is_none() && metaspace.get_split() =>
            {
                let begins = metaspace.get_replacement().to_string();
                let has_token = matches!(tokenizer.get_model(), ModelWrapper::Unigram(_))
                    || tokenizer.get_model().token_to_id(&begins).is_some();
                let replacement = metaspace.get_replacement();
                Box::new(move |b, new_a, new_b| {
                    has_token && is_blank(b) && is_blank(new_b) && !is_blank(new_a) && new_a != replacement
                })
            }
            _ => return None,
        };
        let mut safe = Box::new([0; 128]);
        let printable = || (' '..='~').filter_map(|c| Some((c, alone(c)?)));
        for (a, new_a) in printable() {
            for (b, _) in printable().filter(|&(b, new_b)| is_safe(b, new_a, new_b)) {
                safe[a as usize] |= 1 << u32::from(b);
            }
        }
        safe.iter().any(|row| *row != 0).then_some(Self { safe, drops_blank: prepended.is_some() })
    }

    /// Returns the text after its last safe place but `n_tokens`: one place more than tokens, as a part that begins
    /// with blanks may have no token where the text ends with them.
    fn tail<'a>(&self, text: &'a str, n_tokens: usize) -> &'a str {
        let bytes = text.as_bytes();
        let is_safe = |&at: &usize| {
            let (a, b) = (bytes[at - 1], bytes[at]);
            a.is_ascii() && b.is_ascii() && self.safe[usize::from(a)] >> b & 1 == 1
        };
        match (1..bytes.len()).rev().filter(is_safe).nth(n_tokens) {
            Some(at) => &text[at + usize::from(self.drops_blank)..],
            None => text,
        }
    }
}

/// True if the pattern is a single character.
fn replaces_one_character(step: &NormalizerWrapper) -> bool {
    let json = serde_json::to_value(step).unwrap_or_default();
    json["pattern"]["String"].as_str().is_some_and(|pattern| pattern.chars().count() == 1)
}

/// Returns the normalized form of a character, if that is one too, without the prefix of every text.
fn alone(tokenizer: &tokenizers::Tokenizer, prepended: &str, c: char) -> Option<char> {
    let mut text = NormalizedString::from(c.to_string());
    if let Some(normalizer) = tokenizer.get_normalizer() {
        normalizer.normalize(&mut text).ok()?;
    }
    let mut chars = text.get().strip_prefix(prepended)?.chars();
    chars.next().filter(|_| chars.next().is_none())
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;

    fn words_of(normalizer: &BertNormalizer, text: &str) -> Vec<String> {
        let mut normalized = NormalizedString::from(text);
        normalizer.normalize(&mut normalized).unwrap();
        let mut words = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut words).unwrap();
        let splits = words.get_splits(OffsetReferential::Normalized, OffsetType::None);
        splits.iter().map(|(word, _, _)| (*word).to_owned()).collect()
    }

    #[test]
    fn every_character_is_to_words_what_the_tokenizer_takes_it_for() {
        for strip_accents in [true, false] {
            let normalizer = BertNormalizer::new(true, true, Some(strip_accents), true);
            let words = Words { strips_marks: strip_accents, longest: 100 };
            let all: Vec<char> = ('\0'..=char::MAX).collect();
            for chars in all.chunks(4096) {
                let text: String = chars.iter().map(|c| format!("x{c}x ")).collect();
                let mut found = words_of(&normalizer, &text).into_iter();
                for &c in chars {
                    let first = found.next().unwrap();
                    let is_as_said = match words.part(c) {
                        Part::Nothing => first == "xx",
                        Part::Blank => first == "x" && found.next().unwrap() == "x",
                        Part::Alone => {
                            let [alone, last] = [found.next().unwrap(), found.next().unwrap()];
                            first == "x" && !alone.contains('x') && last == "x"
                        }
                        Part::Word => first.len() > 2 && first.starts_with('x') && first.ends_with('x'),
                    };
                    assert!(is_as_said, "{c:?} (U+{:x}) is no {:?}", u32::from(c), words.part(c));
                }
                assert_eq!(found.next(), None);
            }
        }
    }
}
