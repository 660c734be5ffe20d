//! Lexical columns: which tokens and pairs of neighbors a text has, by TF-IDF, projected to a few columns.

use safetensors::tensor::{Dtype, TensorView, serialize};
use safetensors::{SafeTensorError, SafeTensors};

/// Number of buckets that 1- and 2-grams are hashed into.
pub const LEXICAL_BUCKETS: usize = 1 << 18;

/// The entry of a bucket that is no term.
const NO_TERM: u16 = u16::MAX;

/// Upper bound of the terms, as their numbers have 16 bits.
const MAX_TERMS: usize = NO_TERM as usize;

/// Upper bound of the columns: a text has to cost microseconds.
const MAX_COLUMNS: usize = 1024;

/// Terms with their inverse document frequencies, and a projection of them to P columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Lexical {
    /// The bucket of every term, ascending, shape `[V]`.
    terms: Vec<u32>,
    /// Shape `[V]`, > 0.
    idf: Vec<f32>,
    /// Factor of every row of `projection`, shape `[V]`.
    scales: Vec<f32>,
    /// `[V, P]`, row by row.
    projection: Vec<i8>,
    n_columns: usize,
    /// The term of every bucket.
    term_of: Vec<u16>,
}

/// The reason why a file holds no lexical columns.
#[derive(Debug, thiserror::Error)]
pub enum LexicalError {
    /// It is not in the format.
    #[error("is not safetensors: {0}")]
    Format(#[from] SafeTensorError),
    /// A tensor has another type or shape.
    #[error("`{tensor}`: found {found}, expected {expected}")]
    Tensor {
        /// The tensor.
        tensor: &'static str,
        /// Its type and shape, or its values.
        found: String,
        /// The expected ones.
        expected: &'static str,
    },
}

impl Lexical {
    /// Puts a table together: `terms` are buckets, ascending; `projection` is `[V, P]`, and is rounded to 8 bits.
    #[must_use]
    pub fn new(terms: Vec<u32>, idf: Vec<f32>, projection: &[f32], n_columns: usize) -> Self {
        let largest = |row: &[f32]| row.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let scales: Vec<f32> =
            projection.chunks(n_columns.max(1)).map(|row| largest(row).max(1e-12) / 127.0).collect();
        let rounded = projection.chunks(n_columns.max(1)).zip(&scales);
        let projection =
            rounded.flat_map(|(row, scale)| row.iter().map(move |x| (x / scale).round() as i8)).collect();
        let term_of = by_bucket(&terms);
        Self { terms, idf, scales, projection, n_columns, term_of }
    }

    /// Reads a table that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are not safetensors, or a tensor is missing or not as it is written.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LexicalError> {
        let tensors = SafeTensors::deserialize(bytes)?;
        let find = |tensor, dtype: Dtype, n_dims: usize, expected| {
            let view = tensors.tensor(tensor)?;
            let found = format!("{:?} {:?}", view.dtype(), view.shape());
            let is_right = view.dtype() == dtype && view.shape().len() == n_dims;
            if is_right { Ok(view) } else { Err(LexicalError::Tensor { tensor, found, expected }) }
        };
        let numbers = |view: &TensorView<'_>| {
            view.data().chunks_exact(4).map(|four| [four[0], four[1], four[2], four[3]]).collect::<Vec<_>>()
        };
        let terms: Vec<u32> =
            numbers(&find("terms", Dtype::U32, 1, "U32 [V]")?).into_iter().map(u32::from_le_bytes).collect();
        let floats = |tensor| -> Result<Vec<f32>, LexicalError> {
            Ok(numbers(&find(tensor, Dtype::F32, 1, "F32 [V]")?)
                .into_iter()
                .map(f32::from_le_bytes)
                .collect())
        };
        let (idf, scales) = (floats("idf")?, floats("scales")?);
        let view = find("projection", Dtype::I8, 2, "I8 [V, P]")?;
        let n_columns = view.shape()[1];
        let shapes = [idf.len(), scales.len(), view.shape()[0]];
        let wrong = |tensor, found, expected| Err(LexicalError::Tensor { tensor, found, expected });
        if shapes != [terms.len(); 3] || terms.len() > MAX_TERMS || !(1..=MAX_COLUMNS).contains(&n_columns) {
            let found = format!("{} terms, {shapes:?} rows and {n_columns} columns", terms.len());
            return wrong(
                "projection",
                found,
                "a row for each of at most 65535 terms, and 1 to 1024 columns",
            );
        }
        let is_ascending = terms.is_sorted_by(|a, b| a < b);
        if !is_ascending || terms.last().is_some_and(|&last| last as usize >= LEXICAL_BUCKETS) {
            return wrong("terms", "other numbers".to_owned(), "ascending numbers below 262144");
        }
        if !idf.iter().chain(&scales).all(|x| x.is_finite() && *x > 0.0) {
            return wrong(
                "idf",
                "a number that is not above 0".to_owned(),
                "finite numbers above 0, as in `scales`",
            );
        }
        let projection = view.data().iter().map(|&byte| byte as i8).collect();
        let term_of = by_bucket(&terms);
        Ok(Self { terms, idf, scales, projection, n_columns, term_of })
    }

    /// Returns the table as a file.
    ///
    /// # Errors
    /// When the table is too large for the format.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LexicalError> {
        let v = self.terms.len();
        let terms: Vec<u8> = self.terms.iter().flat_map(|x| x.to_le_bytes()).collect();
        let floats = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let (idf, scales) = (floats(&self.idf), floats(&self.scales));
        let projection: Vec<u8> = self.projection.iter().map(|&x| x as u8).collect();
        let tensors = [
            ("terms", TensorView::new(Dtype::U32, vec![v], &terms)?),
            ("idf", TensorView::new(Dtype::F32, vec![v], &idf)?),
            ("scales", TensorView::new(Dtype::F32, vec![v], &scales)?),
            ("projection", TensorView::new(Dtype::I8, vec![v, self.n_columns], &projection)?),
        ];
        Ok(serialize(tensors, None)?)
    }

    /// Returns the number of columns: P.
    #[must_use]
    pub fn n_columns(&self) -> usize {
        self.n_columns
    }

    /// Returns the columns of a text from its [`buckets`], shape `[P]`: its terms count once each, weighted by their
    /// inverse document frequency and scaled to length 1, so that neither length nor repetition is rewarded.
    #[must_use]
    pub fn columns(&self, buckets: &[u32]) -> Vec<f32> {
        let mut sums = vec![0.0_f32; self.n_columns];
        let mut squares = 0.0_f32;
        for &bucket in buckets {
            let term = self.term_of[bucket as usize % LEXICAL_BUCKETS];
            if term == NO_TERM {
                continue;
            }
            let term = usize::from(term);
            let weight = self.idf[term] * self.scales[term];
            squares += self.idf[term] * self.idf[term];
            let row = &self.projection[term * self.n_columns..][..self.n_columns];
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += weight * f32::from(x);
            }
        }
        let length = squares.sqrt().max(1.0);
        sums.iter_mut().for_each(|sum| *sum /= length);
        sums
    }
}

/// Returns the buckets of the 1- and 2-grams of a text's tokens, ascending, each once.
#[must_use]
pub fn buckets(ids: &[u32]) -> Vec<u32> {
    let single = ids.iter().map(|&id| bucket(0, id));
    let pairs = ids.windows(2).map(|two| bucket(two[0].wrapping_add(1), two[1]));
    let mut buckets: Vec<u32> = single.chain(pairs).collect();
    buckets.sort_unstable();
    buckets.dedup();
    buckets
}

/// Hashes two numbers by the finalizer of MurmurHash3, which is fixed for all time: tables on disk depend on it.
fn bucket(first: u32, second: u32) -> u32 {
    let mut hash = u64::from(first) << 32 | u64::from(second);
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ hash >> 33).wrapping_mul(factor);
    }
    ((hash ^ hash >> 33) % LEXICAL_BUCKETS as u64) as u32
}

fn by_bucket(terms: &[u32]) -> Vec<u16> {
    let mut term_of = vec![NO_TERM; LEXICAL_BUCKETS];
    for (term, &bucket) in terms.iter().enumerate() {
        term_of[bucket as usize % LEXICAL_BUCKETS] = u16::try_from(term).unwrap_or(NO_TERM);
    }
    term_of
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Lexical {
        let terms = buckets(&[1, 2, 3, 4]);
        let idf = (0..terms.len()).map(|i| 1.0 + i as f32 / 3.0).collect();
        let n = terms.len();
        // An orthonormal projection keeps lengths.
        let projection: Vec<f32> = (0..n * n).map(|i| f32::from(u8::from(i / n == i % n))).collect();
        Lexical::new(terms, idf, &projection, n)
    }

    #[test]
    fn a_table_that_is_written_is_read_back() {
        let table = table();
        assert_eq!(Lexical::from_bytes(&table.to_bytes().unwrap()).unwrap(), table);
    }

    #[test]
    fn a_table_that_is_cut_or_has_other_numbers_is_refused() {
        let bytes = table().to_bytes().unwrap();
        assert!(Lexical::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        let mut unsorted = table();
        unsorted.terms.reverse();
        let error = Lexical::from_bytes(&unsorted.to_bytes().unwrap()).unwrap_err().to_string();
        assert_eq!(error, "`terms`: found other numbers, expected ascending numbers below 262144");
        let mut negative = table();
        negative.idf[0] = -1.0;
        let error = Lexical::from_bytes(&negative.to_bytes().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("`idf`: found a number that is not above 0"), "{error}");
    }

    #[test]
    fn columns_have_length_1_at_most_and_repetition_adds_its_seam_alone() {
        let table = table();
        let length = |ids: &[u32]| table.columns(&buckets(ids)).iter().map(|x| x * x).sum::<f32>().sqrt();
        assert_eq!(length(&[]), 0.0);
        assert_eq!(length(&[9, 9, 9]), 0.0, "unknown tokens count for nothing");
        assert!((length(&[1, 2, 3]) - 1.0).abs() < 0.01);
        assert_eq!(buckets(&[1, 2, 1, 2, 1, 2]), buckets(&[1, 2, 1, 2]));
        assert_eq!(
            table.columns(&buckets(&[1, 2, 1, 2])),
            table.columns(&buckets(&[1, 2])),
            "2, 1 is no term"
        );
    }
}
