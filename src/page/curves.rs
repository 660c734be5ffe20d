//! Selects what can be drawn of a figure's series, and makes a table of all of it.

use std::collections::HashMap;

use maud::Markup;

use super::number::{Digits, is_drawable};
use super::{Point, Series, table};

/// Colors, and dash patterns to tell apart more curves than there are colors.
const N_COLORS: usize = 6;
const N_DASHES: usize = 3;
/// Number of curves up to which all are colored, if none is emphasized.
const MAX_COLORED: usize = 12;

/// A curve that can be drawn.
#[derive(Debug)]
pub struct Curve<'a> {
    /// Its label.
    pub name: &'a str,
    /// Color and dashes; none for gray.
    pub style: Option<usize>,
    /// Its points by x, in stretches without a gap.
    pub runs: Vec<Vec<Point>>,
}

impl Curve<'_> {
    /// Returns its color and dashes in the style sheet.
    pub fn class(&self) -> String {
        let dash = |idx: usize| (idx / N_COLORS) % N_DASHES;
        self.style.map_or_else(|| "gray".to_owned(), |idx| format!("c{} d{}", idx % N_COLORS, dash(idx)))
    }
}

/// Returns the curves that can be drawn, colored ones first, and the number of values that can't.
pub fn curves(series: &[Series]) -> (Vec<Curve<'_>>, usize) {
    let is_any_emphasized = series.iter().any(|series| series.emphasis);
    let is_colored = |one: &Series| one.emphasis || !is_any_emphasized && series.len() <= MAX_COLORED;
    let (mut n_left_out, mut n_colored) = (0, 0);
    let mut curves = Vec::new();
    for one in series {
        let style = is_colored(one).then_some(n_colored);
        n_colored += usize::from(style.is_some());
        let runs = runs(&one.points, &mut n_left_out);
        if !runs.is_empty() {
            curves.push(Curve { name: &one.name, style, runs });
        }
    }
    curves.sort_by_key(|curve| curve.style.unwrap_or(usize::MAX));
    (curves, n_left_out)
}

/// Returns the stretches of points between those that can't be drawn; an interval that can't be is dropped.
fn runs(points: &[Point], n_left_out: &mut usize) -> Vec<Vec<Point>> {
    let mut sorted: Vec<Point> = points.iter().copied().filter(|point| is_drawable(point.x)).collect();
    *n_left_out += points.len() - sorted.len();
    sorted.sort_by(|a, b| a.x.total_cmp(&b.x));
    for point in &mut sorted {
        let is_given = point.interval.is_some();
        point.interval = point.interval.filter(|(low, high)| is_drawable(*low) && is_drawable(*high));
        *n_left_out += usize::from(is_given && point.interval.is_none()) + usize::from(!is_drawable(point.y));
    }
    let stretches = sorted.split(|point| !is_drawable(point.y));
    stretches.filter(|run| !run.is_empty()).map(<[Point]>::to_vec).collect()
}

/// The formats of the numbers of both axes.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    x: Digits,
    y: Digits,
}

impl Format {
    /// Returns the formats that fit all of `series`.
    pub fn of(series: &[Series]) -> Self {
        let points = || series.iter().flat_map(|series| &series.points);
        let ends = |point: &Point| point.interval.map_or([point.y; 3], |(low, high)| [point.y, low, high]);
        Self { x: Digits::of(points().map(|point| point.x)), y: Digits::of(points().flat_map(ends)) }
    }

    /// Formats the place of a point.
    pub fn x(self, x: f64) -> String {
        self.x.show(x)
    }

    /// Formats the value of a point, with its interval.
    pub fn y(self, point: &Point) -> String {
        let show = |value| self.y.show(value);
        let ends = point.interval.map(|(low, high)| format!(" ({} to {})", show(low), show(high)));
        show(point.y) + &ends.unwrap_or_default()
    }
}

/// Returns a table of all points, transposed where that is easier to read.
pub fn numbers(title: &str, x_label: &str, series: &[Series], format: Format) -> Markup {
    let mut xs: Vec<f64> = series.iter().flat_map(|one| one.points.iter().map(|point| point.x)).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup_by(|a, b| a.to_bits() == b.to_bits());
    let column = |one: &Series| {
        let mut at: HashMap<u64, Vec<String>> = HashMap::new();
        for point in &one.points {
            at.entry(point.x.to_bits()).or_default().push(format.y(point));
        }
        xs.iter().map(|x| at.get(&x.to_bits()).map_or(String::new(), |here| here.join("; "))).collect()
    };
    let cells: Vec<Vec<String>> = series.iter().map(column).collect();
    let names = series.iter().map(|one| one.name.clone());
    let places = xs.iter().map(|&x| format.x(x));
    let corner = [x_label.to_owned()];
    if xs.len() <= series.len().max(8) {
        let columns: Vec<String> = corner.into_iter().chain(places).collect();
        let rows: Vec<Vec<String>> =
            names.zip(cells).map(|(name, cells)| [name].into_iter().chain(cells).collect()).collect();
        return table::grid(title, &columns, &rows);
    }
    let columns: Vec<String> = corner.into_iter().chain(names).collect();
    let row = |(idx, place): (usize, String)| {
        [place].into_iter().chain(cells.iter().map(|one| one[idx].clone())).collect()
    };
    let rows: Vec<Vec<String>> = places.enumerate().map(row).collect();
    table::grid(title, &columns, &rows)
}
