//! Embeds the texts of a request: every distinct text once, and none that is cached.

use std::collections::HashMap;
use std::iter::Peekable;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::items::{Item, RouterInput};
use super::text_error::{FailurePolicy, Part, TextError};
use crate::batch::{Answers, EmbeddingCache, Refused, Ticket};
use crate::model::{Bundle, Template, Text, TokenizerError};
use crate::service::Service;
use crate::service::work::work;
use crate::telemetry::metric;
use crate::types::{Encoded, Error, ErrorKind, TextKey, deadline, routed};

/// Texts and their bytes looked up without a pause on an async thread, at about 0.5 us and 1 ns each.
const LOOKED_UP_AT_ONCE: Size = Size { n_texts: 512, n_bytes: 1 << 17 };

/// Texts and their bytes tokenized without a pause on an async thread, at about 10 us and 0.4 us each.
const TOKENIZED_AT_ONCE: Size = Size { n_texts: 16, n_bytes: 1024 };

/// Texts and their bytes tokenized before they are pushed: model threads encode them while the next are tokenized.
const TOKENIZED_BEFORE_PUSH: Size = Size { n_texts: 32, n_bytes: 1 << 16 };

/// Bytes that one request may have read; each text counts wherever it is used, a context once for each item.
const MOST_BYTES: usize = 1 << 28;

/// The number of texts to read, and their bytes.
#[derive(Clone, Copy, Default)]
struct Size {
    n_texts: usize,
    n_bytes: usize,
}

impl Size {
    fn of(lengths: impl Iterator<Item = usize>) -> Self {
        let mut size = Self::default();
        lengths.for_each(|n_bytes| size.add(n_bytes));
        size
    }

    fn add(&mut self, n_bytes: usize) {
        self.n_texts += 1;
        self.n_bytes += n_bytes;
    }

    fn and(self, other: Self) -> Self {
        Self { n_texts: self.n_texts + other.n_texts, n_bytes: self.n_bytes + other.n_bytes }
    }

    fn is_within(self, limit: Self) -> bool {
        self.n_texts <= limit.n_texts && self.n_bytes <= limit.n_bytes
    }
}

/// The texts of one request, with their embeddings or errors.
pub struct Embeddings {
    /// One entry per distinct text.
    pub texts: Vec<Result<Encoded, TextError>>,
    /// One per item.
    pub item_texts: Vec<ItemTexts>,
}

/// The indices of one item's texts.
pub struct ItemTexts {
    pub prompt: Option<usize>,
    pub router: Option<usize>,
    pub responses: Vec<usize>,
}

impl Embeddings {
    /// Returns the texts of an item that could not be read, with their errors.
    pub fn errors(&self, item: usize) -> impl Iterator<Item = (Part, &TextError)> {
        let ItemTexts { prompt, router, responses } = &self.item_texts[item];
        let prompts = [*prompt, *router].into_iter().flatten().map(|idx| (Part::Prompt, idx));
        let responses = responses.iter().enumerate().map(|(nth, idx)| (Part::Response(nth), *idx));
        prompts.chain(responses).filter_map(|(part, idx)| Some((part, self.texts[idx].as_ref().err()?)))
    }

    /// Returns a text if it could be read.
    pub fn text(&self, idx: usize) -> Option<&Encoded> {
        self.texts[idx].as_ref().ok()
    }
}

/// A text, or a pair of texts, that has one embedding.
#[derive(Clone)]
enum Source {
    Single(Arc<str>),
    Pair(Arc<str>, Arc<str>),
}

impl Source {
    fn text(&self) -> Text<'_> {
        match self {
            Self::Single(text) => Text::Single(text),
            Self::Pair(prompt, response) => Text::Pair(prompt, response),
        }
    }

    /// Returns the most bytes that are tokenized at once: the texts of a pair are tokenized one after the other.
    fn longest(&self) -> usize {
        match self {
            Self::Single(text) => text.len(),
            Self::Pair(prompt, response) => prompt.len().max(response.len()),
        }
    }

    fn n_bytes(&self) -> usize {
        match self {
            Self::Single(text) => text.len(),
            Self::Pair(prompt, response) => prompt.len() + response.len(),
        }
    }
}

impl Service {
    /// Returns the embeddings of all texts that the heads and the router read.
    pub async fn embed(
        &self,
        items: &Arc<[Item]>,
        router_input: RouterInput,
        on_failure: FailurePolicy,
    ) -> Result<Embeddings, Error> {
        let size = self.size(items, &router_input);
        if size.n_bytes > MOST_BYTES {
            let found = size.n_bytes;
            let detail = format!(
                "found {found} bytes to read, each text counted wherever it is used, expected at most {MOST_BYTES}"
            );
            return Err(Error::new(ErrorKind::TooLarge, detail).with_code("too_much_text"));
        }
        let is_a_moment = size.is_within(LOOKED_UP_AT_ONCE);
        let look_up = {
            let (bundle, cache, items) = (self.bundle.clone(), self.queue.cache().clone(), items.clone());
            move |awaited: &Weak<()>| look_up(&bundle, &cache, &items, &router_input, awaited)
        };
        let LookUp { item_texts, sources, found } = work("look_up", is_a_moment, look_up).await?;
        let missing: Vec<usize> = (0..found.len()).filter(|&idx| found[idx].is_none()).collect();
        let mut texts: Vec<Result<Encoded, TextError>> =
            found.into_iter().map(|found| found.ok_or(TextError::Left)).collect();
        if !missing.is_empty() {
            let new = missing.iter().map(|&idx| sources[idx].clone()).collect();
            let Tokenized { answers, untokenizable } = self.encode(new, on_failure).await?;
            let is_refused =
                on_failure == FailurePolicy::RefuseAll && untokenizable.iter().any(Option::is_some);
            let encoded = if is_refused { Vec::new() } else { answers.all().await };
            let mut encoded = encoded.into_iter();
            for (idx, untokenizable) in missing.into_iter().zip(untokenizable) {
                texts[idx] = match untokenizable {
                    Some(error) => Err(TextError::Untokenizable(error.to_string().into())),
                    None => {
                        encoded.next().map_or(Err(TextError::Left), |text| text.map_err(TextError::Unencoded))
                    }
                };
            }
        }
        let is_cut = |text: &&Encoded| text.kept.truncated || text.kept.prompt_truncated;
        let n_truncated = texts.iter().flatten().filter(is_cut).count();
        metrics::counter!(metric::TRUNCATED).increment(n_truncated as u64);
        Ok(Embeddings { texts, item_texts })
    }

    /// Takes as many of the next items as one call of [`Service::embed`] accepts, at least one if there are any.
    pub fn part(&self, items: &mut Peekable<impl Iterator<Item = Item>>) -> Vec<Item> {
        let most = Size { n_texts: self.queue.max_texts(), n_bytes: MOST_BYTES };
        let (mut part, mut size) = (Vec::new(), Size::default());
        loop {
            let fits = |item: &Item| {
                let with = size.and(self.size(std::slice::from_ref(item), &RouterInput::Nothing));
                (part.is_empty() || with.is_within(most)).then(|| size = with).is_some()
            };
            let Some(item) = items.next_if(fits) else { return part };
            part.push(item);
        }
    }

    /// Returns the most texts and bytes that the heads and the router read, repetitions included.
    fn size(&self, items: &[Item], router_input: &RouterInput) -> Size {
        let context = match router_input {
            RouterInput::Prompt(Some(context)) => context.len(),
            _ => 0,
        };
        let is_pair = self.bundle.manifest().input.template == Template::Pair;
        let lengths = items.iter().flat_map(|Item { prompt, responses, .. }| {
            let with = if is_pair { prompt.len() } else { 0 };
            let responses = responses.iter().map(move |response| with + response.len());
            std::iter::once(prompt.len() + context).chain(responses)
        });
        Size::of(lengths)
    }

    async fn encode(
        &self,
        sources: Vec<(TextKey, Source)>,
        on_failure: FailurePolicy,
    ) -> Result<Tokenized, Error> {
        let ticket = self.queue.open(sources.len(), deadline()).map_err(overloaded)?;
        let size = Size::of(sources.iter().map(|(_, source)| source.n_bytes()));
        let is_a_moment = size.is_within(TOKENIZED_AT_ONCE);
        // The texts of a request are tokenized one after another, so that its longest text bounds its share of the
        // budget.
        let longest = sources.iter().map(|(_, source)| source.longest()).max().unwrap_or_default();
        let permit = if is_a_moment { None } else { Some(self.tokenizer_budget.take(longest).await?) };
        let bundle = self.bundle.clone();
        let tokenize = move |awaited: &Weak<()>| {
            let _permit = permit;
            tokenize(&bundle, &sources, ticket, on_failure, awaited)
        };
        work("tokenize", is_a_moment, tokenize).await
    }
}

/// Texts on their way to the encoder.
struct Tokenized {
    answers: Answers,
    /// Errors of the tokenizer, one entry per text that was tried. The answers are of the others.
    untokenizable: Vec<Option<TokenizerError>>,
}

/// The distinct texts of a request, with the embeddings that are cached.
struct LookUp {
    item_texts: Vec<ItemTexts>,
    /// The distinct texts.
    sources: Vec<(TextKey, Source)>,
    /// Cached embeddings, one entry per source.
    found: Vec<Option<Encoded>>,
}

/// Finds the distinct texts of the items, and those in the cache; stops early once the caller is gone.
fn look_up(
    bundle: &Bundle,
    cache: &EmbeddingCache,
    items: &[Item],
    router_input: &RouterInput,
    awaited: &Weak<()>,
) -> LookUp {
    let mut sources = Vec::new();
    let mut idx_of = HashMap::new();
    let mut add = |source: Source| {
        let key = bundle.text_key(source.text());
        *idx_of.entry(key).or_insert_with(|| {
            sources.push((key, source));
            sources.len() - 1
        })
    };
    let is_prompt_read =
        bundle.features().read_the_prompt() || matches!(router_input, RouterInput::Prompt(None));
    let mut texts_of = |Item { prompt, responses, .. }: &Item| {
        let response = |response: &Arc<str>| match bundle.manifest().input.template {
            Template::Separate => Source::Single(response.clone()),
            Template::Pair => Source::Pair(prompt.clone(), response.clone()),
        };
        let prompt_idx = is_prompt_read.then(|| add(Source::Single(prompt.clone())));
        let router = match router_input {
            RouterInput::Nothing => None,
            RouterInput::Prompt(None) => prompt_idx,
            RouterInput::Prompt(Some(context)) => {
                Some(add(Source::Single(routed(prompt, Some(context)).into())))
            }
        };
        let responses = responses.iter().map(|text| add(response(text))).collect();
        ItemTexts { prompt: prompt_idx, router, responses }
    };
    let item_texts = items.iter().take_while(|_| awaited.strong_count() > 0).map(&mut texts_of).collect();
    let found = cache.find(sources.iter().map(|(key, _)| *key));
    LookUp { item_texts, sources, found }
}

/// Tokenizes texts and pushes them to the encoder in turn; stops early once the caller is gone, or once a text fails
/// under [`FailurePolicy::RefuseAll`].
fn tokenize(
    bundle: &Bundle,
    sources: &[(TextKey, Source)],
    mut ticket: Ticket,
    on_failure: FailurePolicy,
    awaited: &Weak<()>,
) -> Tokenized {
    let (mut tokens, mut size) = (Vec::new(), Size::default());
    let mut untokenizable = Vec::with_capacity(sources.len());
    for (key, source) in sources.iter().take_while(|_| awaited.strong_count() > 0) {
        size.add(source.n_bytes());
        if !size.is_within(TOKENIZED_BEFORE_PUSH) {
            ticket.push(std::mem::take(&mut tokens));
            size = Size::of(std::iter::once(source.n_bytes()));
        }
        let tokenized = bundle.tokenizer().tokens(source.text());
        let error = tokenized.map(|text| tokens.push((*key, text))).err();
        let is_over = error.is_some() && on_failure == FailurePolicy::RefuseAll;
        untokenizable.push(error);
        if is_over {
            return Tokenized { answers: ticket.answers(), untokenizable };
        }
    }
    if awaited.strong_count() > 0 {
        ticket.push(tokens);
    }
    Tokenized { answers: ticket.answers(), untokenizable }
}

fn overloaded(refused: Refused) -> Error {
    let (reason, detail) = match refused {
        Refused::Full { new, max_texts, .. } if new > max_texts => {
            let detail = format!("found {new} texts, expected at most {max_texts} in one request");
            return Error::new(ErrorKind::TooLarge, detail).with_code("too_many_texts");
        }
        Refused::Late { left: Duration::ZERO, .. } => {
            let detail = "the time of the caller was over before a text could be encoded";
            return Error::new(ErrorKind::DeadlineExceeded, detail).with_source(refused);
        }
        Refused::Full { .. } => ("queue", "too many texts are waiting for the encoder"),
        Refused::Late { .. } => ("deadline", "too much is waiting for the encoder to answer in time"),
    };
    metrics::counter!(metric::SHED, "reason" => reason).increment(1);
    let error = Error::new(ErrorKind::Overloaded, detail).with_retry_after(refused.retry_after());
    error.with_source(refused)
}
