//! Formats the figures of a replay as lines of text.

use super::measure::Measured;
use crate::replay::{Estimate, Point, Rule, ValueRow};

/// The rule whose values are compared with those of others.
const LEDGER: &str = Rule::Bayes.label();

pub(super) fn lines(measured: &Measured) -> Vec<String> {
    let figures = &measured.figures;
    let choices = match figures.disjoint {
        0.0 => "each person's other choices",
        _ => "each person's choices between responses without a label",
    };
    let mut lines = vec![format!("accuracy after n labels on {choices}, mean over people (standard error)")];
    let Some(longest) = figures.curves.first() else { return lines };
    lines.push(row("n", &longest.points, |point| point.n.to_string()));
    lines.push(row("people", &longest.points, |point| point.people.to_string()));
    for curve in &figures.curves {
        let name = curve.group.map_or_else(
            || curve.rule.to_owned(),
            |group| format!("{}: {}", curve.rule, figures.groups[group]),
        );
        let cell =
            |point: &Point| format!("{:.3} ({:.3})", point.accuracy.mean, point.accuracy.standard_error);
        lines.push(row(&name, &curve.points, cell));
    }
    lines.push("accuracy minus that of the Bayes ledger on the same choices (standard error)".to_owned());
    for curve in figures.curves.iter().filter(|curve| curve.group.is_none()) {
        let cell = |point: &Point| {
            let over = point.over_ledger;
            over.map_or_else(String::new, |over| format!("{:+.4} ({:.4})", over.mean, over.standard_error))
        };
        lines.push(row(curve.rule, &curve.points, cell));
    }
    if !figures.left_out.is_empty() {
        let left_out = figures.left_out.join(", ");
        lines
            .push(format!("left out, for want of train rows of others than the people replayed: {left_out}"));
    }
    lines.extend(values(&figures.values));
    lines.push("one policy for everybody: accuracy by objective, mean of groups and worst group".to_owned());
    for row in &figures.objectives {
        lines.push(format!("{:32} mean {:.3}  worst {:.3}", row.objective, row.mean, row.worst));
    }
    lines
}

/// Returns the lines of the values of picks; none without ratings.
fn values(rows: &[ValueRow]) -> Vec<String> {
    let Some(first) = rows.first() else { return Vec::new() };
    let cell = |of: Estimate| format!("{:+.2} ({:.2})", of.mean, of.standard_error);
    let mut lines = vec![
        "rating of the response ranked first of those without a label, minus the person's mean (standard error)"
            .to_owned(),
        row("n", &first.points, |point| point.n.to_string()),
        row("people", &first.points, |point| point.people.to_string()),
    ];
    for ValueRow { rule, points } in rows {
        lines.push(row(rule, points, |point| cell(point.value)));
    }
    for ValueRow { rule, points } in rows.iter().filter(|row| row.rule == LEDGER) {
        lines.push(row(&format!("{rule} over single"), points, |point| cell(point.over_single)));
        lines.push(row(&format!("{rule} over others"), points, |point| cell(point.over_pooled)));
    }
    lines
}

/// Returns a name and a cell for every point, aligned.
fn row<T>(name: &str, points: &[T], cell: impl Fn(&T) -> String) -> String {
    let cells: String = points.iter().map(|point| format!("{:>17}", cell(point))).collect();
    format!("{name:26}{cells}")
}
