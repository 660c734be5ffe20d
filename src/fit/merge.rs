//! Finds the heads that score alike.

use ndarray::ArrayView2;

/// Groups heads whose margins on held-out pairs correlate above `limit`, directly or through others; every group in
/// ascending order, groups by their first head. `margins` has shape `[n, K]`.
#[must_use]
pub fn alike(margins: ArrayView2<'_, f64>, limit: f64) -> Vec<Vec<usize>> {
    let n_heads = margins.ncols();
    let mut group: Vec<usize> = (0..n_heads).collect();
    for a in 0..n_heads {
        for b in a + 1..n_heads {
            if correlation(margins.column(a).iter(), margins.column(b).iter()) > limit {
                let (from, to) = (group[b].max(group[a]), group[b].min(group[a]));
                group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
            }
        }
    }
    let members = |first: usize| (0..n_heads).filter(|&k| group[k] == first).collect::<Vec<_>>();
    (0..n_heads).map(members).filter(|members| !members.is_empty()).collect()
}

/// Returns Pearson's correlation, 0 where one of the two does not vary.
#[must_use]
pub fn correlation<'a>(
    a: impl Iterator<Item = &'a f64> + Clone,
    b: impl Iterator<Item = &'a f64> + Clone,
) -> f64 {
    let n = a.clone().count().max(1) as f64;
    let (mean_a, mean_b) = (a.clone().sum::<f64>() / n, b.clone().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.zip(b) {
        ab += (x - mean_a) * (y - mean_b);
        aa += (x - mean_a).powi(2);
        bb += (y - mean_b).powi(2);
    }
    if aa > 0.0 && bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn heads_that_say_the_same_are_one_group_and_opposites_are_not() {
        let margins = array![[1.0, -1.0, 2.1, 0.3], [2.0, -2.0, 3.9, -0.4], [-1.0, 1.0, -2.0, 0.1]];
        assert_eq!(alike(margins.view(), 0.95), [vec![0, 2], vec![1], vec![3]]);
    }
}
