//! Tests of the laws of the reader.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::types::Event;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer {
    name: Option<String>,
    inner: Vec<Inner>,
    #[serde(default)]
    named: BTreeMap<String, Inner>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    n: u64,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    pair: Option<(f64, bool)>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    One,
    TheOther,
}

fn fault(json: &str) -> (String, String) {
    let Fault { path, detail, .. } = read::<Outer>(json.as_bytes()).unwrap_err();
    (path, detail)
}

#[test]
fn what_is_wrong_is_named_by_its_path_and_in_words_of_json() {
    let cases = [
        ("[null, []]", "", "found an array, expected an object"),
        ("7", "", "found 7, expected an object"),
        ("{}", "inner", "missing field `inner`"),
        (r#"{"inner": [], "": 1}"#, "", "unknown field ``, expected one of `name`, `inner`, `named`"),
        (r#"{"inner": [], "inner": []}"#, "inner", "found the field `inner` twice, expected it once"),
        (r#"{"inner": [{"n": 1}, [1]]}"#, "inner[1]", "found an array, expected an object"),
        (r#"{"inner": [{"n": 1}, {}]}"#, "inner[1].n", "missing field `n`"),
        (r#"{"inner": [{"m": 1}]}"#, "inner[0].m", "unknown field `m`, expected one of `n`, `kind`, `pair`"),
        (r#"{"inner": {"n": 1}}"#, "inner", "found an object, expected an array"),
        (
            r#"{"inner": [{"n": -1}]}"#,
            "inner[0].n",
            "found -1, expected a whole number from 0 to 18446744073709551615",
        ),
        (
            r#"{"inner": [{"n": 1e3}]}"#,
            "inner[0].n",
            "found 1000.0, expected a whole number from 0 to 18446744073709551615",
        ),
        (
            r#"{"inner": [{"n": 1e999}]}"#,
            "inner[0].n",
            "found a number that is too large, expected one of at most 1.7e308",
        ),
        (
            r#"{"inner": [{"n": 1, "kind": "two"}]}"#,
            "inner[0].kind",
            r#"found "two", expected one of "one", "the_other""#,
        ),
        (
            r#"{"inner": [{"n": 1, "kind": {"one": null}}]}"#,
            "inner[0].kind",
            r#"found an object, expected one of "one", "the_other""#,
        ),
        (r#"{"inner": [{"n": 1, "pair": [1, 2]}]}"#, "inner[0].pair[1]", "found 2, expected true or false"),
        (r#"{"inner": [{"n": 1, "pair": [1]}]}"#, "inner[0].pair", "found 1 entries, expected an array"),
        (
            r#"{"inner": [], "named": {"a b": {"n": "1"}}}"#,
            "named.a b.n",
            "found the text \"1\", expected a whole number from 0 to 18446744073709551615",
        ),
        (r#"{"name": false, "inner": []}"#, "name", "found false, expected a text"),
        (r#"{"inner": null}"#, "inner", "found null, expected an array"),
    ];
    for (json, path, detail) in cases {
        assert_eq!(fault(json), (path.to_owned(), detail.to_owned()), "{json}");
    }
}

#[test]
fn what_is_no_json_is_told_with_line_and_column() {
    for (json, path, words) in [
        ("", "", "EOF"),
        ("{\"inner\": [{\"n\"\n: 1", "inner[0]", "line 2 column 3"),
        ("{\"inner\": []} x", "", "trailing characters"),
        ("{\"inner\": [], \"name\": \"\\q\"}", "name", "invalid escape"),
    ] {
        let fault = read::<Outer>(json.as_bytes()).unwrap_err();
        assert_eq!((fault.kind, fault.path.as_str()), (FaultKind::Syntax, path), "{json}");
        assert!(fault.detail.contains(words), "{}", fault.detail);
    }
}

#[test]
fn what_is_repeated_to_its_sender_is_short() {
    let long = "x".repeat(1 << 20);
    let short = |Fault { path, detail, .. }: Fault| {
        assert!(path.len() < 100 && detail.len() < 250, "{path} {detail}");
    };
    for json in [format!(r#"{{"{long}": 1}}"#), format!(r#"{{"inner": "{long}"}}"#)] {
        short(read::<Outer>(json.as_bytes()).unwrap_err());
    }
    for field in ["kind", "at", "up", "ratings", "event_id", "user", "replaces"] {
        short(read::<Event>(format!(r#"{{"{field}": "{long}"}}"#).as_bytes()).unwrap_err());
    }
}

#[test]
fn arrays_of_more_entries_than_anybody_asks_are_refused() {
    let json = |n: usize| format!("[{}0]", "0,".repeat(n - 1));
    assert_eq!(read::<Vec<u8>>(json(MAX_ENTRIES).as_bytes()).unwrap().len(), MAX_ENTRIES);
    assert_eq!(read::<Vec<u8>>(json(MAX_ENTRIES + 1).as_bytes()).unwrap_err().kind, FaultKind::Size);
}

#[test]
fn half_a_surrogate_pair_becomes_the_replacement_character() {
    for (json, text) in [
        (r#""hi \ud83d there""#, "hi \u{fffd} there"),
        (r#""\uDE00""#, "\u{fffd}"),
        (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
        (r#""\ud83d\ude00 \\ud83d \ud83d\n""#, "\u{1f600} \\ud83d \u{fffd}\n"),
        (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
    ] {
        assert_eq!(read::<String>(json.as_bytes()).unwrap(), text, "{json}");
    }
    let keys: BTreeMap<String, u8> = read(br#"{"a\ud800": 1}"#).unwrap();
    assert_eq!(keys["a\u{fffd}"], 1);
    assert_eq!(read::<String>(br#""\ud83d" x"#).unwrap_err().kind, FaultKind::Syntax);
    assert_eq!(read::<String>(br#""\ud8"#).unwrap_err().kind, FaultKind::Syntax);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    assert_eq!(read::<String>(b"\xef\xbb\xbf\"a\"").unwrap(), "a");
    assert!(read::<String>(b"\xef\xbb\xbf\xef\xbb\xbf\"a\"").is_err());
}

proptest! {
    #[test]
    fn what_is_right_is_read_as_serde_reads_it(
        text in any::<String>(), n in any::<u64>(), x in any::<f64>().prop_filter("JSON", |x| x.is_finite()), is_so: bool,
    ) {
        let json = serde_json::json!({ "inner": [{ "n": n, "pair": [x, is_so] }], "name": text, "named": { &text: { "n": n } } });
        let json = json.to_string();
        let expected: Outer = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(read::<Outer>(json.as_bytes()).unwrap(), expected);
        prop_assert_eq!(read::<Value>(json.as_bytes()).unwrap(), serde_json::from_str::<Value>(&json).unwrap());
    }

    #[test]
    fn any_units_of_utf_16_are_read_as_javascript_would_show_them(units in prop::collection::vec(
        prop_oneof![0xd7ff_u16..=0xe001, any::<u16>()], 0..20,
    )) {
        let escaped: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
        let read = read::<String>(format!("\"{escaped}\"").as_bytes()).unwrap();
        prop_assert_eq!(read, String::from_utf16_lossy(&units));
    }

    #[test]
    fn nothing_panics(json in prop::collection::vec(any::<u8>(), 0..64), text in r#"[\[\]{}",:\\u0-9a-fd nulltrue]{0,40}"#) {
        let _ = read::<Outer>(&json);
        let _ = read::<Outer>(text.as_bytes());
        let _ = read::<Value>(text.as_bytes());
        prop_assert_eq!(surrogates::replaced(&json).len(), json.len());
    }
}
