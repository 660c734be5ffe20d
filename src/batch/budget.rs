//! Batch budgets: the number of texts of a length that gives the highest throughput on this device.
//!
//! On a CPU a batch pays for short texts only, on a GPU for all of them, and the length at which that changes
//! differs per model. So it is measured, unless the configuration fixes it.

use std::time::Duration;

use tokio::time::Instant;

use crate::types::{Encode, EncodeError, Tokens};

/// The shortest length that is measured; shorter texts use its budget.
const SHORTEST: usize = 16;

/// The least gain in throughput that makes a batch of twice the texts worth the longer wait; less is noise.
const WORTH: f64 = 1.08;

/// The time of a batch above which twice its size is not tried: every text in it would wait for all.
const LONGEST: Duration = Duration::from_millis(250);

/// Repetitions of a run, of which the fastest counts: a disturbance makes a run slower, never faster.
const RUNS: usize = 3;

/// The least share of a batch's row that tokens fill where nothing was measured. On CPUs random batches run at half
/// the speed of single texts, for their padding.
const MIN_FILL: f64 = 0.75;

/// The texts that may share a batch, by the length of its longest text.
#[derive(Debug, Clone, PartialEq)]
pub struct Budgets {
    /// Budgets by ascending length; a text uses the first that it does not exceed, or the last.
    by_length: Vec<Budget>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Budget {
    longest: usize,
    /// Tokens of a batch, padding included.
    n_tokens: usize,
    /// The least share of the longest text's length that another text has: a shorter one is faster alone than
    /// padded.
    min_fill: f64,
}

/// The limits of a batch, by its longest text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchLimits {
    /// Upper bound of the texts, at least one.
    pub(super) n_texts: usize,
    /// Lower bound of the tokens of each text.
    pub(super) shortest: usize,
}

/// The measurements of an encoder.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The budgets of the fastest batches.
    pub budgets: Budgets,
    /// Seconds per token of these batches, the mean over lengths.
    pub seconds_per_token: f64,
}

impl Budgets {
    /// Returns a budget of the same number of tokens for every length, padding included.
    #[must_use]
    pub fn fixed(tokens: usize) -> Self {
        Self { by_length: vec![Budget { longest: usize::MAX, n_tokens: tokens, min_fill: MIN_FILL }] }
    }

    /// Times batches of texts of up to `max_tokens` tokens, which are cut out of `sample` over and over. Blocks for
    /// a few seconds at most.
    ///
    /// # Errors
    /// Fails when a single text can't be encoded.
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

    /// Chooses budgets by `time`, which returns the time of a batch of (length, texts).
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

    /// Returns the limits of a batch whose longest text has `length` tokens.
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
    /// Formats as in `16 tokens: 16 texts, 32 tokens: 8 texts`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |&Budget { longest, n_tokens, .. }: &Budget| match longest {
            usize::MAX => format!("{n_tokens} tokens"),
            _ => format!("{longest} tokens: {} texts", n_tokens / longest),
        };
        f.write_str(&self.by_length.iter().map(part).collect::<Vec<_>>().join(", "))
    }
}

/// The fastest number of texts, its seconds per text, and those of a text alone.
struct Fastest {
    n_texts: usize,
    seconds: f64,
    alone: f64,
}

fn fastest<E>(mut time: impl FnMut(usize) -> Result<Duration, E>) -> Result<Fastest, E> {
    let alone = time(1)?.as_secs_f64();
    let mut best = Fastest { n_texts: 1, seconds: alone, alone };
    let mut n_texts = 2;
    // Throughput can dip at one size and rise after it: two sizes in a row without the gain end the search.
    while n_texts <= 4 * best.n_texts {
        // A batch that the device can't hold does not rule out smaller ones.
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
    // The first run of a shape allocates, so it is not timed.
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
    Tokens { ids: cycle(&sample.ids), type_ids: cycle(&sample.type_ids), kept: sample.kept.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measures a device that takes `per_batch` microseconds per batch and `per_token` per token.
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
        // 16 tokens take 1,160 us alone; in the largest batches 160 us and a little.
        let budgets = measured(1000, 10, usize::MAX).unwrap().budgets;
        assert!(budgets.limits(16).shortest <= 4, "{budgets:?}");
        // 64 tokens take 1,640 us alone, and 640 us and a little in a batch.
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
