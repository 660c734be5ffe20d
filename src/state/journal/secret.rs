//! The secret of a data directory, by which its users are keyed.
//!
//! The secret is 64 hex digits and 8 of their checksum, in a file that only the server's user may read. It is written
//! before it is used, and never again: without it no user's row is found.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::rewrite::PART;
use super::{OpenError, segment};
use crate::state::UserKeys;

/// Reads the secret from a file, if there is one.
pub(in crate::state) fn read(path: &Path) -> Result<Option<UserKeys>, OpenError> {
    let text = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io(path, error)),
    };
    let keys = parse(&text).ok_or_else(|| {
        let what = "found something else than 64 hex digits and their checksum";
        OpenError::Secret { path: path.to_owned(), what }
    })?;
    Ok(Some(keys))
}

/// Writes a secret where there is none.
pub(in crate::state) fn write(path: &Path, keys: &UserKeys) -> Result<(), OpenError> {
    let Some(secret) = keys.secret() else { return Ok(()) };
    let (part, io) = (path.with_extension(PART), |source| OpenError::io(path, source));
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&part).map_err(io)?;
    let written = file.write_all(line(secret).as_bytes()).and_then(|()| file.sync_all());
    written.and_then(|()| std::fs::rename(&part, path)).map_err(io)?;
    path.parent().map_or(Ok(()), segment::sync_dir).map_err(io)
}

/// Makes a random secret, and writes it where there is none.
pub(in crate::state) fn make(path: &Path) -> Result<UserKeys, OpenError> {
    let keys = UserKeys::random().map_err(|source| OpenError::io(path, source))?;
    write(path, &keys)?;
    Ok(keys)
}

fn line(secret: &[u8; 32]) -> String {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex} {:08x}\n", crc32fast::hash(secret))
}

fn parse(text: &[u8]) -> Option<UserKeys> {
    let mut secret = [0; 32];
    for (byte, digits) in secret.iter_mut().zip(text.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    (line(&secret).as_bytes() == text).then(|| UserKeys::of_secret(secret))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_written_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert_eq!(read(&path).unwrap(), None);
        let keys = make(&path).unwrap();
        assert_eq!(read(&path).unwrap(), Some(keys.clone()));
        assert_ne!(keys, make(&dir.path().join("another")).unwrap());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let refused = read(&path).unwrap_err().to_string();
            assert!(refused.contains("secret") && refused.contains("64 hex digits"), "{refused}");
            std::fs::write(&path, &bytes[..at]).unwrap();
            assert!(read(&path).is_err());
        }
    }
}
