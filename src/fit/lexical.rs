//! Learns lexical columns: the terms of the train responses, and the directions in which their TF-IDF rows vary most.
//!
//! The projection spans the first right singular vectors of the matrix of rows, found by subspace iteration from a
//! random start (Halko, Martinsson and Tropp, arXiv 0909.4061). A rotation within the span changes nothing for heads
//! under one ridge, so none is chosen.

use std::io;

use ndarray::{Array2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::data::Surfaces;
use crate::surface::{LEXICAL_BUCKETS, Lexical};

/// Lexical columns, where there are as many terms and texts.
const COLUMNS: usize = 384;

/// Upper bound of the terms: the most frequent ones.
const TERMS: usize = 1 << 14;

/// Texts that a term is in, at least: one of a single text says nothing about others.
const MIN_TEXTS: u32 = 2;

/// Upper bound of the texts to learn from.
const TEXTS: usize = 20_000;

/// Share of a column's squared length that is left beside the columns before it, up to which it depends on them.
const DEPENDENT: f64 = 1e-10;

/// Steps of the iteration.
const STEPS: usize = 4;

/// A sparse row: terms, and their weights.
type Row = Vec<(u32, f32)>;

/// Learns lexical columns from texts, by their numbers; none where no two of them share a term.
///
/// # Errors
/// When the temporary files can't be read.
pub fn learn_lexical(surfaces: &Surfaces, texts: &[u32], seed: u64) -> io::Result<Option<Lexical>> {
    let every = texts.len().div_ceil(TEXTS).max(1);
    let texts: Vec<Vec<u32>> =
        texts.iter().step_by(every).map(|&text| surfaces.buckets(text)).collect::<Result<_, _>>()?;
    let mut counts = vec![0_u32; LEXICAL_BUCKETS];
    texts.iter().flatten().for_each(|&bucket| counts[bucket as usize] += 1);
    let mut terms: Vec<u32> =
        (0..LEXICAL_BUCKETS as u32).filter(|&bucket| counts[bucket as usize] >= MIN_TEXTS).collect();
    if terms.is_empty() {
        return Ok(None);
    }
    terms.sort_by_key(|&bucket| std::cmp::Reverse(counts[bucket as usize]));
    terms.truncate(TERMS);
    terms.sort_unstable();
    let idf =
        |bucket: &u32| ((1.0 + texts.len() as f32) / (1.0 + counts[*bucket as usize] as f32)).ln() + 1.0;
    let idf: Vec<f32> = terms.iter().map(idf).collect();
    let row = |buckets: &Vec<u32>| -> Row {
        let found = buckets.iter().filter_map(|bucket| terms.binary_search(bucket).ok());
        let row: Row = found.map(|term| (term as u32, idf[term])).collect();
        let length = row.iter().map(|(_, x)| x * x).sum::<f32>().sqrt().max(1.0);
        row.into_iter().map(|(term, x)| (term, x / length)).collect()
    };
    let rows: Vec<Row> = texts.iter().map(row).collect();
    let projection = span(&rows, terms.len(), seed);
    Ok(Some(Lexical::new(
        terms,
        idf,
        projection.as_standard_layout().as_slice().unwrap_or_default(),
        projection.ncols(),
    )))
}

/// Returns orthonormal columns that about span the first right singular vectors of sparse rows, shape `[V, P]`.
fn span(rows: &[Row], n_terms: usize, seed: u64) -> Array2<f32> {
    let mut by_term: Vec<Row> = vec![Row::new(); n_terms];
    for (text, row) in rows.iter().enumerate() {
        row.iter().for_each(|&(term, x)| by_term[term as usize].push((text as u32, x)));
    }
    let n_columns = COLUMNS.min(n_terms).min(rows.len());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut columns = Array2::from_shape_simple_fn((n_terms, n_columns), || rng.random_range(-1.0..1.0_f32));
    for _ in 0..STEPS {
        let texts = orthonormal(times(rows, &columns));
        columns = orthonormal(times(&by_term, &texts));
    }
    columns
}

/// Multiplies sparse rows by a matrix; a row's sum is in its own order, whatever the number of threads.
fn times(rows: &[Row], matrix: &Array2<f32>) -> Array2<f32> {
    let mut product = Array2::zeros((rows.len(), matrix.ncols()));
    let sums: Vec<_> = product.axis_iter_mut(Axis(0)).collect();
    sums.into_par_iter().zip(rows).for_each(|(mut sums, row)| {
        row.iter().for_each(|&(column, x)| sums.scaled_add(x, &matrix.row(column as usize)));
    });
    product
}

/// Makes columns orthonormal, `A L^-T` with `A^T A = L L^T` (Cholesky); one that depends on those before it becomes 0.
fn orthonormal(matrix: Array2<f32>) -> Array2<f32> {
    let matrix = matrix.mapv(f64::from);
    let gram = matrix.t().dot(&matrix);
    let n = gram.ncols();
    // Rows that are still to come are 0 in both.
    let (mut lower, mut inverse) = (Array2::<f64>::zeros((n, n)), Array2::<f64>::zeros((n, n)));
    for i in 0..n {
        for j in (0..i).filter(|&j| inverse[[j, j]] > 0.0) {
            let known = lower.row(i).dot(&lower.row(j));
            lower[[i, j]] = (gram[[i, j]] - known) * inverse[[j, j]];
        }
        let before = lower.row(i);
        let left = gram[[i, i]] - before.dot(&before);
        if left <= DEPENDENT * gram[[i, i]] {
            continue;
        }
        let row = -before.dot(&inverse);
        inverse.row_mut(i).assign(&(row / left.sqrt()));
        inverse[[i, i]] = 1.0 / left.sqrt();
    }
    matrix.dot(&inverse.t()).mapv(|x| x as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surface::{N_STYLE, buckets};

    /// Texts of two topics with words of their own, and some that every text has.
    fn surfaces() -> (Surfaces, Vec<u32>) {
        let mut surfaces = Surfaces::new().unwrap();
        for text in 0..60_u32 {
            let word = |i: u32| 100 + (text % 2) * 50 + (text * 7 + i * 3) % 20;
            let ids: Vec<u32> = (0..12).map(|i| if i % 3 == 0 { i } else { word(i) }).collect();
            surfaces.push(&[0.0; N_STYLE], &buckets(&ids)).unwrap();
        }
        (surfaces, (0..60).collect())
    }

    #[test]
    fn the_columns_tell_apart_what_the_texts_are_about() {
        let (mut surfaces, texts) = surfaces();
        let table = learn_lexical(&surfaces, &texts, 0).unwrap().unwrap();
        surfaces.project(&table).unwrap();
        let row = |text: u32| {
            let mut columns = vec![0.0; surfaces.n_lexical()];
            surfaces.read_lexical(text, &mut columns).unwrap();
            ndarray::Array1::from(columns)
        };
        let near = |a: u32, b: u32| row(a).dot(&row(b));
        let same: f32 = (2..60).step_by(2).map(|text| near(0, text)).sum();
        let other: f32 = (1..59).step_by(2).map(|text| near(0, text)).sum();
        assert!(same > 1.5 * other, "{same} {other}");
        assert!(texts.iter().all(|&text| row(text).dot(&row(text)) < 1.02));
    }

    #[test]
    fn the_same_texts_and_seed_give_the_same_table_whatever_the_number_of_threads() {
        let (surfaces, texts) = surfaces();
        let learn = || learn_lexical(&surfaces, &texts, 3).unwrap();
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(learn);
        assert_eq!(alone, learn());
        assert_eq!(learn_lexical(&surfaces, &texts[..1], 3).unwrap(), None, "one text shares no term");
    }

    #[test]
    fn columns_become_orthonormal_and_a_dependent_one_becomes_0() {
        let mut matrix = Array2::from_shape_fn((50, 5), |(i, j)| ((i * i * (j + 2)) as f32 * 0.31).sin());
        let sum = &matrix.column(0) + &matrix.column(1);
        matrix.column_mut(2).assign(&sum);
        let columns = orthonormal(matrix.clone());
        let gram = columns.t().dot(&columns);
        let expected = |(i, j): (usize, usize)| if i == j && i != 2 { 1.0 } else { 0.0 };
        assert!((&gram - &Array2::from_shape_fn((5, 5), expected)).iter().all(|x| x.abs() < 1e-5), "{gram}");
        // They span the same: nothing of the matrix is left beside them.
        let left = &matrix - &columns.dot(&columns.t().dot(&matrix));
        assert!(left.iter().all(|x| x.abs() < 1e-4));
    }
}
