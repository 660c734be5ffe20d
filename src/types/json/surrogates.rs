//! Halves of surrogate pairs that stand alone, as in `"\ud83d"`: JavaScript and Python write such texts, UTF-8 has
//! none.

/// Returns the text with U+FFFD, the replacement character, in the place of each half that stands alone. The length
/// stays the same, so that positions in it still hold.
pub(super) fn replaced(json: &[u8]) -> Vec<u8> {
    let mut json = json.to_vec();
    let mut at = 0;
    while let Some(offset) = json[at..].iter().position(|&byte| byte == b'\\') {
        at += offset;
        at += match (unit(&json[at..]), json.get(at + 6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                json[at + 2..at + 6].copy_from_slice(b"FFFD");
                6
            }
            // Another escape has at least one character after the backslash.
            _ => 2,
        };
        at = at.min(json.len());
    }
    json
}

/// Returns the UTF-16 unit of the escape that `json` begins with.
fn unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}
