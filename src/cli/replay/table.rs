//! Formats the figures of a replay as lines of text.

use super::measure::Measured;
use crate::replay::{Estimate, Rule, ValuePoint, ValueRow};

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
    let columns: Vec<String> = longest.points.iter().map(|point| format!("{:>12}", point.n)).collect();
    lines.push(format!("{:24}{}", "n", columns.concat()));
    let people: Vec<String> = longest.points.iter().map(|point| format!("{:>12}", point.people)).collect();
    lines.push(format!("{:24}{}", "people", people.concat()));
    for curve in &figures.curves {
        let name = curve.group.map_or_else(
            || curve.rule.to_owned(),
            |group| format!("{}: {}", curve.rule, figures.groups[group]),
        );
        let cell = |point: &crate::replay::Point| {
            format!(" {:.3} ({:.3})", point.accuracy.mean, point.accuracy.standard_error)
        };
        lines.push(format!("{name:23} {}", curve.points.iter().map(cell).collect::<String>()));
    }
    lines.push("accuracy minus that of the Bayes ledger on the same choices (standard error)".to_owned());
    for curve in figures.curves.iter().filter(|curve| curve.group.is_none()) {
        let cell = |point: &crate::replay::Point| {
            let over = point.over_ledger;
            over.map_or_else(String::new, |over| format!(" {:+.4} ({:.4})", over.mean, over.standard_error))
        };
        lines.push(format!("{:23} {}", curve.rule, curve.points.iter().map(cell).collect::<String>()));
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
    let cells = |points: &[ValuePoint], of: fn(&ValuePoint) -> Estimate| -> String {
        let cell = |point: &ValuePoint| format!(" {:+.2} ({:.2})", of(point).mean, of(point).standard_error);
        points.iter().map(|point| format!("{:>13}", cell(point))).collect()
    };
    let mut lines = vec![
        "rating of the response ranked first of those without a label, minus the person's mean (standard error)"
            .to_owned(),
    ];
    lines.push(format!(
        "{:24}{}",
        "n",
        first.points.iter().map(|p| format!("{:>13}", p.n)).collect::<String>()
    ));
    lines.push(format!(
        "{:24}{}",
        "people",
        first.points.iter().map(|p| format!("{:>13}", p.people)).collect::<String>()
    ));
    for ValueRow { rule, points } in rows {
        lines.push(format!("{rule:23} {}", cells(points, |point| point.value)));
    }
    for ValueRow { rule, points } in rows.iter().filter(|row| row.rule == LEDGER) {
        lines.push(format!("{rule} over single {}", cells(points, |point| point.over_single)));
        lines.push(format!("{rule} over others {}", cells(points, |point| point.over_pooled)));
    }
    lines
}
