//! What holds for any bytes. `fuzz/targets` look for bytes for which it does not; `tests/fuzz_corpora.rs` goes through the corpora.
//!
//! Nothing panics; what is refused says so in a bounded sentence and, where it can be told, names the field; what is read is
//! written and read again as the same.

use std::io::Write;

use micro_reward::grpc::pb;
use micro_reward::http::fuzzing as http;
use micro_reward::model::Manifest;
use micro_reward::state::{Change, Heads, fuzzing as state};
use micro_reward::types::{
    CompareRequest, ElicitRequest, Error, ErrorKind, Event, LedgersView, ScoreRequest, UserImport,
};
use prost::Message;
use serde::de::DeserializeOwned;

/// A law over any bytes.
pub type Law = fn(&[u8]);

/// Every target by its name, which is its corpus' as well.
pub const TARGETS: [(&str, Law); 7] = [
    ("json", json),
    ("ndjson", ndjson),
    ("query", query),
    ("manifest", manifest),
    ("row", row),
    ("journal", journal),
    ("grpc", grpc),
];

/// What a caller is told of bytes of this length. Escapes make a byte into up to ten.
fn check_error(error: &Error, n_bytes: usize) {
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(!error.detail().is_empty(), "{error:?}");
    let told = error.detail().len() + error.field().map_or(0, str::len);
    assert!(told <= 1024 + 10 * n_bytes, "{told} bytes are said of {n_bytes}");
    assert!(error.field() != Some(""), "a field without a name: {error:?}");
}

/// A body of every verb: an event of /feedback, what the others take, and a user's evidence.
pub fn json(bytes: &[u8]) {
    if let Some(event) = body::<Event>(bytes) {
        let _ = event.check().map_err(|error| check_error(&error, bytes.len()));
    }
    if let Some(request) = body::<ScoreRequest>(bytes) {
        let _ = request.objective().map_err(|error| check_error(&error, bytes.len()));
        for mut item in request.items {
            let _ = item.prompt_text("items[0]").map_err(|error| check_error(&error, bytes.len()));
        }
    }
    body::<CompareRequest>(bytes);
    body::<ElicitRequest>(bytes);
    body::<UserImport>(bytes);
}

fn body<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let read = http::body::<T>(bytes);
    let with_line_end = http::body::<T>(&[bytes, b"\n"].concat());
    assert_eq!(read.is_ok(), with_line_end.is_ok(), "a line end makes a difference");
    let is_array = bytes.trim_ascii_start().starts_with(b"[");
    assert!(!(is_array && read.is_ok()), "an array was read as an object");
    read.map_err(|error| check_error(&error, bytes.len())).ok()
}

/// A body as lines: the first byte is how long one may be, the second how the body is cut.
pub fn ndjson(bytes: &[u8]) {
    let [max_bytes, cut, body @ ..] = bytes else { return };
    let (max_bytes, cut) = (usize::from(*max_bytes), usize::from(*cut) + 1);
    let told = |lines: std::io::Result<Vec<Result<String, Error>>>| -> Vec<Result<String, &'static str>> {
        let lines = lines.expect("lines come out of memory");
        lines.into_iter().map(|line| line.map_err(|error| error.code())).collect()
    };
    let whole = told(http::lines(std::iter::once(body), max_bytes));
    let in_pieces = told(http::lines(body.chunks(cut), max_bytes));
    assert_eq!(whole, in_pieces, "lines depend on how the body is cut");
    let n_ends = body.iter().filter(|&&byte| byte == b'\n').count();
    assert!(whole.len() <= n_ends + 1, "{} lines with {n_ends} line ends", whole.len());
    for line in whole.iter().flatten() {
        assert!(line.len() <= max_bytes && !line.contains('\n'), "{line:?}");
    }
}

/// A query string.
pub fn query(bytes: &[u8]) {
    const KNOWN: [&str; 3] = ["user", "context", "since"];
    let text = String::from_utf8_lossy(bytes);
    match http::query(&text, &KNOWN) {
        Ok(found) => {
            let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let written: Vec<String> =
                found.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
            let again = http::query(&written.join("&"), &KNOWN).expect("what was read can be written");
            assert_eq!(again, found);
        }
        Err(error) => {
            check_error(&error, text.len());
            assert_eq!(error.code(), "invalid_field");
        }
    }
}

/// A bundle's manifest.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(manifest) = toml::from_str::<Manifest>(text) else { return };
    for (key, detail) in manifest.problems() {
        assert!(!key.is_empty() && !detail.is_empty(), "`{key}`: {detail}");
    }
    let written = toml::to_string(&manifest).expect("what was read can be written");
    let again: Manifest = toml::from_str(&written).expect("what was written can be read");
    // By its text: a number that is none equals nothing.
    assert_eq!(toml::to_string(&again).expect("again"), written);
}

/// A user's row: the first byte is the number of heads.
pub fn row(bytes: &[u8]) {
    let Some((n_heads, rest)) = bytes.split_first() else { return };
    let n_heads = usize::from(*n_heads);
    let row = match state::decode(rest, n_heads) {
        Ok(row) => row,
        Err(error) => return assert!(error.to_string().len() < 200, "{error}"),
    };
    let written = state::encode(&row);
    assert_eq!(state::decode(&written, n_heads), Ok(row));
    assert!(written.len() <= rest.len(), "a row grows from {} to {} bytes", rest.len(), written.len());
}

/// A file of the journal: as it is; and frames that were written, with its end cut off or blank from some byte on.
pub fn journal(bytes: &[u8]) {
    let (payloads, end) = read_file(bytes);
    let n_bytes: usize = payloads.iter().map(Vec::len).sum();
    assert!(n_bytes <= bytes.len());
    for payload in &payloads {
        let _ = postcard::from_bytes::<Change>(payload);
    }
    if let Err(error) = end {
        assert!(!error.is_empty());
    }

    let [cut @ .., _, _] = bytes.first_chunk::<4>().copied().unwrap_or_default();
    let payloads: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let (mut file, ends) = state::segment(Heads { n_heads: 4, key: 7 }, &payloads);
    let (read, end) = read_file(&file);
    assert_eq!((read.iter().map(Vec::as_slice).collect::<Vec<_>>(), end), (payloads.clone(), Ok(true)));
    let kept = usize::from(u16::from_le_bytes(cut)) % (file.len() + 1);
    let is_blanked = bytes.get(2).is_some_and(|byte| byte % 2 == 1);
    let is_changed = match is_blanked {
        true => {
            let is_changed = file[kept..].iter().any(|&byte| byte != 0);
            file[kept..].fill(0);
            is_changed
        }
        false => {
            file.truncate(kept);
            true
        }
    };
    let n_whole = match is_changed {
        true => ends.iter().filter(|&&end| end <= kept).count(),
        false => payloads.len(),
    };
    let (read, _) = read_file(&file);
    assert!(read.len() >= n_whole, "{} frames are read of {n_whole} that are whole", read.len());
    for (read, written) in read.iter().zip(&payloads) {
        assert_eq!(read.as_slice(), *written, "a frame is read as it was written or not at all");
    }
}

/// The frames of a file with these bytes, and whether it is whole, or the words in which it is refused.
fn read_file(bytes: &[u8]) -> (Vec<Vec<u8>>, Result<bool, String>) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("room for it");
    let (payloads, end) = state::read_segment(file.path());
    (payloads, end.map_err(|error| error.to_string()))
}

/// A message: the first byte is which one.
pub fn grpc(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    match which % 6 {
        0 => message::<pb::ScoreRequest, _, ScoreRequest>(rest, |request| request),
        1 => message::<pb::RankRequest, _, ScoreRequest>(rest, pb::ScoreRequest::from),
        2 => message::<pb::CompareRequest, _, CompareRequest>(rest, |request| request),
        3 => message::<pb::ElicitRequest, _, ElicitRequest>(rest, |request| request),
        4 => message::<pb::Event, _, Event>(rest, |event| event),
        _ => message::<pb::Ledgers, _, LedgersView>(rest, |ledgers| ledgers),
    }
}

/// Reads a message, and makes it the request that JSON would have made.
fn message<M, N, T>(bytes: &[u8], native: impl FnOnce(M) -> N)
where
    M: Message + Default,
    T: TryFrom<N, Error = Error>,
{
    let Ok(found) = M::decode(bytes) else { return };
    let written = found.encode_to_vec();
    let again = M::decode(written.as_slice()).expect("what was written can be read");
    // By their bytes: a number that is none equals nothing, and a map has any order.
    assert_eq!(again.encoded_len(), written.len());
    if let Err(error) = T::try_from(native(found)) {
        check_error(&error, bytes.len());
        assert!(error.field().is_some(), "no field is to blame: {error:?}");
    }
}
