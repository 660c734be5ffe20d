//! Measures labels beside curves, and moves them apart.

/// Estimates the pixels that `text` takes at `size` pixels a line; rather too many.
pub fn width(text: &str, size: f64) -> f64 {
    text.chars().map(|c| em(c) * size).sum()
}

/// Returns as much of `text` as `pixels` hold.
pub fn clip(text: &str, pixels: f64, size: f64) -> String {
    if width(text, size) <= pixels {
        return text.to_owned();
    }
    let mut left = pixels - size;
    let fits = |c: &char| {
        left -= em(*c) * size;
        left >= 0.0
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

fn em(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | ' ' | '.' | ',' | ':' | '\'' | '|' => 0.33,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.92,
        '\0'..='\u{2ff}' => 0.6,
        '\u{300}'..='\u{10ff}' => 0.7,
        _ => 1.1,
    }
}

/// Returns places from `low` to `high`, at least `gap` apart and in the order of `wanted`, as near to it as can be.
///
/// The sum of squared moves is the least: isotonic regression of the wanted places less the room of the labels
/// before. If they can't all fit, they run beyond `high`.
pub fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for (rank, &idx) in order.iter().enumerate() {
        let (mut sum, mut n) = (wanted[idx] - rank as f64 * gap, 1);
        while let Some(&(before, n_before)) = blocks.last()
            && before / n_before as f64 >= sum / n as f64
        {
            (sum, n) = (sum + before, n + n_before);
            blocks.pop();
        }
        blocks.push((sum, n));
    }
    let last = (high - wanted.len().saturating_sub(1) as f64 * gap).max(low);
    let places = blocks.into_iter().flat_map(|(sum, n)| std::iter::repeat_n(sum / n as f64, n));
    let mut spread = vec![0.0; wanted.len()];
    for ((rank, idx), place) in order.into_iter().enumerate().zip(places) {
        spread[idx] = place.clamp(low, last) + rank as f64 * gap;
    }
    spread
}
