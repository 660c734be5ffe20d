//! Texts of a known number of tokens: passages of this repository's prose and code, no two alike.

use std::path::Path;

use micro_reward::model::{Text, Tokenizer};
use micro_reward::types::Tokens;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The special tokens at the ends of a text, which the tokenizer adds.
const N_SPECIAL: usize = 2;

/// A word of one token.
const FILLER: &str = "the";

pub struct Texts {
    tokenizer: Tokenizer,
    /// Words with their numbers of tokens.
    words: Vec<(String, usize)>,
    rng: ChaCha8Rng,
}

/// Length of texts in tokens.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// 22 to 32 tokens.
    Short,
    /// 11 to 219 tokens.
    Mixed,
    /// Exactly so many tokens.
    Exactly(usize),
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => f.pad("short"),
            Self::Mixed => f.pad("mixed"),
            Self::Exactly(n) => f.pad(&format!("{n} tokens")),
        }
    }
}

impl Texts {
    pub fn new(root: &Path, tokenizer: Tokenizer) -> Self {
        let mut words = Vec::new();
        for name in [
            "README.md",
            "ARCHITECTURE.md",
            "docs/method.md",
            "config/default.toml",
            "src/batch/order.rs",
            "LICENSE",
        ] {
            let text = std::fs::read_to_string(root.join(name)).unwrap();
            words.extend(text.split_whitespace().map(str::to_owned));
        }
        let count = |word: String| {
            let n_tokens = tokenizer.tokens(Text::Single(&word)).unwrap().ids.len() - N_SPECIAL;
            (word, n_tokens)
        };
        let words = words.into_iter().map(count).filter(|(_, n)| *n > 0).collect();
        Self { tokenizer, words, rng: ChaCha8Rng::seed_from_u64(5) }
    }

    pub fn some(&mut self, kind: Kind, n: usize) -> Vec<String> {
        (0..n).map(|_| self.one_of(kind)).collect()
    }

    pub fn tokens(&self, text: &str) -> Tokens {
        self.tokenizer.tokens(Text::Single(text)).unwrap()
    }

    pub fn one_of(&mut self, kind: Kind) -> String {
        let n_tokens = match kind {
            Kind::Short => self.rng.random_range(22..=32),
            Kind::Mixed => self.rng.random_range(11..=219),
            Kind::Exactly(n) => n,
        };
        let mut left = n_tokens - N_SPECIAL;
        let start = self.rng.random_range(0..self.words.len());
        let mut text = Vec::new();
        // Two random words come first, so that passages with the same start differ.
        let odd = (0..2).map(|_| self.rng.random_range(0..self.words.len())).collect::<Vec<_>>();
        for idx in odd.into_iter().chain(start..start + n_tokens) {
            let (word, n) = &self.words[idx % self.words.len()];
            if *n > left {
                break;
            }
            left -= n;
            text.push(word.as_str());
        }
        text.extend(std::iter::repeat_n(FILLER, left));
        text.join(" ")
    }
}
