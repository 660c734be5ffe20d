//! Style: shares of marks, of kinds of characters and of kinds of words among a text's tokens.

/// Number of style columns.
pub const N_STYLE: usize = 17;

/// The names of the style columns, in order.
pub const STYLE_NAMES: [&str; N_STYLE] = [
    "commas per word",
    "periods per word",
    "question marks per word",
    "exclamation marks per word",
    "quotes and brackets per word",
    "list marks per word",
    "markdown marks per word",
    "digits per character",
    "capitals per letter",
    "other scripts per character",
    "letters per word",
    "log of words per sentence",
    "long words per word",
    "hedges per word",
    "second person per word",
    "first person per word",
    "refusals per word",
];

/// Letters from which a piece is a long word.
const LONG: usize = 7;

const HEDGES: [&str; 16] = [
    "maybe",
    "perhaps",
    "might",
    "may",
    "could",
    "seem",
    "seems",
    "probably",
    "possibly",
    "likely",
    "think",
    "guess",
    "sometimes",
    "usually",
    "often",
    "depends",
];

const SECOND_PERSON: [&str; 4] = ["you", "your", "yours", "yourself"];

const FIRST_PERSON: [&str; 9] = ["i", "me", "my", "mine", "myself", "we", "us", "our", "ours"];

const REFUSALS: [&str; 12] = [
    "sorry",
    "cannot",
    "unable",
    "apologize",
    "apologies",
    "refuse",
    "illegal",
    "unethical",
    "inappropriate",
    "harmful",
    "regret",
    "unfortunately",
];

/// The part of one piece of a vocabulary in the counts of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PieceStyle {
    words: u8,
    chars: u8,
    letters: u8,
    capitals: u8,
    digits: u8,
    others: u8,
    commas: u8,
    periods: u8,
    questions: u8,
    exclamations: u8,
    brackets: u8,
    list_marks: u8,
    markdown: u8,
    long_words: u8,
    hedges: u8,
    second_person: u8,
    first_person: u8,
    refusals: u8,
}

impl PieceStyle {
    /// Counts a piece without the marks of its place in a word; `starts_word` is false for one that continues a word.
    #[must_use]
    pub fn of(piece: &str, starts_word: bool) -> Self {
        let count =
            |is: fn(char) -> bool| u8::try_from(piece.chars().filter(|&c| is(c)).count()).unwrap_or(u8::MAX);
        let letters = count(char::is_alphabetic);
        let is_word = starts_word && piece.chars().any(char::is_alphanumeric);
        let lower = piece.to_lowercase();
        let among = |words: &[&str]| u8::from(is_word && words.contains(&lower.as_str()));
        Self {
            words: u8::from(is_word),
            chars: count(|_| true),
            letters,
            capitals: count(char::is_uppercase),
            digits: count(char::is_numeric),
            others: count(|c| !c.is_ascii()),
            commas: count(|c| matches!(c, ',' | ';' | ':')),
            periods: count(|c| matches!(c, '.' | '\u{3002}')),
            questions: count(|c| matches!(c, '?' | '\u{ff1f}')),
            exclamations: count(|c| matches!(c, '!' | '\u{ff01}')),
            brackets: count(|c| matches!(c, '"' | '\'' | '(' | ')' | '[' | ']' | '{' | '}')),
            list_marks: count(|c| matches!(c, '-' | '*' | '\u{2022}')),
            markdown: count(|c| matches!(c, '#' | '`' | '|' | '_' | '~' | '*' | '=')),
            long_words: u8::from(is_word && usize::from(letters) >= LONG),
            hedges: among(&HEDGES),
            second_person: among(&SECOND_PERSON),
            first_person: among(&FIRST_PERSON),
            refusals: among(&REFUSALS),
        }
    }
}

/// Returns the style of a text from its pieces, shape `[N_STYLE]`: shares, which repeating the text does not change.
#[must_use]
pub fn style<'a>(pieces: impl Iterator<Item = &'a PieceStyle> + Clone) -> [f32; N_STYLE] {
    let sum =
        |of: fn(&PieceStyle) -> u8| pieces.clone().map(|piece| u32::from(of(piece))).sum::<u32>() as f32;
    let (words, chars) = (sum(|p| p.words), sum(|p| p.chars));
    let (letters, periods) = (sum(|p| p.letters), sum(|p| p.periods));
    let (questions, exclamations) = (sum(|p| p.questions), sum(|p| p.exclamations));
    let sentences = periods + questions + exclamations;
    let share = |part: f32, whole: f32| part / whole.max(1.0);
    let per_word = |part: f32| share(part, words);
    [
        per_word(sum(|p| p.commas)),
        per_word(periods),
        per_word(questions),
        per_word(exclamations),
        per_word(sum(|p| p.brackets)),
        per_word(sum(|p| p.list_marks)),
        per_word(sum(|p| p.markdown)),
        share(sum(|p| p.digits), chars),
        share(sum(|p| p.capitals), letters),
        share(sum(|p| p.others), chars),
        per_word(letters),
        share(words, sentences).ln_1p(),
        per_word(sum(|p| p.long_words)),
        per_word(sum(|p| p.hedges)),
        per_word(sum(|p| p.second_person)),
        per_word(sum(|p| p.first_person)),
        per_word(sum(|p| p.refusals)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> [f32; N_STYLE] {
        let pieces: Vec<PieceStyle> = text
            .split(' ')
            .map(|word| PieceStyle::of(word.trim_start_matches('+'), !word.starts_with('+')))
            .collect();
        style(pieces.iter())
    }

    #[test]
    fn every_column_counts_what_its_name_says() {
        let text = "perhaps you read 12 , then I regret it . why ? ! ( - # caf\u{e9} Wonder +fully";
        // It has 11 words, 54 characters, 45 letters with two capitals, and three sentences.
        let expected = [
            1.0 / 11.0,
            1.0 / 11.0,
            1.0 / 11.0,
            1.0 / 11.0,
            1.0 / 11.0,
            1.0 / 11.0,
            1.0 / 11.0,
            2.0 / 54.0,
            2.0 / 45.0,
            1.0 / 54.0,
            45.0 / 11.0,
            (11.0_f32 / 3.0).ln_1p(),
            1.0 / 11.0,
            1.0 / 11.0,
            1.0 / 11.0,
            1.0 / 11.0,
            1.0 / 11.0,
        ];
        for ((found, expected), name) in of(text).iter().zip(expected).zip(STYLE_NAMES) {
            assert!((found - expected).abs() < 1e-6, "{name}: {found} {expected}");
        }
    }

    #[test]
    fn a_text_that_is_repeated_has_the_style_that_it_has_once() {
        let text = "Sorry , I cannot tell you - it depends . Ask ( a ) doctor !";
        let close = |a: f32, b: f32| (a - b).abs() < 1e-6;
        assert!(of(text).iter().zip(of(&[text; 7].join(" "))).all(|(&a, b)| close(a, b)));
    }

    #[test]
    fn a_text_without_words_has_a_finite_style() {
        assert!(style([].iter()).iter().chain(&of(". . .")).all(|x| x.is_finite()));
    }
}
