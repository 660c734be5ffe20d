//! Formats the results of a fit as lines of text.

use super::bundle::names;
use crate::fit::{Calibration, Dataset, Learned, Report, Ruler, RulerSlice, Slice};

/// Returns the report as the lines of a table.
pub(super) fn lines(dataset: &Dataset, learned: &Learned, report: &Report) -> Vec<String> {
    let tried =
        learned.candidates.iter().enumerate().filter(|(_, tried)| !tried.is_empty()).map(|(file, tried)| {
            let each = tried.iter().map(|c| {
                format!("{} {:.4} ({:.4}) at {}", c.n_heads, c.log_loss, c.standard_error, c.learning_rate)
            });
            format!(
                "{}: held-out log loss by K (se of the difference) at its best learning rate: {}",
                dataset.files[file],
                each.collect::<Vec<_>>().join(", ")
            )
        });
    let rates = learned.learning_rates.iter();
    let rates = rates.map(|t| format!("{} {:.4} ({:.4})", t.rate, t.log_loss, t.standard_error));
    let rates = rates.collect::<Vec<_>>().join(", ");
    let rates =
        format!("learning rate {}: held-out log loss (se of the difference): {rates}", learned.learning_rate);
    let names = names(dataset, learned);
    let head = |(k, calibration): (usize, &Calibration)| {
        let name = &names[k];
        let correlation = report.length_correlation[k];
        let Calibration { beta, prior, .. } = calibration;
        format!(
            "head {k}, {name}: share {prior:.3}, inverse temperature {beta:.3}, correlation with length {correlation:.3}"
        )
    };
    let columns = format!(
        "{:28} {:>5}  length  single  style  lexical  routed  best head (of train)  se   routed over length, style, words",
        "test pairs", "n"
    );
    let row = |s: &Slice| {
        let best =
            s.best_head.map_or_else(String::new, |(head, accuracy)| format!("{accuracy:.3} (head {head})"));
        let se = s.standard_error(s.best_head.map_or(s.routed, |(_, accuracy)| accuracy));
        let rulers: Vec<String> = s.rulers.iter().map(|ruler| format!("{:.3}", ruler.accuracy)).collect();
        let over = |ruler: &RulerSlice| format!("{:+.3} ({:.3})", ruler.routed_over, ruler.standard_error);
        let over: Vec<String> =
            s.rulers.iter().filter(|ruler| ruler.name != Ruler::Single.label()).map(over).collect();
        format!(
            "{:28} {:>5}   {}    {:.3}   {best:20} {se:.3}  {}",
            s.name,
            s.n,
            rulers.join("   "),
            s.routed,
            over.join(", ")
        )
    };
    tried
        .chain((!learned.learning_rates.is_empty()).then_some(rates))
        .chain(learned.calibration.iter().enumerate().map(head))
        // Without a test row, there is nothing to head.
        .chain((!report.slices.is_empty()).then_some(columns))
        .chain(report.slices.iter().map(row))
        .collect()
}
