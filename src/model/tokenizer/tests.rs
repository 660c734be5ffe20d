//! Tests of tokens, on tokenizers of every kind that the tail has a law for.

use std::fmt::Write;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Generates pieces of text with special cases: words, rare letters, punctuation, blanks, characters that are
/// dropped, ideographs, emoji, marks, and words that are too long for WordPiece.
fn fragment() -> impl Strategy<Value = String> {
    let some = |texts: &'static [&'static str]| prop::sample::select(texts).prop_map(str::to_owned);
    prop_oneof![
        4 => some(&["a", "b", "c", "aa", "aab", "abc", "Tea", "the", "unbelievably", "haha", "12", "x1y"]),
        4 => some(&[" ", "  ", "\n", "\r\n", "\t", "\u{a0}", "\u{2003}", "\u{3000}", "\u{85}"]),
        2 => some(&["!", "...", "-", "\u{201c}", "\u{3002}", "\u{2260}", "\u{37e}", "$", "^", "\u{20ac}"]),
        1 => some(&["\0", "\u{200b}", "\u{feff}", "\u{fffd}", "\u{ad}", "\u{7}"]),
        1 => some(&["\u{6f22}", "\u{f900}", "\u{2f800}", "\u{d55c}", "\u{304c}", "\u{1f600}", "\u{1f468}\u{200d}\u{1f469}"]),
        1 => some(&["e\u{301}", "\u{e9}", "\u{301}", "\u{344}", "\u{302e}", "\u{903}", "\u{130}", "\u{fb01}", "\u{df}"]),
        1 => (90..240_usize).prop_map(|n| "a".repeat(n)),
        1 => (90..240_usize).prop_map(|n| "\u{e9}\u{301}z".repeat(n)),
    ]
}

fn control() -> impl Strategy<Value = String> {
    let names = [
        "[SEP]",
        "[CLS]",
        "[PAD]",
        "[UNK]",
        "[MASK]",
        "</s>",
        "<s>",
        "<unk>",
        "<|im_end|>",
        "<0x41>",
        "[sep]",
    ];
    prop::sample::select(names.to_vec()).prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(fragment(), 0..60).prop_map(|parts| parts.concat())
}

fn text_with_control() -> impl Strategy<Value = String> {
    let part = prop_oneof![2 => fragment(), 1 => control()];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

/// A tokenizer, and the library's own for the same file.
struct Both {
    ours: Tokenizer,
    theirs: tokenizers::Tokenizer,
}

impl Both {
    fn open(path: &Path, max_tokens: usize) -> Self {
        let mut theirs = tokenizers::Tokenizer::from_file(path).unwrap();
        theirs.with_padding(None).with_truncation(None).unwrap();
        theirs.set_encode_special_tokens(true);
        Self { ours: Tokenizer::load(path, max_tokens).unwrap(), theirs }
    }

    fn of(json: &Value, max_tokens: usize) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json.to_string()).unwrap();
        Self::open(file.path(), max_tokens)
    }

    fn all(&self, text: &str) -> Vec<u32> {
        self.theirs.encode_fast(text, false).unwrap().get_ids().to_vec()
    }

    /// Checks that `text`, on its own and as either of a pair, has the last tokens of all of it.
    fn check(&self, text: &str, other: &str) {
        let n_chars =
            |ids: &[u32]| ids.iter().map(|id| self.ours.n_chars.get(id).copied().unwrap_or(1)).sum::<u32>();
        let post = |first: Vec<u32>, second: Option<Vec<u32>>| {
            let second = second.map(|ids| sequence(ids, 1));
            self.theirs.post_process(sequence(first, 0), second, true).unwrap().get_ids().to_vec()
        };
        let last = |ids: &[u32], n: usize| ids[ids.len() - n..].to_vec();
        let (ids, others) = (self.all(text), self.all(other));
        let room = self.ours.max_tokens - n_special(&self.theirs, false);
        let n = ids.len().min(room);
        let expected = post(last(&ids, n), None);
        if !expected.is_empty() {
            let found = self.ours.tokens(Text::Single(text)).unwrap();
            assert_eq!(found.ids, expected, "{text:?}");
            let kept = Kept { n_chars: n_chars(&last(&ids, n)), truncated: n < ids.len(), ..Kept::default() };
            assert_eq!(found.kept, kept, "{text:?}");
        }
        let room = self.ours.max_tokens - n_special(&self.theirs, true);
        for ((prompt, p), (response, r)) in
            [((text, &ids), (other, &others)), ((other, &others), (text, &ids))]
        {
            let (n_p, n_r) = longest_first(room, p.len(), r.len());
            let expected = post(last(p, n_p), Some(last(r, n_r)));
            if expected.is_empty() {
                continue;
            }
            let found = self.ours.tokens(Text::Pair(prompt, response)).unwrap();
            assert_eq!(found.ids, expected, "{prompt:?} {response:?}");
            let (truncated, prompt_truncated) = (n_r < r.len(), n_p < p.len());
            assert_eq!(
                found.kept,
                Kept { n_chars: n_chars(&last(r, n_r)), truncated, prompt_truncated, ..Kept::default() }
            );
        }
    }

    /// Checks that ids of control tokens are only where the post-processor puts them.
    fn check_control(&self, text: &str, unknown: &str) {
        let special: Vec<u32> =
            self.theirs.get_added_vocabulary().get_added_tokens_decoder().keys().copied().collect();
        let unknown = self.theirs.token_to_id(unknown);
        let count =
            |ids: &[u32]| ids.iter().filter(|id| special.contains(id) && Some(**id) != unknown).count();
        let empty = |pair: Option<Encoding>| {
            count(self.theirs.post_process(Encoding::default(), pair, true).unwrap().get_ids())
        };
        for (text, expected) in
            [(Text::Single(text), empty(None)), (Text::Pair(text, text), empty(Some(Encoding::default())))]
        {
            if let Ok(tokens) = self.ours.tokens(text) {
                assert_eq!(count(&tokens.ids), expected, "{text:?}: {:?}", tokens.ids);
            }
        }
    }
}

/// Takes token by token from the longer one; from the prompt on a tie, as the response gets the odd token.
fn longest_first(room: usize, mut n_prompt: usize, mut n_response: usize) -> (usize, usize) {
    let half = room - room / 2;
    while n_prompt + n_response > room {
        let is_prompts_turn = n_response <= half || (n_prompt > room / 2 && n_prompt >= n_response);
        if is_prompts_turn { n_prompt -= 1 } else { n_response -= 1 }
    }
    (n_prompt, n_response)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn default_tokenizer(max_tokens: usize) -> Both {
    Both::open(&root().join("models/default/tokenizer.json"), max_tokens)
}

fn toy(max_tokens: usize) -> Both {
    Both::open(&root().join("models/toy/tokenizer.json"), max_tokens)
}

const SPECIAL: [&str; 4] = ["<unk>", "<s>", "</s>", "<|im_end|>"];
const PIECES: [&str; 20] = [
    "\u{2581}",
    "a",
    "b",
    "c",
    "e",
    "h",
    "t",
    "T",
    "\u{e9}",
    "!",
    ".",
    "<",
    "s",
    ">",
    "/",
    "|",
    "aa",
    "aaa",
    "ab",
    "\u{2581}a",
];

fn added(is_special: bool) -> Vec<Value> {
    let token = |(id, content): (usize, &&str)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": is_special,
        })
    };
    SPECIAL.iter().enumerate().map(token).collect()
}

/// Returns a tokenizer without words whose vocabulary holds its control tokens, as SentencePiece makes them.
fn sentence_pieces(model: Value, normalizer: Value, pre_tokenizer: Value, is_special: bool) -> Value {
    let special = |id: &str| json!({ "SpecialToken": { "id": id, "type_id": 0 } });
    let text = |id: &str, type_id: u8| json!({ "Sequence": { "id": id, "type_id": type_id } });
    let ids = |id: usize| json!({ "id": SPECIAL[id], "ids": [id], "tokens": [SPECIAL[id]] });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added(is_special),
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "decoder": null, "model": model,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [text("A", 0)],
            "pair": [special("<s>"), text("A", 0), special("</s>"), text("B", 1), special("</s>")],
            "special_tokens": { "<s>": ids(1), "</s>": ids(2) },
        },
    })
}

/// Returns a model whose scores are sums of powers of two, so that sums of them are exact and equal paths stay equal
/// wherever they are in a text.
fn unigram() -> Value {
    let special = SPECIAL.iter().map(|piece| json!([piece, 0.0]));
    let scored = PIECES
        .iter()
        .enumerate()
        .map(|(idx, piece)| json!([piece, -1.5 - 0.25 * idx as f64 / piece.len() as f64]));
    let exact = |row: Value| json!([row[0], (row[1].as_f64().unwrap() * 64.0).round() / 64.0]);
    json!({ "type": "Unigram", "unk_id": 0, "vocab": special.chain(scored.map(exact)).collect::<Vec<_>>() })
}

fn bpe(fuse_unk: bool) -> Value {
    let mut vocab = serde_json::Map::new();
    let merges = [["a", "a"], ["aa", "a"], ["a", "b"], ["\u{2581}", "a"], ["<", "s"], ["<s", ">"]];
    let merged = ["<s"];
    for piece in SPECIAL.iter().chain(&PIECES).chain(&merged) {
        vocab.insert((*piece).to_owned(), vocab.len().into());
    }
    json!({
        "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": fuse_unk, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges,
    })
}

fn prepended() -> Value {
    json!({ "type": "Sequence", "normalizers": [
        { "type": "Prepend", "prepend": "\u{2581}" },
        { "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" },
    ] })
}

fn replaced() -> Value {
    json!({ "type": "Sequence", "normalizers": [
        { "type": "NFKC" }, { "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" },
    ] })
}

fn metaspace(scheme: &str) -> Value {
    json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": true })
}

/// Returns every kind of tokenizer that takes a text for one word, or for words that begin with a blank.
fn all_sentence_pieces(is_special: bool) -> Vec<Value> {
    let mut all = Vec::new();
    for model in [unigram(), bpe(true), bpe(false)] {
        for normalizer in [Value::Null, prepended(), replaced(), json!({ "type": "NFC" })] {
            all.push(sentence_pieces(model.clone(), normalizer, Value::Null, is_special));
        }
        for scheme in ["always", "first", "never"] {
            all.push(sentence_pieces(model.clone(), Value::Null, metaspace(scheme), is_special));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_tail_has_the_tokens_of_the_whole_text_for_word_pieces(text in text(), other in text(), max_tokens in 4..24_usize) {
        default_tokenizer_cached(max_tokens, |both| both.check(&text, &other));
    }

    #[test]
    fn a_tail_has_the_tokens_of_the_whole_text_for_words(text in text(), other in text(), max_tokens in 4..24_usize) {
        toy(max_tokens).check(&text, &other);
    }

    #[test]
    fn a_tail_has_the_tokens_of_the_whole_text_for_sentence_pieces(
        text in text(), other in text(), max_tokens in 4..24_usize, which in 0..21_usize,
    ) {
        Both::of(&all_sentence_pieces(true)[which], max_tokens).check(&text, &other);
    }

    #[test]
    fn what_people_write_never_becomes_a_control_token(text in text_with_control(), which in 0..23_usize, is_special: bool) {
        match which {
            21 => default_tokenizer_cached(64, |both| both.check_control(&text, "[UNK]")),
            22 => toy(64).check_control(&text, "[UNK]"),
            _ => Both::of(&all_sentence_pieces(is_special)[which], 64).check_control(&text, "<unk>"),
        }
    }

    #[test]
    fn blanks_and_forms_of_a_text_change_nothing(
        text in text(),
        blanks in "[ \t\r\n\\x00\u{a0}\u{1680}\u{2000}-\u{200b}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}]{0,300}",
    ) {
        default_tokenizer_cached(24, |both| {
            let tokens = |text: &str| both.ours.tokens(Text::Single(text)).unwrap();
            let expected = tokens(&text);
            prop_assert_eq!(&tokens(&format!("{text}{blanks}")), &expected);
            prop_assert_eq!(&tokens(&format!("{blanks} {text}")), &expected);
            let lines = text.replace("\r\n", "\n");
            prop_assert_eq!(&tokens(&lines), &tokens(&lines.replace('\n', "\r\n")));
            let [nfc, nfd] = [
                tokenizers::NormalizedString::nfc, tokenizers::NormalizedString::nfd,
            ].map(|form| {
                let mut text = tokenizers::NormalizedString::from(text.as_str());
                form(&mut text);
                tokens(text.get())
            });
            prop_assert_eq!(nfc, nfd);
            Ok(())
        })?;
    }
}

/// Calls `f` with a tokenizer that is loaded once, as loading takes longer than a case; only its room changes.
fn default_tokenizer_cached<T>(max_tokens: usize, f: impl FnOnce(&Both) -> T) -> T {
    thread_local!(static BOTH: std::cell::RefCell<Option<Both>> = const { std::cell::RefCell::new(None) });
    BOTH.with_borrow_mut(|both| {
        let both = both.get_or_insert_with(|| default_tokenizer(max_tokens));
        both.ours.max_tokens = max_tokens;
        f(both)
    })
}

#[test]
fn what_a_control_token_is_called_is_text() {
    let both = default_tokenizer(64);
    let ids = |text: &str| both.ours.tokens(Text::Single(text)).unwrap().ids;
    for (written, text) in
        [("x [SEP] y", "x [ sep ] y"), ("[UNK]", "[ unk ]"), ("[CLS][PAD]", "[ cls ] [ pad ]")]
    {
        assert_eq!(ids(written), ids(text));
    }
    for json in all_sentence_pieces(true).iter().chain(&all_sentence_pieces(false)) {
        let both = Both::of(json, 64);
        let spelled: Vec<u32> = ["<", "/", "s", ">"].map(|c| both.theirs.token_to_id(c).unwrap()).into();
        let ids = both.ours.tokens(Text::Single("c</s>c")).unwrap().ids;
        assert!(ids.windows(4).any(|window| window == spelled), "{ids:?} in {json}");
    }
}

/// The tail is all that is tokenized.
#[test]
fn what_is_tokenized_does_not_grow_with_the_text() {
    const N: usize = 1 << 20;
    let (words, blanks) = (default_tokenizer(256).ours, toy(256).ours);
    let tail = |tokenizer: &Tokenizer, text: &str| tokenizer.tail.of_text(text, 255).len();
    for part in
        ["!", "x", " ", "\0", "\u{200b}", "\n", "\u{301}", "\u{6f22}", "\u{1f600}", "a ", "a!", "\u{3002}"]
    {
        let text = part.repeat(N / part.len());
        assert!(tail(&words, &text) <= 256 * (4 * 101 + 1), "{part:?}: {}", tail(&words, &text));
    }
    assert!(tail(&blanks, &"tea ".repeat(N)) <= 255 * 4 + 1);
    assert_eq!(tail(&blanks, &" ".repeat(N)), 0);
    for json in all_sentence_pieces(true) {
        let tokenizer = Both::of(&json, 256).ours;
        assert!(tail(&tokenizer, &"abc tea! ".repeat(N / 8)) <= 257 * 9, "{json}");
    }
}

/// The library would join each part that it cuts off one text with each part of the other.
#[test]
fn long_pairs_take_what_their_ends_take() {
    for json in all_sentence_pieces(true) {
        let both = Both::of(&json, 64);
        let (mut long, mut other) = (String::new(), String::new());
        for n in 0..20_000 {
            write!(long, "abc{n} tea").unwrap();
            write!(other, " aa{n}!b").unwrap();
        }
        both.check(&long, &other);
    }
}

#[test]
fn truncated_is_said_of_the_text_that_was_cut() {
    let long = "tea ".repeat(1000);
    let both = default_tokenizer(256);
    let cut = |text| {
        let kept = both.ours.tokens(text).unwrap().kept;
        (kept.prompt_truncated, kept.truncated)
    };
    assert_eq!(cut(Text::Single(&long)), (false, true));
    assert_eq!(cut(Text::Single("tea")), (false, false));
    assert_eq!(cut(Text::Pair(&long, "tea")), (true, false));
    assert_eq!(cut(Text::Pair("tea", &long)), (false, true));
    assert_eq!(cut(Text::Pair(&long, &long)), (true, true));
    assert_eq!(cut(Text::Pair("tea", "tea")), (false, false));
    // If only pairs get special tokens, a single text has all the room.
    let pairs_only = Both::of(&sentence_pieces(bpe(true), Value::Null, Value::Null, true), 256).ours;
    let kept = |n: usize| {
        let tokens = pairs_only.tokens(Text::Single(&"c".repeat(n))).unwrap();
        (tokens.ids.len(), tokens.kept.truncated)
    };
    assert_eq!([kept(256), kept(257), kept(1000)], [(256, false), (256, true), (256, true)]);
}
