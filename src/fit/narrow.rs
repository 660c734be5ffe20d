//! Products of tall matrices with narrow ones, such as feature rows with a few heads.
//!
//! A general matrix product packs the tall matrix first, which takes several times as long as to multiply it by a few
//! columns. These read it once, with the widest registers of the processor.

use ndarray::{Array2, ArrayView2};
use pulp::{Arch, Simd, WithSimd};

/// Columns of the narrow matrix above which the general product is faster.
const NARROW: usize = 16;

/// Columns, or rows, for which a register of the tall matrix is read once.
const AT_ONCE: usize = 4;

/// Returns `tall . narrow`, shape `[n, K]`, of `[n, D]` and `[D, K]`.
pub(super) fn product(tall: ArrayView2<'_, f32>, narrow: &Array2<f32>) -> Array2<f32> {
    let (n_columns, n_heads) = narrow.dim();
    let columns = narrow.t().as_standard_layout().into_owned();
    let mut found = Array2::zeros((tall.nrows(), n_heads));
    match (tall.as_slice(), columns.as_slice(), found.as_slice_mut()) {
        (Some(tall), Some(columns), Some(sums)) if (1..=NARROW).contains(&n_heads) && n_columns > 0 => {
            Arch::new().dispatch(Products { tall, columns, n_columns, sums });
            found
        }
        _ => tall.dot(narrow),
    }
}

/// Returns `tall^T . narrow`, shape `[D, K]`, of `[n, D]` and `[n, K]`.
pub(super) fn transposed_product(tall: ArrayView2<'_, f32>, narrow: &Array2<f32>) -> Array2<f32> {
    let (n_columns, n_heads) = (tall.ncols(), narrow.ncols());
    let mut sums = Array2::zeros((n_heads, n_columns));
    match (tall.as_slice(), narrow.as_slice(), sums.as_slice_mut()) {
        (Some(tall), Some(weights), Some(columns)) if (1..=NARROW).contains(&n_heads) && n_columns > 0 => {
            Arch::new().dispatch(WeightedSums { tall, weights, n_columns, columns });
            sums.reversed_axes()
        }
        _ => tall.t().dot(narrow),
    }
}

/// The scalar products of every row with every column, `[n, K]`.
struct Products<'a> {
    /// `[n, D]`
    tall: &'a [f32],
    /// `[K, D]`
    columns: &'a [f32],
    n_columns: usize,
    sums: &'a mut [f32],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tall, columns, n_columns, sums } = self;
        let n_heads = columns.len() / n_columns;
        for (row, sums) in tall.chunks_exact(n_columns).zip(sums.chunks_exact_mut(n_heads)) {
            for (sums, columns) in sums.chunks_mut(AT_ONCE).zip(columns.chunks(AT_ONCE * n_columns)) {
                let found = scalar_products(simd, row, up_to_four(columns, n_columns));
                sums.copy_from_slice(&found[..sums.len()]);
            }
        }
    }
}

#[inline(always)]
fn scalar_products<S: Simd>(simd: S, row: &[f32], columns: [&[f32]; AT_ONCE]) -> [f32; AT_ONCE] {
    let (row, row_rest) = S::as_simd_f32s(row);
    let ([a, b, c, d], rests) = registers::<S>(columns, row.len());
    let mut sums = [simd.splat_f32s(0.0); AT_ONCE];
    for i in 0..row.len() {
        let x = row[i];
        sums[0] = simd.mul_add_f32s(x, a[i], sums[0]);
        sums[1] = simd.mul_add_f32s(x, b[i], sums[1]);
        sums[2] = simd.mul_add_f32s(x, c[i], sums[2]);
        sums[3] = simd.mul_add_f32s(x, d[i], sums[3]);
    }
    let [p, q, r, s] = sums;
    let sum = |register: S::f32s| simd.reduce_sum_f32s(register);
    let mut found = [sum(p), sum(q), sum(r), sum(s)];
    for (found, rest) in found.iter_mut().zip(rests) {
        for i in 0..row_rest.len() {
            *found += row_rest[i] * rest[i];
        }
    }
    found
}

/// The sums of the rows by every weight, `[K, D]`.
struct WeightedSums<'a> {
    /// `[n, D]`
    tall: &'a [f32],
    /// `[n, K]`
    weights: &'a [f32],
    n_columns: usize,
    columns: &'a mut [f32],
}

impl WithSimd for WeightedSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tall, weights, n_columns, columns } = self;
        let n_heads = columns.len() / n_columns;
        let few = tall.chunks(AT_ONCE * n_columns).zip(weights.chunks(AT_ONCE * n_heads));
        for (rows, weights) in few {
            let rows = up_to_four(rows, n_columns);
            for (k, sums) in columns.chunks_exact_mut(n_columns).enumerate() {
                // A row that is missing has weight 0.
                let weight = |i: usize| weights.get(i * n_heads + k).copied().unwrap_or_default();
                add(simd, sums, rows, [weight(0), weight(1), weight(2), weight(3)]);
            }
        }
    }
}

/// Adds four rows, each times its weight.
#[inline(always)]
fn add<S: Simd>(simd: S, sums: &mut [f32], rows: [&[f32]; AT_ONCE], weights: [f32; AT_ONCE]) {
    let (sums, sums_rest) = S::as_mut_simd_f32s(sums);
    let ([a, b, c, d], rests) = registers::<S>(rows, sums.len());
    let [p, q, r, s] = weights;
    let [p, q] = [simd.splat_f32s(p), simd.splat_f32s(q)];
    let [r, s] = [simd.splat_f32s(r), simd.splat_f32s(s)];
    for i in 0..sums.len() {
        let sum = simd.mul_add_f32s(p, a[i], sums[i]);
        let sum = simd.mul_add_f32s(q, b[i], sum);
        let sum = simd.mul_add_f32s(r, c[i], sum);
        sums[i] = simd.mul_add_f32s(s, d[i], sum);
    }
    for (rest, weight) in rests.into_iter().zip(weights) {
        for i in 0..sums_rest.len() {
            sums_rest[i] += weight * rest[i];
        }
    }
}

/// Returns one to four rows; the first one in the place of each that is missing.
#[inline(always)]
fn up_to_four(rows: &[f32], n_columns: usize) -> [&[f32]; AT_ONCE] {
    let row = |i: usize| rows.get(i * n_columns..(i + 1) * n_columns).unwrap_or(&rows[..n_columns]);
    [row(0), row(1), row(2), row(3)]
}

/// Returns rows of `n` registers each, and the numbers after them.
#[inline(always)]
fn registers<S: Simd>(
    [a, b, c, d]: [&[f32]; AT_ONCE],
    n: usize,
) -> ([&[S::f32s]; AT_ONCE], [&[f32]; AT_ONCE]) {
    let (a, a_rest) = S::as_simd_f32s(a);
    let (b, b_rest) = S::as_simd_f32s(b);
    let (c, c_rest) = S::as_simd_f32s(c);
    let (d, d_rest) = S::as_simd_f32s(d);
    ([&a[..n], &b[..n], &c[..n], &d[..n]], [a_rest, b_rest, c_rest, d_rest])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_general_product_whatever_the_shape() {
        let wave = |step: f32| move |(i, j): (usize, usize)| ((i * 31 + j * 7) as f32 * step).sin();
        for (n, n_columns, n_heads) in
            [(1, 1, 1), (7, 33, 3), (64, 385, 8), (9, 64, 16), (5, 40, 17), (0, 3, 2), (3, 2, 0)]
        {
            let tall = Array2::from_shape_fn((n, n_columns), wave(0.37));
            let heads = Array2::from_shape_fn((n_columns, n_heads), wave(0.11));
            let weights = Array2::from_shape_fn((n, n_heads), wave(0.73));
            let near = |a: Array2<f32>, b: Array2<f32>| {
                assert_eq!(a.dim(), b.dim());
                assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4), "{n} {n_columns} {n_heads}");
            };
            near(product(tall.view(), &heads), tall.dot(&heads));
            near(transposed_product(tall.view(), &weights), tall.t().dot(&weights));
        }
    }
}
