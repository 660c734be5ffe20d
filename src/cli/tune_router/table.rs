//! Formats the results of a tuned router as lines of text.

use super::measure::Figures;

pub(super) fn lines(figures: &Figures) -> Vec<String> {
    if figures.rows.is_empty() {
        return vec!["nothing is measured, for want of test rows".to_owned()];
    }
    let n: f64 = figures.n.iter().sum();
    let mut lines = vec![format!(
        "accuracy on {n} test pairs of {} people, mean of {} criteria (standard error over people)",
        figures.people,
        figures.criteria.len()
    )];
    lines.push(format!(
        "{:32} labels   accuracy         minus the head of labels  minus the paper's rule",
        ""
    ));
    for row in &figures.rows {
        let budget = row.budget.map_or_else(String::new, |budget| budget.to_string());
        let (mean, over) = (row.mean, row.over_labels);
        let paper = row
            .over_paper
            .map_or_else(String::new, |over| format!("   {:+.4} ({:.4})", over.mean, over.standard_error));
        lines.push(format!(
            "{:32} {budget:>6}   {:.4} ({:.4})  {:+.4} ({:.4}){paper}",
            row.name, mean.mean, mean.standard_error, over.mean, over.standard_error
        ));
    }
    lines
}
