//! The content of a page, as values that callers fill.

/// A page: a heading, what it is about, and figures in reading order.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The heading.
    pub title: String,
    /// The findings, in a sentence or two.
    pub lead: String,
    /// Names and values in short, such as the number of pairs or a seed.
    pub facts: Vec<(String, String)>,
    /// The figures.
    pub figures: Vec<Figure>,
}

/// A figure with its title and caption.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The title, best as a finding.
    pub title: String,
    /// Explanation of the figure.
    pub caption: String,
    /// The drawing.
    pub body: Body,
}

/// The drawing of a figure. Every number may be anything an `f64` can be.
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
    /// Predicted against observed shares: one square per series, all to one scale.
    Calibration {
        /// The predictors.
        series: Vec<Binned>,
    },
    /// One bar per label, from 0 or the end of `range` that is nearest to it.
    Bars {
        /// Name of each bar.
        labels: Vec<String>,
        /// Length of each bar; as many as labels.
        values: Vec<f64>,
        /// Least and greatest value drawn.
        range: (f64, f64),
    },
    /// A table with its cells as they are.
    Table {
        /// Headings.
        columns: Vec<String>,
        /// Rows of as many cells.
        rows: Vec<Vec<String>>,
    },
    /// Texts with scores, behind a notice: they are as users and models wrote them.
    Texts(Vec<TextGroup>),
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The measured quantity, with its unit.
    pub label: String,
    /// True to place the values that occur at equal distances, such as 0, 1, 2, 5, 10. For the horizontal axis only.
    pub even: bool,
}

/// A curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its label.
    pub name: String,
    /// True if the figure is about this curve.
    pub emphasis: bool,
    /// Its points, in any order.
    pub points: Vec<Point>,
}

/// A point of a curve, in the units of its axes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The place on the horizontal axis.
    pub x: f64,
    /// The value on the vertical axis.
    pub y: f64,
    /// Least and greatest plausible `y`.
    pub interval: Option<(f64, f64)>,
}

/// A predictor's calibration.
#[derive(Debug, Clone, PartialEq)]
pub struct Binned {
    /// Its label.
    pub name: String,
    /// Bins as (mean predicted, share observed, count).
    pub bins: Vec<(f64, f64, usize)>,
}

/// The texts that a head scores highest and lowest.
#[derive(Debug, Clone, PartialEq)]
pub struct TextGroup {
    /// Name of their head.
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
    /// The prompt that it responds to.
    pub prompt: Option<String>,
    /// The text.
    pub text: String,
}
