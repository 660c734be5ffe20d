//! Lays out the results of a tuned router as a page.

use super::Args;
use super::measure::{Figures, Measured, ResultRow};
use crate::page::{Axis, Body, Figure, Page, Point, Series};
use crate::replay::Estimate;

pub(super) fn page(args: &Args, measured: &Measured, revision: &str) -> Page {
    let figures = &measured.figures;
    Page {
        title: format!("Router of {}", args.bundle.display()),
        lead: "The router learns criteria in words from few labeled pairs; heads stay as they are. Accuracies are those of \
               test pairs, averaged over criteria. Bands are 95 % intervals over people."
            .to_owned(),
        facts: vec![
            ("revision".to_owned(), revision.to_owned()),
            ("criteria".to_owned(), figures.criteria.len().to_string()),
            ("test pairs".to_owned(), figures.n.iter().sum::<f64>().to_string()),
            ("people".to_owned(), figures.people.to_string()),
            ("draws of labels".to_owned(), args.seeds.to_string()),
        ],
        figures: match figures.rows.is_empty() {
            true => vec![targets(measured)],
            false => vec![curves(figures), differences(figures), by_criterion(figures), targets(measured)],
        },
    }
}

fn curves(figures: &Figures) -> Figure {
    let budgets: Vec<f64> = figures.rows.iter().filter_map(|row| row.budget).map(f64::from).collect();
    let ends = [
        budgets.iter().copied().fold(f64::INFINITY, f64::min),
        budgets.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    ];
    let mut series: Vec<Series> = Vec::new();
    for row in &figures.rows {
        let estimate = row.mean;
        let point = |x: f64| Point { x, y: estimate.mean, interval: Some((estimate.low, estimate.high)) };
        match (row.budget, series.iter_mut().find(|series| series.name == row.name)) {
            (Some(budget), Some(series)) => series.points.push(point(budget.into())),
            (Some(budget), None) => series.push(Series {
                name: row.name.clone(),
                emphasis: true,
                points: vec![point(budget.into())],
            }),
            (None, _) => series.push(Series {
                name: row.name.clone(),
                emphasis: false,
                points: ends.map(|x| Point { interval: None, ..point(x) }).into(),
            }),
        }
    }
    Figure {
        title: "Accuracy by labels".to_owned(),
        caption: "Labeled pairs per criterion. Level lines need no labels, but the head of the criterion's labels, which has \
                  all of them."
            .to_owned(),
        body: Body::Lines {
            x: Axis { label: "labels per criterion".to_owned(), even: true },
            y: Axis { label: "accuracy".to_owned(), even: false },
            series,
        },
    }
}

fn by_criterion(figures: &Figures) -> Figure {
    let criteria = figures.criteria.iter().zip(&figures.n).map(|(name, n)| format!("{name} (n {n})"));
    let cells = figures
        .rows
        .iter()
        .map(|row| row.accuracy.iter().chain(std::iter::once(&row.mean.mean)).map(|&x| Some(x)).collect());
    Figure {
        title: "By criterion".to_owned(),
        caption: "Accuracy on test pairs, averaged over draws of labels.".to_owned(),
        body: Body::Matrix {
            rows: figures.rows.iter().map(name).collect(),
            columns: criteria.chain(std::iter::once("mean".to_owned())).collect(),
            cells: cells.collect(),
            center: 0.5,
        },
    }
}

fn differences(figures: &Figures) -> Figure {
    let columns = ["", "mean", "minus the head of the criterion's labels", "minus the paper's rule"];
    let signed = |over: Estimate| format!("{:+.4} ({:.4})", over.mean, over.standard_error);
    let row = |row: &ResultRow| {
        let mean = format!("{:.4} ({:.4})", row.mean.mean, row.mean.standard_error);
        vec![name(row), mean, signed(row.over_labels), row.over_paper.map_or_else(String::new, signed)]
    };
    Figure {
        title: "Differences".to_owned(),
        caption: "On the same pairs, with standard errors over people.".to_owned(),
        body: Body::Table {
            columns: columns.map(ToOwned::to_owned).into(),
            rows: figures.rows.iter().map(row).collect(),
        },
    }
}

fn name(row: &ResultRow) -> String {
    row.budget.map_or_else(|| row.name.clone(), |budget| format!("{}, {budget} labels", row.name))
}

fn targets(measured: &Measured) -> Figure {
    let n_heads = measured.targets.first().map_or(0, Vec::len);
    let cell = |k: usize| measured.targets.iter().map(|weights| Some(weights[k])).collect();
    Figure {
        title: "What the labels of a criterion say".to_owned(),
        caption: "The posterior over heads of the largest budget's labels, by criterion, at tau = 1."
            .to_owned(),
        body: Body::Matrix {
            rows: (0..n_heads).map(|k| format!("head {k}")).collect(),
            columns: measured.figures.criteria.clone(),
            cells: (0..n_heads).map(cell).collect(),
            center: 1.0 / n_heads.max(1) as f64,
        },
    }
}
