//! The rows of a table of parquet, in builds that have the feature.

use std::path::Path;

use super::super::data_error::{At, DataError};
use super::rows::Columns;

/// Hands every row of a table to `each`.
#[cfg(feature = "parquet")]
pub(super) fn for_each(
    path: &Path,
    each: &mut dyn FnMut(At, Result<Columns, String>),
) -> Result<(), DataError> {
    use ::parquet::errors::ParquetError;
    use ::parquet::file::reader::SerializedFileReader;
    use serde_json::Value;

    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let broken = |error: ParquetError| unreadable(std::io::Error::other(error));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let table = SerializedFileReader::new(file).map_err(broken)?;
    for (idx, row) in table.into_iter().enumerate() {
        let at = At { line: None, row: Some(idx + 1) };
        match row.map_err(broken)?.to_json_value() {
            Value::Object(row) => each(at, Ok(row)),
            _ => each(at, Err("found no columns".to_owned())),
        }
    }
    Ok(())
}

/// Refuses a table: this build has no reader for it.
#[cfg(not(feature = "parquet"))]
pub(super) fn for_each(path: &Path, _: &mut dyn FnMut(At, Result<Columns, String>)) -> Result<(), DataError> {
    let detail = "found parquet, which this build does not read; expected JSON lines, or a build by \
                  `cargo build --release --features parquet`";
    Err(DataError::Kind { path: path.to_owned(), detail: detail.to_owned() })
}
