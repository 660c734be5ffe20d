//! Lays out the results of a fit as a page.

use super::Args;
use crate::fit::{Dataset, HeadCountTrial, Learned, Report, RulerSlice};
use crate::mixture::sigmoid;
use crate::page::{Axis, Binned, Body, Figure, Page, Point, Series, TextGroup};

/// Bins of a head's confidence, from one half to 1.
const BINS: usize = 10;

pub(super) fn page(
    args: &Args,
    dataset: &Dataset,
    (learned, report): (&Learned, &Report),
    heads: &[String],
    liked: Vec<TextGroup>,
    revision: &str,
) -> Page {
    let mut figures = vec![slices(report), matrix(report, heads)];
    figures.extend(candidates(dataset, learned));
    figures.push(calibration(learned, heads));
    figures.push(Figure {
        title: "Heads and length".to_owned(),
        caption:
            "Correlation of each head's reward with the log length of the response, over the train responses."
                .to_owned(),
        body: Body::Bars {
            labels: heads.to_vec(),
            values: report.length_correlation.clone(),
            range: (-1.0, 1.0),
        },
    });
    figures.push(Figure {
        title: "What each head likes".to_owned(),
        caption: "Real responses of the data, in standard deviations of the head.".to_owned(),
        body: Body::Texts(liked),
    });
    let n_train: usize = dataset.pairs.iter().filter(|row| row.split == crate::fit::Split::Train).count();
    Page {
        title: format!("Fit of {}", args.out.display()),
        lead: "Heads and router learned from the train split, measured on the test split.".to_owned(),
        facts: vec![
            ("revision".to_owned(), revision.to_owned()),
            ("data".to_owned(), dataset.files[..args.inputs.data.len()].join(", ")),
            ("train pairs".to_owned(), n_train.to_string()),
            ("heads".to_owned(), heads.len().to_string()),
            ("merged".to_owned(), learned.n_merged.to_string()),
            ("seed".to_owned(), args.seed.to_string()),
        ],
        figures,
    }
}

fn slices(report: &Report) -> Figure {
    let rulers = report.slices.first().map(|slice| slice.rulers.as_slice()).unwrap_or_default();
    let over = |ruler: &RulerSlice| format!("routed over {}", ruler.name);
    let columns =
        ["test pairs", "n", "routed", "best head of train", "standard error"].map(ToOwned::to_owned);
    let columns = columns.into_iter().chain(rulers.iter().map(|ruler| ruler.name.to_owned()));
    let columns = columns.chain(rulers.iter().map(over));
    let row = |slice: &crate::fit::Slice| {
        let best =
            slice.best_head.map_or_else(String::new, |(k, accuracy)| format!("{accuracy:.3} (head {k})"));
        let se = slice.standard_error(slice.best_head.map_or(slice.routed, |(_, accuracy)| accuracy));
        let [routed, se] = [slice.routed, se].map(|x| format!("{x:.3}"));
        let over = |ruler: &RulerSlice| format!("{:+.3} ({:.3})", ruler.routed_over, ruler.standard_error);
        [slice.name.clone(), slice.n.to_string(), routed, best, se]
            .into_iter()
            .chain(slice.rulers.iter().map(|ruler| format!("{:.3}", ruler.accuracy)))
            .chain(slice.rulers.iter().map(over))
            .collect()
    };
    Figure {
        title: "Accuracy on test pairs".to_owned(),
        caption: "Length: the longer response. Single: one head of the file. Style: marks and kinds of words, without an encoder. Lexical: \
                  words by TF-IDF. Routed: the mixture for a stranger, by prompt \
                  alone. Standard errors take pairs as independent, which votes of one person are not."
            .to_owned(),
        body: Body::Table {
            columns: columns.collect(),
            rows: report.slices.iter().map(row).collect(),
        },
    }
}

fn matrix(report: &Report, heads: &[String]) -> Figure {
    let cell = |k: usize| report.slices.iter().map(|slice| slice.heads.get(k).copied()).collect();
    Figure {
        title: "Every head on every group".to_owned(),
        caption: "Accuracy of each head alone on test pairs. Heads that tell people apart are good on one column and bad on \
                  another."
            .to_owned(),
        body: Body::Matrix {
            rows: heads.to_vec(),
            columns: report.slices.iter().map(|slice| format!("{} (n {})", slice.name, slice.n)).collect(),
            cells: (0..heads.len()).map(cell).collect(),
            center: 0.5,
        },
    }
}

fn candidates(dataset: &Dataset, learned: &Learned) -> Option<Figure> {
    let tried: Vec<(usize, &Vec<HeadCountTrial>)> =
        learned.candidates.iter().enumerate().filter(|(_, tried)| tried.len() > 1).collect();
    let series = tried.iter().map(|(file, tried)| Series {
        name: dataset.files[*file].clone(),
        emphasis: true,
        points: tried
            .iter()
            .map(|c| Point {
                x: c.n_heads as f64,
                y: c.log_loss,
                interval: Some((c.log_loss - c.standard_error, c.log_loss + c.standard_error)),
            })
            .collect(),
    });
    (!tried.is_empty()).then(|| Figure {
        title: "How many heads".to_owned(),
        caption: "Log loss per choice of held-out people, by K. Bands are one standard error of the difference to the best; the \
                  fewest heads within it are taken."
            .to_owned(),
        body: Body::Lines {
            x: Axis { label: "heads".to_owned(), even: true },
            y: Axis { label: "log loss".to_owned(), even: false },
            series: series.collect(),
        },
    })
}

/// Draws each head's confidence on held-out pairs against its accuracy; pairs count by the head's share in them.
fn calibration(learned: &Learned, heads: &[String]) -> Figure {
    let bins = |k: usize| {
        let mut sums = vec![(0.0, 0.0, 0.0); BINS];
        for held_out in &learned.held_out[k] {
            let chance = sigmoid(learned.calibration[k].beta * held_out.margin);
            let confidence = chance.max(1.0 - chance);
            let bin = &mut sums[(((confidence - 0.5) * 2.0 * BINS as f64) as usize).min(BINS - 1)];
            let right = if chance > 0.5 { held_out.weight } else { 0.0 };
            *bin = (bin.0 + held_out.weight * confidence, bin.1 + right, bin.2 + held_out.weight);
        }
        let of = |(confidence, right, n): (f64, f64, f64)| (confidence / n, right / n, n.round() as usize);
        sums.into_iter().filter(|bin| bin.2 >= 0.5).map(of).collect()
    };
    let series = heads.iter().enumerate().map(|(k, name)| Binned { name: name.clone(), bins: bins(k) });
    Figure {
        title: "Sure and right".to_owned(),
        caption: "How sure each head is of pairs that it was not learned from, and how often it is right; every pair counts by \
                  the head's share in its person."
            .to_owned(),
        body: Body::Calibration { series: series.collect() },
    }
}
