//! Writes the result of a fit as a bundle on disk.

use toml::{Table, Value};

use super::Args;
use crate::cli::Failure;
use crate::cli::staged::Staged;
use crate::fit::{
    Calibration, Dataset, HeadCount, Layout, Learned, Report, RulerSlice, heads_graph, router_graph,
};
use crate::model::{EncoderSection, FileHash, Head, InputSection, MANIFEST, Manifest, Question, fingerprint};
use crate::surface::Lexical;

const HEADS: &str = "heads.onnx";
const ROUTER: &str = "router.onnx";
const QUESTIONS: &str = "questions.jsonl";
const LEXICAL: &str = "lexical.safetensors";

/// The result of a fit.
pub(super) struct Fitted<'a> {
    pub(super) learned: &'a Learned,
    pub(super) layout: &'a Layout,
    pub(super) report: &'a Report,
    /// The questions of the bundle; empty without a questionnaire.
    pub(super) questions: &'a [Question],
    /// Number of train pairs learned from.
    pub(super) n_pairs: usize,
    /// The lines on the data that were shown before.
    pub(super) notes: &'a [String],
    /// The table of the lexical columns, if heads read them.
    pub(super) lexical: Option<&'a Lexical>,
}

/// Writes heads, router and manifest beside the encoder's files. Returns the revision.
pub(super) fn write(
    args: &Args,
    staged: &Staged,
    dataset: &Dataset,
    encoder: EncoderSection,
    input: InputSection,
    fitted: &Fitted<'_>,
) -> Result<String, Failure> {
    for file in encoder.files() {
        if [HEADS, ROUTER, QUESTIONS, LEXICAL, MANIFEST].contains(&file.file.as_str()) {
            return Err(Failure::refused(format!(
                "--encoder: found the file name {} in its manifest, expected one that a bundle does not use itself",
                file.file
            )));
        }
        staged.bring(&args.encoder.join(&file.file), &file.file)?;
    }
    let Learned { heads, router, calibration, .. } = fitted.learned;
    let file = |name: &str, bytes: Vec<u8>| staged.write(name, bytes);
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| args.out.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let lexical =
        fitted.lexical.map(|table| file(LEXICAL, table.to_bytes().map_err(Failure::failed)?)).transpose()?;
    let mut manifest = Manifest {
        name,
        revision: String::new(),
        license: args.license.clone(),
        learning_rate: fitted.learned.learning_rate,
        encoder,
        input: InputSection { lexical, ..input },
        heads_graph: file(HEADS, heads_graph(fitted.layout, heads).into_bytes())?,
        router_graph: file(ROUTER, router_graph(router).into_bytes())?,
        questions: questions(fitted.questions, &file)?,
        heads: names(dataset, fitted.learned).into_iter().zip(calibration).map(head).collect(),
        report: training(args, fitted),
    };
    manifest.revision = fingerprint(&manifest);
    let text = toml::to_string(&manifest).map_err(Failure::failed)?;
    staged.write(MANIFEST, text)?;
    Ok(manifest.revision)
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
            ("routed", number(slice.routed)),
        ];
        let best = slice.best_head.into_iter().flat_map(|(head, accuracy)| {
            let se = number(slice.standard_error(accuracy));
            [("head", Value::Integer(head as i64)), ("best_head", number(accuracy)), ("standard_error", se)]
        });
        let over =
            |ruler: &RulerSlice| Value::Array(vec![number(ruler.routed_over), number(ruler.standard_error)]);
        let rulers = slice.rulers.iter().flat_map(|ruler| {
            let name = ruler.name.split(' ').next().unwrap_or_default();
            [(name.to_owned(), number(ruler.accuracy)), (format!("routed_over_{name}"), over(ruler))]
        });
        let rest = row.into_iter().chain(best).map(|(key, value)| (key.to_owned(), value));
        Value::Table(rest.chain(rulers).collect())
    });
    let names = args
        .inputs
        .data
        .iter()
        .map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let rows = [
        ("data", Value::Array(names.map(Value::String).collect())),
        ("pairs", Value::Integer(fitted.n_pairs as i64)),
        ("notes", Value::Array(fitted.notes.iter().cloned().map(Value::String).collect())),
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
