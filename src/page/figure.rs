//! What a page holds, as values: the caller's side of it.

/// A page: a heading, what it is about, and figures in reading order.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The heading.
    pub title: String,
    /// What was found, in a sentence or two.
    pub lead: String,
    /// Names and values in short, such as the number of pairs or a seed.
    pub facts: Vec<(String, String)>,
    /// The figures.
    pub figures: Vec<Figure>,
}

/// A figure with its words.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What it shows, best as a finding.
    pub title: String,
    /// How to read it.
    pub caption: String,
    /// What is drawn.
    pub body: Body,
}

/// What a figure draws. Every number may be anything an `f64` can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Curves with optional intervals. Emphasized ones are colored and carry their intervals, the others are
    /// thin and gray; where none is emphasized and they are few, all are.
    Lines {
        /// The horizontal axis.
        x: Axis,
        /// The vertical axis.
        y: Axis,
        /// The curves, in any order.
        series: Vec<Series>,
    },
    /// A number for each row and column, colored by its distance from `center`; the best of a column is bold.
    Matrix {
        /// One label per row, such as a head.
        rows: Vec<String>,
        /// One label per column, such as a group.
        columns: Vec<String>,
        /// `cells[row][column]`; none where nothing was measured.
        cells: Vec<Vec<Option<f64>>>,
        /// The value without color, such as 0.5 for accuracies.
        center: f64,
    },
    /// What was predicted against what happened: one square per series, all to one scale.
    Calibration {
        /// The predictors.
        series: Vec<Binned>,
    },
    /// One bar per label, from 0 or the end of `range` that is nearest to it.
    Bars {
        /// What each bar is.
        labels: Vec<String>,
        /// Its length; as many as labels.
        values: Vec<f64>,
        /// Least and greatest value drawn.
        range: (f64, f64),
    },
    /// Cells as they are.
    Table {
        /// Headings.
        columns: Vec<String>,
        /// Rows of as many cells.
        rows: Vec<Vec<String>>,
    },
    /// Texts with scores, behind a notice: they are as people and models wrote them.
    Texts(Vec<TextGroup>),
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it measures, with its unit.
    pub label: String,
    /// Places the values that occur at equal distances, such as 0, 1, 2, 5, 10. Of the horizontal axis only.
    pub even: bool,
}

/// A curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its label.
    pub name: String,
    /// Whether it is what the figure is about.
    pub emphasis: bool,
    /// Its points, in any order.
    pub points: Vec<Point>,
}

/// A point of a curve, in the units of its axes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Where.
    pub x: f64,
    /// How much.
    pub y: f64,
    /// Least and greatest plausible `y`.
    pub interval: Option<(f64, f64)>,
}

/// A predictor's calibration.
#[derive(Debug, Clone, PartialEq)]
pub struct Binned {
    /// Its label.
    pub name: String,
    /// Bins as (mean predicted, share observed, how many).
    pub bins: Vec<(f64, f64, usize)>,
}

/// The texts that a head likes most and least.
#[derive(Debug, Clone, PartialEq)]
pub struct TextGroup {
    /// What they are of.
    pub heading: String,
    /// Those with the highest scores, best first.
    pub high: Vec<Scored>,
    /// Those with the lowest scores, worst first.
    pub low: Vec<Scored>,
}

/// A text and its score. The texts may hold anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The score, in the units of its group.
    pub score: f64,
    /// What it answers.
    pub prompt: Option<String>,
    /// The text.
    pub text: String,
}
