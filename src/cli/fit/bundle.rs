//! From what was learned to a bundle on disk.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::Args;
use crate::cli::Failure;
use crate::fit::{Calibration, OnnxGraph, Parameters, Report};
use crate::model::{EncoderSection, FileHash, Head, InputSection, MANIFEST, Manifest, fingerprint, sha256};

const HEADS: &str = "heads.onnx";
const ROUTER: &str = "router.onnx";

/// What a fit ends in.
pub(super) struct Fitted<'a> {
    pub(super) heads: &'a Parameters,
    pub(super) calibration: &'a [Calibration],
    pub(super) report: &'a Report,
    pub(super) rows: Rows,
}

/// How many train rows were used for what.
pub(super) struct Rows {
    pub(super) learned: usize,
    pub(super) held_out: usize,
}

/// Writes heads, router and manifest beside the encoder's files; the manifest last. Returns the revision.
pub(super) fn write(
    args: &Args,
    encoder: EncoderSection,
    input: InputSection,
    fitted: &Fitted<'_>,
) -> Result<String, Failure> {
    let out = &args.out;
    fs::create_dir_all(out).map_err(|error| at(out, &error))?;
    for file in encoder.files() {
        bring(&args.encoder.join(&file.file), &out.join(&file.file))?;
    }
    let Parameters { heads, hidden, hidden_bias, output, output_bias } = fitted.heads;
    let router = OnnxGraph::router([hidden, hidden_bias], [output, output_bias]);
    let file = |name: &str, bytes: Vec<u8>| {
        let path = out.join(name);
        fs::write(&path, bytes).map_err(|error| at(&path, &error))?;
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
        licence: args.licence.clone(),
        encoder,
        input,
        heads_graph: file(HEADS, OnnxGraph::heads(heads).into_bytes())?,
        router_graph: file(ROUTER, router.into_bytes())?,
        questions: None,
        heads: fitted.calibration.iter().enumerate().map(head).collect(),
        report: training(args, fitted),
    };
    manifest.revision = fingerprint(&manifest);
    let text = toml::to_string(&manifest).map_err(Failure::failed)?;
    let path = out.join(MANIFEST);
    fs::write(&path, text).map_err(|error| at(&path, &error))?;
    Ok(manifest.revision)
}

/// The report as lines of a table for people.
pub(super) fn table(report: &Report) -> Vec<String> {
    let head =
        "test pairs                      n  length  single  routed  best head (of train)  se".to_owned();
    let row = |s: &crate::fit::Slice| {
        let best =
            s.best_head.map_or_else(String::new, |(head, accuracy)| format!("{accuracy:.3} (head {head})"));
        let se = s.standard_error(s.best_head.map_or(s.routed, |(_, accuracy)| accuracy));
        format!(
            "{:28} {:>4}    {:.3}   {:.3}   {:.3}   {best:20} {se:.3}",
            s.name, s.n, s.length, s.single, s.routed
        )
    };
    std::iter::once(head).chain(report.slices.iter().map(row)).collect()
}

fn head((idx, calibration): (usize, &Calibration)) -> Head {
    let Calibration { mean, std, beta, prior } = *calibration;
    Head { name: format!("head-{idx}"), mean, std, beta, prior }
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
    let names =
        args.data.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let rows = [
        ("data", Value::Array(names.map(Value::String).collect())),
        ("pairs_learned", Value::Integer(fitted.rows.learned as i64)),
        ("pairs_held_out", Value::Integer(fitted.rows.held_out as i64)),
        ("seed", Value::Integer(args.seed as i64)),
        ("epochs", Value::Integer(args.epochs.into())),
        ("batch", Value::Integer(args.batch.into())),
        ("rate", Value::Float(args.rate)),
        ("entropy", Value::Float(args.entropy)),
        ("sparse", Value::Float(args.sparse)),
        ("balance", Value::Float(args.balance)),
        ("l2", Value::Float(args.l2)),
        ("test", Value::Array(slices.collect())),
    ];
    rows.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

/// Copies a file of the encoder, unless the bundle is written where the encoder is.
fn bring(from: &Path, to: &Path) -> Result<(), Failure> {
    let is_same = fs::canonicalize(from).ok().is_some_and(|from| fs::canonicalize(to).ok() == Some(from));
    if !is_same {
        fs::copy(from, to).map_err(|error| at(to, &error))?;
    }
    Ok(())
}

fn at(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}
