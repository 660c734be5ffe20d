//! Writes the result of a fit as a bundle on disk.

use std::fs;

use toml::{Table, Value};

use super::Args;
use crate::cli::Failure;
use crate::cli::files::{at, bring, write as write_file};
use crate::fit::{
    Calibration, Dataset, HeadCount, Layout, Learned, Report, Slice, heads_graph, router_graph,
};
use crate::model::{
    EncoderSection, FileHash, Head, InputSection, MANIFEST, Manifest, Question, fingerprint, sha256,
};

const HEADS: &str = "heads.onnx";
const ROUTER: &str = "router.onnx";
const QUESTIONS: &str = "questions.jsonl";

/// The result of a fit.
pub(super) struct Fitted<'a> {
    pub(super) learned: &'a Learned,
    pub(super) layout: &'a Layout,
    pub(super) report: &'a Report,
    /// The questions of the bundle; empty without a questionnaire.
    pub(super) questions: &'a [Question],
    /// Number of train pairs learned from.
    pub(super) n_pairs: usize,
}

/// Writes heads, router and manifest beside the encoder's files; the manifest last. Returns the revision.
pub(super) fn write(
    args: &Args,
    dataset: &Dataset,
    encoder: EncoderSection,
    input: InputSection,
    fitted: &Fitted<'_>,
) -> Result<String, Failure> {
    let out = &args.out;
    fs::create_dir_all(out).map_err(|error| at(out, &error))?;
    for file in encoder.files() {
        if [HEADS, ROUTER, QUESTIONS, MANIFEST].contains(&file.file.as_str()) {
            return Err(Failure::refused(format!(
                "--encoder: found the file name {} in its manifest, expected one that a bundle does not use itself",
                file.file
            )));
        }
        bring(&args.encoder.join(&file.file), &out.join(&file.file))?;
    }
    let Learned { heads, router, calibration, .. } = fitted.learned;
    let file = |name: &str, bytes: Vec<u8>| {
        let path = out.join(name);
        write_file(&path, bytes)?;
        let sha256 = sha256(&path).map_err(|error| at(&path, &error))?;
        Ok::<_, Failure>(FileHash { file: name.to_owned(), sha256 })
    };
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| out.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let mut manifest = Manifest {
        name,
        revision: String::new(),
        license: args.license.clone(),
        encoder,
        input,
        heads_graph: file(HEADS, heads_graph(fitted.layout, heads).into_bytes())?,
        router_graph: file(ROUTER, router_graph(router).into_bytes())?,
        questions: questions(fitted.questions, &file)?,
        heads: names(dataset, fitted.learned).into_iter().zip(calibration).map(head).collect(),
        report: training(args, fitted),
    };
    manifest.revision = fingerprint(&manifest);
    let text = toml::to_string(&manifest).map_err(Failure::failed)?;
    let path = out.join(MANIFEST);
    write_file(&path, text)?;
    Ok(manifest.revision)
}

/// Returns the report as the lines of a table.
pub(super) fn table(dataset: &Dataset, learned: &Learned, report: &Report) -> Vec<String> {
    let tried =
        learned.candidates.iter().enumerate().filter(|(_, tried)| !tried.is_empty()).map(|(file, tried)| {
            let each =
                tried.iter().map(|c| format!("{} {:.4} ({:.4})", c.n_heads, c.log_loss, c.standard_error));
            format!(
                "{}: held-out log loss by K (se of the difference): {}",
                dataset.files[file],
                each.collect::<Vec<_>>().join(", ")
            )
        });
    let names = names(dataset, learned);
    let head = |(k, calibration): (usize, &Calibration)| {
        let name = &names[k];
        let correlation = report.length_correlation[k];
        let Calibration { beta, prior, .. } = calibration;
        format!(
            "head {k}, {name}: share {prior:.3}, inverse temperature {beta:.3}, correlation with length {correlation:.3}"
        )
    };
    let columns =
        "test pairs                      n  length  single  routed  best head (of train)  se".to_owned();
    let row = |s: &Slice| {
        let best =
            s.best_head.map_or_else(String::new, |(head, accuracy)| format!("{accuracy:.3} (head {head})"));
        let se = s.standard_error(s.best_head.map_or(s.routed, |(_, accuracy)| accuracy));
        format!(
            "{:28} {:>4}    {:.3}   {:.3}   {:.3}   {best:20} {se:.3}",
            s.name, s.n, s.length, s.single, s.routed
        )
    };
    tried
        .chain(learned.calibration.iter().enumerate().map(head))
        .chain(std::iter::once(columns))
        .chain(report.slices.iter().map(row))
        .collect()
}

/// Writes the questionnaire as a file of the bundle, if there is one.
fn questions(
    questions: &[Question],
    file: &impl Fn(&str, Vec<u8>) -> Result<FileHash, Failure>,
) -> Result<Option<FileHash>, Failure> {
    if questions.is_empty() {
        return Ok(None);
    }
    let mut lines = String::new();
    for question in questions {
        lines += &serde_json::to_string(question).map_err(Failure::failed)?;
        lines.push('\n');
    }
    Ok(Some(file(QUESTIONS, lines.into_bytes())?))
}

/// Returns a name for every head: the file it is from and its number there.
pub(super) fn names(dataset: &Dataset, learned: &Learned) -> Vec<String> {
    let name = |(k, origin): (usize, &Option<usize>)| match origin {
        Some(file) => {
            let before = learned.origins[..k].iter().filter(|other| *other == origin).count();
            format!("{}-{before}", dataset.files[*file])
        }
        None => format!("head-{k}"),
    };
    learned.origins.iter().enumerate().map(name).collect()
}

fn head((name, calibration): (String, &Calibration)) -> Head {
    let Calibration { mean, std, beta, prior } = *calibration;
    Head { name, mean, std, beta, prior }
}

fn training(args: &Args, fitted: &Fitted<'_>) -> Table {
    let number = |x: f64| Value::Float((x * 1e4).round() / 1e4);
    let slices = fitted.report.slices.iter().map(|slice| {
        let row = [
            ("slice", Value::String(slice.name.clone())),
            ("n", Value::Integer(slice.n as i64)),
            ("length", number(slice.length)),
            ("single", number(slice.single)),
            ("routed", number(slice.routed)),
        ];
        let best = slice.best_head.into_iter().flat_map(|(head, accuracy)| {
            let se = number(slice.standard_error(accuracy));
            [("head", Value::Integer(head as i64)), ("best_head", number(accuracy)), ("standard_error", se)]
        });
        Value::Table(row.into_iter().chain(best).map(|(key, value)| (key.to_owned(), value)).collect())
    });
    let names = args
        .inputs
        .data
        .iter()
        .map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let rows = [
        ("data", Value::Array(names.map(Value::String).collect())),
        ("pairs", Value::Integer(fitted.n_pairs as i64)),
        ("mixture", Value::String(format!("{:?}", args.mixture).to_lowercase())),
        (
            "k",
            Value::String(match &args.k {
                HeadCount::Auto => "auto".to_owned(),
                HeadCount::Given(counts) => list(&counts.0),
            }),
        ),
        ("ridge", Value::String(list(&args.ridge.0))),
        ("deviation_ridge", Value::String(list(&args.deviation_ridge.0))),
        ("scalar_scale", Value::Float(args.scalar_scale)),
        ("router_personalization", Value::Float(args.router_personalization)),
        ("features", Value::String(format!("{:?}", args.features).to_lowercase())),
        ("restarts", Value::Integer(args.restarts.into())),
        ("merged", Value::Integer(fitted.learned.n_merged as i64)),
        ("length_free", Value::Boolean(args.debias.is_some())),
        ("seed", Value::Integer(args.seed as i64)),
        (
            "length_correlation",
            Value::Array(fitted.report.length_correlation.iter().map(|&r| number(r)).collect()),
        ),
        ("test", Value::Array(slices.collect())),
    ];
    rows.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

fn list(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
