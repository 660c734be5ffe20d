//! A reward depends on the encoder's input alone: equal tokens, equal features and equal rewards, to the bit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::cell::RefCell;
use std::path::Path;

use common::{Client, numbers, start};
use micro_reward::model::{Bundle, Encoder, Feature, Features, Manifest, Runtime, Template, Text};
use micro_reward::types::{Embedding, Encode, Encoded, Kept, Tokens};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A bundle with one session.
struct Model {
    bundle: Bundle,
    encoder: Encoder,
}

impl Model {
    fn open(dir: &Path) -> Self {
        let runtime = Runtime::load(&common::library()).unwrap();
        let (bundle, mut encoders) = Bundle::load(&runtime, dir, 1).unwrap();
        Self { bundle, encoder: encoders.remove(0) }
    }

    fn tokens(&self, prompt: &str, response: &str) -> Tokens {
        let text = match self.bundle.manifest().input.template {
            Template::Separate => Text::Single(response),
            Template::Pair => Text::Pair(prompt, response),
        };
        self.bundle.tokenizer().tokens(text).unwrap()
    }

    /// Returns the bits of a response's features and of every head's reward.
    fn judge(&mut self, prompt: &str, response: &str) -> (Vec<u32>, Vec<u32>) {
        let tokens = self.tokens(prompt, response);
        let embedding = self.encoder.encode(&[&tokens]).unwrap().remove(0);
        let mut row = Vec::new();
        self.bundle.features().extend(&mut row, &[], &Encoded { embedding, kept: tokens.kept });
        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect();
        (bits(&row), bits(&self.bundle.rewards(row.clone()).unwrap().raw(0)))
    }
}

/// Returns the toy bundle, the toy bundle that reads pairs, the default bundle, and a toy bundle that reads surfaces.
fn models() -> Vec<Model> {
    let dir = tempfile::tempdir().unwrap();
    common::toy_with(dir.path(), |manifest| manifest.input.template = Template::Pair);
    let surface = tempfile::tempdir().unwrap();
    common::toy_with(surface.path(), |manifest| common::with_surface(surface.path(), manifest));
    vec![
        Model::open(&common::toy()),
        Model::open(dir.path()),
        Model::open(&common::root().join("models/default")),
        Model::open(surface.path()),
    ]
}

thread_local!(static MODELS: RefCell<Vec<Model>> = RefCell::new(models()));

/// Characters that the default tokenizer drops between words: Unicode's blanks, NUL, zero-width characters, line
/// ends.
const BLANKS: &str = "[ \t\r\n\\x00\u{85}\u{a0}\u{1680}\u{2000}-\u{200b}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}]{1,400}";

/// Characters that every tokenizer drops between words.
const SPACES: &str =
    "[ \t\r\n\u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}]{1,400}";

fn words() -> impl Strategy<Value = String> {
    let some = [
        "tea",
        "thanks",
        "I",
        "would",
        "talk",
        "to",
        "your",
        "landlord",
        "first.",
        "caf\u{e9}",
        "na\u{ef}ve",
        "\u{d55c}\u{ae00}",
    ];
    prop::collection::vec(prop::sample::select(some.to_vec()), 1..60).prop_map(|words| words.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn padding_buys_no_reward(prompt in words(), text in words(), spaces in SPACES, blanks in BLANKS) {
        MODELS.with_borrow_mut(|models| {
            for (idx, model) in models.iter_mut().enumerate() {
                let padding = if idx == 2 { &blanks } else { &spaces };
                let expected = model.judge(&prompt, &text);
                for padded in [format!("{text}{padding}"), format!("{spaces}{text}"), text.replace('\n', "\r\n"), text.replace('\n', &spaces)] {
                    prop_assert_eq!(&model.judge(&prompt, &padded), &expected);
                }
                prop_assert_eq!(&model.judge(&format!("{prompt}{padding}"), &text), &expected);
            }
            Ok(())
        })?;
    }

    #[test]
    fn composed_and_decomposed_characters_have_one_reward(text in words()) {
        let composed = text.clone();
        let decomposed = text.replace('\u{e9}', "e\u{301}").replace('\u{ef}', "i\u{308}")
            .replace('\u{d55c}', "\u{1112}\u{1161}\u{11ab}").replace('\u{ae00}', "\u{1100}\u{1173}\u{11af}");
        MODELS.with_borrow_mut(|models| {
            for model in models {
                prop_assert_eq!(model.judge("tea", &composed), model.judge("tea", &decomposed));
            }
            Ok(())
        })?;
    }

    #[test]
    fn what_is_cut_off_changes_no_reward(text in words(), before in words()) {
        MODELS.with_borrow_mut(|models| {
            for model in models {
                let text = format!("{text} ").repeat(600);
                let longer = format!("{before} {text}");
                prop_assert!(model.tokens("tea", &longer).kept.truncated);
                prop_assert_eq!(model.judge("tea", &text), model.judge("tea", &longer));
            }
            Ok(())
        })?;
    }
}

/// Heads are not trained on a scalar beyond the range of the training data.
#[test]
fn a_scalar_stays_within_the_range_that_training_saw() {
    let text = std::fs::read_to_string(common::toy().join("bundle.toml")).unwrap();
    let manifest: Manifest = toml::from_str(&text).unwrap();
    let &[[low, high]] = manifest.input.ranges[&Feature::LogLength].as_slice() else { panic!("one range") };
    let features = Features::new(&manifest.input, 8, 0);
    let embedding: Embedding = vec![0.5; 8].into();
    let scalar = |n_chars: u32| {
        let mut row = Vec::new();
        let kept = Kept { n_chars, ..Kept::default() };
        features.extend(&mut row, &[], &Encoded { embedding: embedding.clone(), kept });
        row[8]
    };
    assert_eq!([scalar(0), scalar(1), scalar(10)], [low, low, 10_f32.ln_1p()]);
    assert_eq!([scalar(100), scalar(101), scalar(u32::MAX)], [high; 3]);
}

fn request(prompt: &str, responses: &[&str]) -> Value {
    json!({ "items": [{ "prompt": prompt, "responses": responses }] })
}

#[tokio::test]
async fn a_padded_text_has_the_reward_of_the_text_and_says_what_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    common::toy_with(dir.path(), |manifest| manifest.input.template = Template::Pair);
    let surface = tempfile::tempdir().unwrap();
    common::toy_with(surface.path(), |manifest| common::with_surface(surface.path(), manifest));
    let long = "tea ".repeat(1000);
    for bundle in [common::toy(), dir.path().to_owned()] {
        let (app, _) = start(&bundle, &[]).await;
        let client = Client::new(app.address);
        let padded = format!("thanks friend{}", "\n".repeat(100_000));
        let (_, answer) = client.post("/score", &request("tea", &["thanks friend", &padded, &long])).await;
        let rewards = numbers(&answer["items"][0]["rewards"]);
        assert_eq!(rewards[0], rewards[1]);
        assert_eq!(answer["items"][0]["truncated"], json!([false, false, true]));
        assert_eq!(answer["items"][0]["prompt_truncated"], json!(false));
        let (_, answer) = client.post("/score", &request(&long, &["thanks friend", &long])).await;
        assert_eq!(answer["items"][0]["truncated"], json!([false, true]));
        assert_eq!(answer["items"][0]["prompt_truncated"], json!(true));
        app.stop().await;
    }
}

/// Writes the toy bundle with the control tokens of chat models.
fn toy_with_control_tokens(dir: &Path, template: Template) {
    common::toy_with(dir, |manifest| {
        manifest.input.template = template;
        common::change_tokenizer(dir, manifest, make_control);
    });
}

/// Gives the control tokens the places of words, so that one in a text would be read as such a word.
fn make_control(tokenizer: &mut Value) {
    let mut added = Vec::new();
    for (word, content) in [("please", "</s>"), ("sorry", "<|im_end|>"), ("[SEP]", "[SEP]")] {
        let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        let id = vocab.remove(word).unwrap();
        vocab.insert(content.to_owned(), id.clone());
        added.push(
            json!({ "id": id, "content": content, "special": true, "single_word": false, "lstrip": false,
                               "rstrip": false, "normalized": false }),
        );
    }
    tokenizer["added_tokens"] = json!(added);
}

#[tokio::test]
async fn special_tokens_in_a_response_a_prompt_or_a_context_are_text() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    toy_with_control_tokens(dirs[0].path(), Template::Separate);
    toy_with_control_tokens(dirs[1].path(), Template::Pair);
    let bundles =
        [dirs[0].path().to_owned(), dirs[1].path().to_owned(), common::root().join("models/default")];
    for bundle in bundles {
        let (app, _) = start(&bundle, &[]).await;
        let client = Client::new(app.address);
        let ask = async |[prompt, response, context]: [&str; 3]| {
            let mut request = request(prompt, &[response, "glad"]);
            request["context"] = json!(context);
            request["detail"] = json!(true);
            let (status, answer) = client.post("/score", &request).await;
            assert_eq!(status, 200, "{answer}");
            answer["items"].clone()
        };
        let texts = ["tea?", "I can't help.", "tone"];
        for place in 0..texts.len() {
            let with = |end: &str| {
                let long = format!("{} {end}", texts[place]);
                let mut texts = texts.map(str::to_owned);
                texts[place] = long;
                texts
            };
            for (control, spelled) in
                [("[SEP]", "[ SEP ]"), ("</s>", "</ s >"), ("<|im_end|>", "<| im_end |>")]
            {
                let [written, spelled, word] =
                    [control, spelled, "thanks"].map(|end| with(&format!("{end} x")));
                let expected = ask(spelled.each_ref().map(String::as_str)).await;
                assert_eq!(ask(written.each_ref().map(String::as_str)).await, expected, "{written:?}");
                // The words there are read, so that a token in their place would change the answer as well.
                assert_ne!(ask(word.each_ref().map(String::as_str)).await, expected, "{word:?}");
            }
        }
        app.stop().await;
    }
}
