//! Lays out the figures of a replay as a page.

use super::Args;
use super::measure::{Figures, Measured};
use crate::page::{Axis, Binned, Body, Figure, Page, Point, Series};
use crate::replay::{Curve, Estimate};

pub(super) fn page(args: &Args, measured: &Measured) -> Page {
    let figures = &measured.figures;
    let n = figures.n.last().copied().unwrap_or_default();
    let names: Vec<String> = args
        .inputs
        .data
        .iter()
        .map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    let people =
        figures.curves.first().and_then(|curve| curve.points.first()).map_or(0, |point| point.people);
    let mut shown = vec![
        curves(
            figures,
            ("Accuracy as labels come in", "accuracy"),
            |point| point.accuracy,
            |curve| curve.group.is_none(),
        ),
        curves(
            figures,
            ("Log loss as labels come in", "nats"),
            |point| point.log_loss,
            |curve| curve.group.is_none() && curve.rule != "length only",
        ),
    ];
    if !figures.groups.is_empty() {
        let title = ("The ledger's accuracy by group", "accuracy");
        shown.push(curves(figures, title, |point| point.accuracy, |curve| curve.group.is_some()));
    }
    shown.push(matrix(figures));
    shown.extend(measured.walks.iter().map(|(name, walk)| weights(figures, name, walk)));
    shown.push(objectives(figures));
    shown.push(Figure {
        title: "Sure and right".to_owned(),
        caption:
            "How sure each next choice was predicted, in the order of the data, and how often it came true."
                .to_owned(),
        body: Body::Calibration {
            series: measured
                .calibration
                .iter()
                .map(|(name, bins)| Binned { name: (*name).to_owned(), bins: bins.clone() })
                .collect(),
        },
    });
    shown.push(Figure {
        title: "Heads and length".to_owned(),
        caption: "Correlation of each head's reward with the log length of the response.".to_owned(),
        body: Body::Bars {
            labels: figures.heads.clone(),
            values: figures.length_correlation.clone(),
            range: (-1.0, 1.0),
        },
    });
    shown.push(Figure {
        title: "What each head likes".to_owned(),
        caption: "Real responses of the replayed people, in standard deviations of the head.".to_owned(),
        body: Body::Texts(measured.liked.clone()),
    });
    let left_out = Some(figures.left_out.join(", ")).filter(|names| !names.is_empty());
    let left_out = left_out.map(|names| ("left out, for want of train rows of others".to_owned(), names));
    Page {
        title: format!("Replay of {}", names.join(", ")),
        lead: "Every person's choices are gone through one by one: predict, then learn. Bands are 95 % intervals over people."
            .to_owned(),
        facts: [
            ("split".to_owned(), format!("{:?}", args.split).to_lowercase()),
            ("people with train rows as well".to_owned(), figures.known.to_string()),
            ("bundle".to_owned(), format!("{}, revision {}", args.bundle.display(), figures.revision)),
            ("people".to_owned(), people.to_string()),
            ("choices".to_owned(), n.to_string()),
            ("order".to_owned(), format!("{:?}", args.order).to_lowercase()),
            ("orders drawn".to_owned(), args.seeds.to_string()),
            ("reserve".to_owned(), args.reserve.to_string()),
            ("disjoint".to_owned(), args.disjoint.to_string()),
        ]
        .into_iter()
        .chain(left_out)
        .collect(),
        figures: shown,
    }
}

fn curves(
    figures: &Figures,
    (title, unit): (&str, &str),
    value: impl Fn(&crate::replay::Point) -> Estimate,
    is_shown: impl Fn(&Curve) -> bool,
) -> Figure {
    let series = figures.curves.iter().filter(|curve| is_shown(curve)).map(|curve| Series {
        name: curve.group.map_or_else(|| curve.rule.to_owned(), |group| figures.groups[group].clone()),
        emphasis: curve.group.is_some()
            || matches!(curve.rule, "Bayes ledger" | "single head" | "paper's rule"),
        points: curve
            .points
            .iter()
            .map(|point| {
                let estimate = value(point);
                Point { x: point.n as f64, y: estimate.mean, interval: Some((estimate.low, estimate.high)) }
            })
            .collect(),
    });
    Figure {
        title: title.to_owned(),
        caption: "After n labels, on each person's other choices; the mean over people. Who has no choice left drops out, \
                  so the people to the right are fewer."
            .to_owned(),
        body: Body::Lines {
            x: Axis { label: "labels given".to_owned(), even: true },
            y: Axis { label: unit.to_owned(), even: false },
            series: series.collect(),
        },
    }
}

fn matrix(figures: &Figures) -> Figure {
    let columns = figures.groups.iter().map(String::as_str).chain(std::iter::once("all"));
    let columns: Vec<String> = columns.zip(&figures.n).map(|(name, n)| format!("{name} (n {n})")).collect();
    Figure {
        title: "Every head on every group".to_owned(),
        caption: "Accuracy of each head alone. Heads that tell people apart are good on one column and bad on another.".to_owned(),
        body: Body::Matrix {
            rows: figures.heads.clone(),
            columns,
            cells: figures.accuracy.clone(),
            center: 0.5,
        },
    }
}

fn weights(figures: &Figures, name: &str, walk: &[Vec<f64>]) -> Figure {
    let last = walk.last().cloned().unwrap_or_default();
    let series = figures.heads.iter().enumerate().map(|(k, head)| Series {
        name: head.clone(),
        emphasis: last[k] > 0.2,
        points: walk
            .iter()
            .enumerate()
            .map(|(n, weights)| Point { x: n as f64, y: weights[k], interval: None })
            .collect(),
    });
    Figure {
        title: format!("The weights of {name}"),
        caption: "Mixture weights under the population's shares, label by label.".to_owned(),
        body: Body::Lines {
            x: Axis { label: "labels given".to_owned(), even: false },
            y: Axis { label: "weight".to_owned(), even: false },
            series: series.collect(),
        },
    }
}

fn objectives(figures: &Figures) -> Figure {
    let n_columns = figures.objectives.first().map_or(0, |row| row.by_group.len());
    let has_groups = n_columns == figures.groups.len();
    let groups = if has_groups { figures.groups.clone() } else { vec!["all".to_owned()] };
    let head = ["objective".to_owned()];
    let tail = ["mean".to_owned(), "worst group".to_owned()];
    let row = |row: &crate::replay::ObjectiveRow| {
        let numbers = row.by_group.iter().copied().chain([Some(row.mean), Some(row.worst)]);
        let number = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.3}"));
        std::iter::once(row.objective.clone()).chain(numbers.map(number)).collect()
    };
    Figure {
        title: "One policy for everybody".to_owned(),
        caption:
            "How often each objective of /score prefers what people chose, nobody's own ledger being known. The population is that of the train split."
                .to_owned(),
        body: Body::Table {
            columns: head.into_iter().chain(groups).chain(tail).collect(),
            rows: figures.objectives.iter().map(row).collect(),
        },
    }
}
