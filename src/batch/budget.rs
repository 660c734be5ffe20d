//! How many texts of a length are encoded at once: what gives the most texts a second on this device.
//!
//! On a CPU a batch pays for short texts only, on a GPU for all of them, and where the turn comes differs per model. So
//! it is measured, unless somebody fixes it.

use std::time::Duration;

use tokio::time::Instant;

use crate::types::{Encode, EncodeError, Tokens};

/// The shortest length that is measured; shorter texts go by it.
const SHORTEST: usize = 16;

/// Twice the texts have to give this much more throughput to be worth the longer wait; less is noise.
const WORTH: f64 = 1.08;

/// A batch is not tried twice as large if it took longer: every text in it would wait for all.
const LONGEST: Duration = Duration::from_millis(250);

/// A run is repeated this often, and the fastest counts: what disturbs a run makes it slower, never faster.
const RUNS: usize = 3;

/// How full of its tokens a row of a batch has to be where nothing was measured. On CPUs random batches run at half the speed
/// of single texts, for their padding.
const MIN_FILL: f64 = 0.75;

/// What may share a batch, by the length of its longest text.
#[derive(Debug, Clone, PartialEq)]
pub struct Budgets {
    /// Lengths rise; a text goes by the first that it does not exceed, or the last.
    by_length: Vec<Budget>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Budget {
    longest: usize,
    /// Of a batch, padding included.
    n_tokens: usize,
    /// The part of the longest text's length that another has at least: a shorter one is faster alone than padded.
    min_fill: f64,
}

/// What may share a batch with a text, which is the longest in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchLimits {
    /// Texts in all, at least one.
    pub(super) n_texts: usize,
    /// Tokens of each at least.
    pub(super) shortest: usize,
}

/// What was measured of an encoder.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The batches that are fastest.
    pub budgets: Budgets,
    /// Seconds per token at them, the mean over lengths.
    pub seconds_per_token: f64,
}

impl Budgets {
    /// The same number of tokens for every length, padding included.
    #[must_use]
    pub fn fixed(tokens: usize) -> Self {
        Self { by_length: vec![Budget { longest: usize::MAX, n_tokens: tokens, min_fill: MIN_FILL }] }
    }

    /// Times batches of texts of up to `max_tokens` tokens, which are cut out of `sample` over and over. Blocks for a few
    /// seconds at most.
    ///
    /// # Errors
    /// When a single text can't be encoded.
    pub fn measure(
        encoder: &mut dyn Encode,
        sample: &Tokens,
        max_tokens: usize,
    ) -> Result<Measured, EncodeError> {
        Self::choose(max_tokens, |length, n_texts| {
            let text = cut(sample, length);
            time(encoder, &vec![&text; n_texts])
        })
    }

    /// By `time`, which tells how long a batch of (length, texts) takes.
    fn choose<E>(
        max_tokens: usize,
        mut time: impl FnMut(usize, usize) -> Result<Duration, E>,
    ) -> Result<Measured, E> {
        let lengths = std::iter::successors(Some(SHORTEST), |length| Some(length * 2));
        let mut lengths: Vec<usize> = lengths.take_while(|&length| length < max_tokens).collect();
        lengths.push(max_tokens);
        let (mut by_length, mut paces) = (Vec::new(), Vec::new());
        for length in lengths {
            let Fastest { n_texts, seconds, alone } = fastest(|n_texts| time(length, n_texts))?;
            let min_fill = seconds / alone;
            by_length.push(Budget { longest: length, n_tokens: n_texts * length, min_fill });
            paces.push(seconds / length as f64);
        }
        let seconds_per_token = paces.iter().sum::<f64>() / paces.len() as f64;
        Ok(Measured { budgets: Self { by_length }, seconds_per_token })
    }

    /// What may share a batch with a text of `length` tokens.
    pub(super) fn limits(&self, length: usize) -> BatchLimits {
        let fits = self.by_length.iter().find(|budget| length <= budget.longest);
        let alone = BatchLimits { n_texts: 1, shortest: length };
        fits.or_else(|| self.by_length.last()).map_or(alone, |budget| BatchLimits {
            n_texts: (budget.n_tokens / length.max(1)).max(1),
            shortest: (length as f64 * budget.min_fill).ceil() as usize,
        })
    }
}

impl std::fmt::Display for Budgets {
    /// `16 tokens: 16 texts, 32 tokens: 8 texts`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |&Budget { longest, n_tokens, .. }: &Budget| match longest {
            usize::MAX => format!("{n_tokens} tokens"),
            _ => format!("{longest} tokens: {} texts", n_tokens / longest),
        };
        f.write_str(&self.by_length.iter().map(part).collect::<Vec<_>>().join(", "))
    }
}

/// The number of texts that is fastest, its seconds per text, and those of a text alone.
struct Fastest {
    n_texts: usize,
    seconds: f64,
    alone: f64,
}

fn fastest<E>(mut time: impl FnMut(usize) -> Result<Duration, E>) -> Result<Fastest, E> {
    let alone = time(1)?.as_secs_f64();
    let mut best = Fastest { n_texts: 1, seconds: alone, alone };
    let mut n_texts = 2;
    // Throughput can dip at one size and rise after it: two in a row that are not worth it end the search.
    while n_texts <= 4 * best.n_texts {
        // A batch that the device can't hold is no reason not to serve smaller ones.
        let Ok(total) = time(n_texts) else { break };
        let seconds = total.as_secs_f64() / n_texts as f64;
        if best.seconds > WORTH * seconds {
            best = Fastest { n_texts, seconds, alone };
        }
        if total > LONGEST {
            break;
        }
        n_texts *= 2;
    }
    Ok(best)
}

fn time(encoder: &mut dyn Encode, texts: &[&Tokens]) -> Result<Duration, EncodeError> {
    // The first run of a shape allocates.
    encoder.encode(texts)?;
    let mut shortest = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        encoder.encode(texts)?;
        shortest = shortest.min(start.elapsed());
    }
    Ok(shortest)
}

fn cut(sample: &Tokens, length: usize) -> Tokens {
    let cycle = |ids: &[u32]| ids.iter().copied().cycle().take(length).collect();
    Tokens { ids: cycle(&sample.ids), type_ids: cycle(&sample.type_ids), kept: sample.kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that takes a fixed time per batch and some per token, in microseconds.
    fn measured(per_batch: usize, per_token: usize, most_texts: usize) -> Result<Measured, ()> {
        Budgets::choose(64, |length, n_texts| {
            let micros = per_batch + per_token * length * n_texts;
            (n_texts <= most_texts).then(|| Duration::from_micros(micros as u64)).ok_or(())
        })
    }

    #[test]
    fn where_a_batch_costs_beside_its_tokens_the_shortest_texts_share_it_with_most() {
        let budgets = measured(1000, 10, usize::MAX).unwrap().budgets;
        let [short, middle, long] = [16, 32, 64].map(|length| budgets.limits(length).n_texts);
        assert!(short > middle && middle > long && long > 1, "{budgets}");
    }

    #[test]
    fn where_it_costs_nothing_every_text_is_alone() {
        let measured = measured(0, 10, usize::MAX).unwrap();
        assert_eq!([16, 64].map(|length| measured.budgets.limits(length).n_texts), [1, 1]);
        assert!((measured.seconds_per_token - 1e-5).abs() < 1e-12);
    }

    #[test]
    fn a_batch_that_takes_long_is_not_made_longer() {
        let budgets = measured(300_000, 1, usize::MAX).unwrap().budgets;
        assert_eq!(budgets.limits(64).n_texts, 2);
    }

    #[test]
    fn a_batch_that_the_device_cannot_hold_is_not_chosen() {
        assert_eq!(measured(1000, 1, 4).unwrap().budgets.limits(64).n_texts, 4);
        assert!(measured(1000, 1, 0).is_err());
    }

    #[test]
    fn a_text_is_padded_only_where_that_is_faster_than_alone() {
        // Alone 1,160 us for 16 tokens; in the largest batches 160 us and a little.
        let budgets = measured(1000, 10, usize::MAX).unwrap().budgets;
        assert!(budgets.limits(16).shortest <= 4, "{budgets:?}");
        // 64 tokens are 1,640 us alone and 640 us and a little in a batch.
        assert!((26..=40).contains(&budgets.limits(64).shortest), "{budgets:?}");
        assert_eq!(
            measured(0, 10, usize::MAX).unwrap().budgets.limits(64),
            BatchLimits { n_texts: 1, shortest: 64 }
        );
    }

    #[test]
    fn a_fixed_budget_holds_for_every_length() {
        let budgets = Budgets::fixed(100);
        assert_eq!([10, 50, 51, 200].map(|length| budgets.limits(length).n_texts), [10, 2, 1, 1]);
    }

    #[test]
    fn a_length_goes_by_the_next_one_that_was_measured() {
        let budget = |longest, n_tokens| Budget { longest, n_tokens, min_fill: MIN_FILL };
        let budgets = Budgets { by_length: vec![budget(16, 256), budget(32, 128)] };
        assert_eq!([8, 16, 17, 32, 40].map(|length| budgets.limits(length).n_texts), [32, 16, 7, 4, 3]);
    }
}
