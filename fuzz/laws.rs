//! Laws that hold for any bytes. `fuzz/targets` look for bytes that break them; `tests/fuzz_corpora.rs` checks the
//! corpora.
//!
//! No input causes a panic; an error is a bounded sentence that, where it can be told, names the field; a value that
//! is read is written and read again as the same.

use std::io::Write;

use micro_reward::model::Manifest;
use micro_reward::state::{Change, LedgerId, fuzzing as state};
use micro_reward::transport::grpc::pb;
use micro_reward::transport::http::fuzzing as http;
use micro_reward::types::{
    CompareRequest, ElicitRequest, Error, ErrorKind, Event, LedgersView, MergeRequest, ScoreRequest,
    UserImport,
};
use prost::Message;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The byte order mark with which some programs begin UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A law over any bytes.
pub type Law = fn(&[u8]);

/// The targets by name; a target's corpus has the same name.
pub const TARGETS: [(&str, Law); 7] = [
    ("json", json),
    ("ndjson", ndjson),
    ("query", query),
    ("manifest", manifest),
    ("row", row),
    ("journal", journal),
    ("grpc", grpc),
];

/// Checks an error about bytes of this length. Escapes make a byte into up to ten.
fn check_error(error: &Error, n_bytes: usize) {
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(!error.detail().is_empty(), "{error:?}");
    let told = error.detail().len() + error.field().map_or(0, str::len);
    assert!(told <= 1024 + 10 * n_bytes, "{told} bytes are said of {n_bytes}");
    assert!(error.field() != Some(""), "a field without a name: {error:?}");
}

/// Checks that an error names the caller's own fields alone: "?" is one only if it was sent, or may have been, by an
/// escape.
fn check_field(error: &Error, bytes: &[u8]) {
    let may_be_sent = bytes.iter().any(|byte| b"?\\%".contains(byte));
    assert!(may_be_sent || error.field() != Some("?"), "no field is to blame: {error:?}");
}

/// Reads a body of every verb: an event of /feedback, requests of the others, a user's evidence, and a merge.
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
    body::<MergeRequest>(bytes);
}

fn body<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let read = http::body::<T>(bytes);
    let with_line_end = http::body::<T>(&[bytes, b"\n"].concat());
    assert_eq!(read.is_ok(), with_line_end.is_ok(), "a line end makes a difference");
    let text = bytes.strip_prefix(BYTE_ORDER_MARK);
    if text.is_none() {
        let marked = http::body::<T>(&[BYTE_ORDER_MARK, bytes].concat());
        let told = |read: &Result<T, Error>| read.as_ref().err().map(Error::to_string);
        assert_eq!(told(&read), told(&marked), "a byte order mark makes a difference");
    }
    let is_array = text.unwrap_or(bytes).trim_ascii_start().starts_with(b"[");
    assert!(!(is_array && read.is_ok()), "an array was read as an object");
    let check = |error| {
        check_error(&error, bytes.len());
        check_field(&error, bytes);
    };
    read.map_err(check).ok()
}

/// Reads a body as lines: the first byte is the maximum length of a line, the second decides how the body is cut.
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
    if !body.starts_with(BYTE_ORDER_MARK) && !body.is_empty() {
        let marked = [BYTE_ORDER_MARK, body].concat();
        let marked = told(http::lines(marked.chunks(cut), max_bytes));
        assert_eq!(whole, marked, "a byte order mark makes a difference");
    }
    let n_ends = body.iter().filter(|&&byte| byte == b'\n').count();
    assert!(whole.len() <= n_ends + 1, "{} lines with {n_ends} line ends", whole.len());
    for line in whole.iter().flatten() {
        assert!(line.len() <= max_bytes && !line.contains('\n'), "{line:?}");
    }
}

/// Reads a query string.
pub fn query(bytes: &[u8]) {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Known {
        user: Option<String>,
        context: Option<String>,
        since: Option<String>,
    }
    let text = String::from_utf8_lossy(bytes);
    match http::query::<Known>(&text) {
        Ok(found) => {
            let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let all = [("user", &found.user), ("context", &found.context), ("since", &found.since)];
            let given = all.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
            let written: Vec<String> =
                given.map(|(name, value)| format!("{name}={}", escaped(value))).collect();
            let again: Known = http::query(&written.join("&")).expect("what was read can be written");
            assert_eq!(again, found);
        }
        Err(error) => {
            check_error(&error, text.len());
            check_field(&error, text.as_bytes());
            assert_eq!(error.code(), "invalid_field");
        }
    }
}

/// Reads a bundle's manifest.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(manifest) = toml::from_str::<Manifest>(text) else { return };
    for (key, detail) in manifest.problems() {
        assert!(!key.is_empty() && !detail.is_empty(), "`{key}`: {detail}");
    }
    let written = toml::to_string(&manifest).expect("what was read can be written");
    let again: Manifest = toml::from_str(&written).expect("what was written can be read");
    // Manifests are compared by their text, as NaN equals nothing.
    assert_eq!(toml::to_string(&again).expect("again"), written);
}

/// Reads a user's row: the first byte is the number of heads.
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

/// Reads a file of the journal: as it is; and written frames, of which an end was cut off, or some bytes are blank.
///
/// The first two bytes are the place, the third is how many are blank: 0 cuts the file there, 255 blanks it to its
/// end. The rest are the payloads, as lines.
pub fn journal(bytes: &[u8]) {
    journal_as_it_is(bytes);
    let [low, high, n_blank, lines @ ..] = bytes else { return };
    let payloads: Vec<&[u8]> = lines.split(|&byte| byte == b'\n').collect();
    let (mut file, ends) = state::segment(LedgerId { n_heads: 4, key: 7 }, &payloads);
    let (head, _) = state::segment(LedgerId { n_heads: 4, key: 7 }, &[]);
    let from = usize::from(u16::from_le_bytes([*low, *high])) % (file.len() + 1);
    let until = match n_blank {
        0 | 255 => file.len(),
        n => file.len().min(from + usize::from(*n)),
    };
    // The first changed byte; none if the blanked bytes were blank already.
    let changed = match n_blank {
        0 => (from < until).then_some(from),
        _ => (from..until).find(|&at| file[at] != 0),
    };
    match n_blank {
        0 => file.truncate(from),
        _ => file[from..until].fill(0),
    }
    let n_whole = changed.map_or(payloads.len(), |at| ends.iter().filter(|&&end| end <= at).count());
    let end_of_whole = n_whole.checked_sub(1).map_or(head.len(), |last| ends[last]);
    let (read, end) = read_file(&file);
    assert_eq!(read, payloads[..n_whole], "a frame is read as it was written or not at all");
    match changed {
        None => assert_eq!(end, Ok(true), "it is as it was written"),
        Some(at) if at < head.len() => assert!(end.is_err(), "its header is not whole: {end:?}"),
        Some(_) if *n_blank == 0 => assert_eq!(end, Ok(end_of_whole == from), "its end was cut off"),
        Some(_) if file[end_of_whole..].iter().all(|&byte| byte == 0) => {
            assert_eq!(end, Ok(false), "it is blank from a frame's end on");
        }
        Some(_) => assert!(end.is_err(), "frames stand behind what is blank, or were changed: {end:?}"),
    }
}

/// Checks that in a file that is read to its end a byte less or more is noticed, and changes no frame before it.
fn journal_as_it_is(bytes: &[u8]) {
    let (payloads, end) = read_file(bytes);
    let n_bytes: usize = payloads.iter().map(Vec::len).sum();
    assert!(n_bytes <= bytes.len());
    for payload in &payloads {
        let _ = postcard::from_bytes::<Change>(payload);
    }
    match end {
        Err(error) => assert!(!error.is_empty()),
        Ok(true) => {
            assert_eq!(read_file(&[bytes, &[0]].concat()), (payloads.clone(), Ok(false)));
            if let Some((_, all_but_last)) = payloads.split_last() {
                assert_eq!(read_file(&bytes[..bytes.len() - 1]), (all_but_last.to_vec(), Ok(false)));
            }
        }
        Ok(false) => assert!(payloads.len() <= bytes.len()),
    }
}

/// Returns the frames of a file with these bytes, and whether it is whole, or the words in which it is refused.
fn read_file(bytes: &[u8]) -> (Vec<Vec<u8>>, Result<bool, String>) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("room for it");
    let (payloads, end) = state::read_segment(file.path());
    (payloads, end.map_err(|error| error.to_string()))
}

/// Reads a message: the first byte selects which one.
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
    // Messages are compared by their length, as NaN equals nothing and a map has any order.
    assert_eq!(again.encoded_len(), written.len());
    if let Err(error) = T::try_from(native(found)) {
        check_error(&error, bytes.len());
        check_field(&error, bytes);
        assert!(error.field().is_some(), "no field is to blame: {error:?}");
    }
}
