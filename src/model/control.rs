//! Keeps control tokens out of texts: only a post-processor adds them, and one that a user writes is text.

use std::collections::{HashMap, HashSet};

use tokenizers::{AddedToken, Encoding, Model, ModelWrapper, Token, Tokenizer};

/// Control tokens that are pieces of the model as well, by their ids.
#[derive(Debug)]
pub(super) struct Control(HashMap<u32, Piece>);

#[derive(Debug)]
struct Piece {
    content: String,
    /// The tokens of its characters, each on its own.
    spelled: Vec<u32>,
}

impl Control {
    /// Makes the tokenizer match no control token in a text, and returns those that its model can still find.
    pub(super) fn make_text(tokenizer: &mut Tokenizer) -> tokenizers::Result<Self> {
        let mut placed = HashSet::new();
        for pair in [None, Some(Encoding::default())] {
            placed.extend(tokenizer.post_process(Encoding::default(), pair, true)?.get_ids());
        }
        let added = tokenizer.get_added_tokens_decoder();
        let is_control = |id: &u32, token: &AddedToken| {
            token.special || placed.contains(id) || is_bracketed(&token.content)
        };
        let special = added.iter().filter(|(id, token)| is_control(id, token));
        let special: Vec<AddedToken> = special.map(|(_, token)| token.clone().special(true)).collect();
        let mut contents: HashSet<String> = special.iter().map(|token| token.content.clone()).collect();
        contents.extend(placed.iter().filter_map(|&id| tokenizer.id_to_token(id)));
        tokenizer.add_special_tokens(special)?;
        tokenizer.set_encode_special_tokens(true);

        let model = tokenizer.get_model();
        contents.extend(unknown(model));
        contents.extend(model.get_vocab().into_keys().filter(|piece| is_control_name(piece)));
        let pieces = contents.into_iter().filter_map(|content| Some((model.token_to_id(&content)?, content)));
        let pieces: HashMap<u32, String> = pieces.collect();
        let alone = |c: char| {
            let text = c.to_string();
            let tokens = model.tokenize(&text).unwrap_or_default().into_iter().map(|token| token.id);
            // A character that is a control token itself has no tokens to spell it by.
            tokens.filter(|id| pieces.get(id) != Some(&text)).collect::<Vec<_>>()
        };
        let spell = |content: &str| content.chars().flat_map(alone).collect();
        let piece = |(&id, content): (&u32, &String)| {
            (id, Piece { spelled: spell(content), content: content.clone() })
        };
        Ok(Self(pieces.iter().map(piece).collect()))
    }

    /// Returns the ids of the control tokens that the model can find.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }

    /// Spells out control tokens among the model's tokens for `word`.
    pub(super) fn spell(&self, word: &str, tokens: Vec<Token>) -> Vec<Token> {
        // An unknown word and a byte have control tokens as well, but do not contain the tokens' names.
        let written = |token: &Token| {
            let piece = self.0.get(&token.id)?;
            (word.get(token.offsets.0..token.offsets.1) == Some(&piece.content)).then_some(piece)
        };
        if tokens.iter().all(|token| written(token).is_none()) {
            return tokens;
        }
        let mut spelled = Vec::with_capacity(tokens.len());
        for token in tokens {
            match written(&token) {
                Some(piece) => {
                    let offsets = token.offsets;
                    spelled.extend(piece.spelled.iter().map(|&id| Token::new(id, String::new(), offsets)));
                }
                None => spelled.push(token),
            }
        }
        spelled
    }
}

/// Returns the model's name of its unknown token.
fn unknown(model: &ModelWrapper) -> Option<String> {
    match model {
        ModelWrapper::BPE(model) => model.unk_token.clone(),
        ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
        ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
        // In a Unigram model it is the piece of an id that only its file has; the names in use are control names.
        ModelWrapper::Unigram(_) => None,
    }
}

/// True for `<...>` or `[...]` without blanks, as no word is: an added token of this form is a control token, marked
/// special or not.
fn is_bracketed(content: &str) -> bool {
    let inner = content.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    let inner = inner.or_else(|| content.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')));
    inner.is_some_and(|inner| !inner.is_empty() && !inner.contains(char::is_whitespace))
}

/// True for a piece of a vocabulary that is not for text, though nothing marks it. Others in brackets may have been
/// learned from text.
fn is_control_name(piece: &str) -> bool {
    const NAMES: [&str; 14] = [
        "s",
        "pad",
        "unk",
        "mask",
        "bos",
        "eos",
        "cls",
        "sep",
        "eot",
        "eom",
        "start_of_turn",
        "end_of_turn",
        "im_start",
        "im_end",
    ];
    if let Some(inner) = piece.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return ["PAD", "UNK", "CLS", "SEP", "MASK", "BOS", "EOS", "INST", "/INST"].contains(&inner);
    }
    let Some(inner) = piece.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) else { return false };
    let is_byte = inner.len() == 4 && inner.starts_with("0x");
    let is_turn = inner.len() > 2 && inner.starts_with('|') && inner.ends_with('|');
    is_byte || is_turn || NAMES.contains(&inner.strip_prefix('/').unwrap_or(inner))
}
