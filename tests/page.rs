//! Laws of a page, on a page with every kind of figure.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use micro_reward::page::{Axis, Binned, Body, Figure, Page, Point, Scored, Series, TextGroup};
use proptest::prelude::*;
use roxmltree::{Document, Node, ParsingOptions};

const HOSTILE: &str = "</title></style></script><script src=\"https://evil.example/x.js\">alert(1)</script><img src=x onerror=y> & \
     \u{202e}\u{0}\u{8}\u{1b}\r\u{85}\u{fffe} ]]> <!-- url(https://evil.example) 👩🏽‍🚀 עברית";

fn text(text: &str) -> String {
    text.to_owned()
}

fn point(x: f64, y: f64) -> Point {
    Point { x, y, interval: Some((y - 0.01, y + 0.01)) }
}

fn series(name: &str, emphasis: bool, points: Vec<Point>) -> Series {
    Series { name: text(name), emphasis, points }
}

fn lines(even: bool, series: Vec<Series>) -> Body {
    Body::Lines { x: axis("answers", even), y: axis("accuracy", false), series }
}

fn axis(label: &str, even: bool) -> Axis {
    Axis { label: text(label), even }
}

fn figure(body: Body) -> Figure {
    Figure { title: text("A finding"), caption: text("How to read it."), body }
}

fn page(figures: Vec<Figure>) -> Page {
    Page {
        title: text("A page"),
        lead: text("What was found."),
        facts: vec![(text("seed"), text("7"))],
        figures,
    }
}

fn one(body: Body) -> String {
    page(vec![figure(body)]).html()
}

/// Returns a figure of each kind, with `name` wherever a caller may put a text.
fn bodies(name: &str) -> Vec<Body> {
    let curve = |idx: usize| {
        let points = [0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0];
        let at = |x: &f64| point(*x, 0.55 + 0.001 * x + 0.0123 * idx as f64);
        series(&format!("{name} {idx}"), idx < 3, points.iter().map(at).collect())
    };
    let scored = |score: f64| Scored {
        score,
        prompt: Some(text(name)),
        text: format!("{name}\n{}", "long ".repeat(2000)),
    };
    vec![
        Body::Lines { x: axis(name, true), y: axis(name, false), series: (0..8).map(curve).collect() },
        Body::Matrix {
            rows: vec![text(name), text("b")],
            columns: vec![text(name), text("d")],
            cells: vec![vec![Some(0.4321), None], vec![Some(0.6543), Some(0.5)]],
            center: 0.5,
        },
        Body::Calibration {
            series: vec![Binned { name: text(name), bins: vec![(0.25, 0.311, 40), (0.75, 0.702, 1234)] }],
        },
        Body::Bars { labels: vec![text(name), text("b")], values: vec![0.123, -0.456], range: (-1.0, 1.0) },
        Body::Table { columns: vec![text(name), text("n")], rows: vec![vec![text(name), text("12")]] },
        Body::Texts(vec![TextGroup {
            heading: text(name),
            high: vec![scored(1.5)],
            low: vec![scored(-2.25)],
        }]),
    ]
}

fn everything(name: &str) -> Page {
    Page {
        title: text(name),
        lead: text(name),
        facts: vec![(text(name), text(name))],
        figures: bodies(name)
            .into_iter()
            .map(|body| Figure { title: text(name), caption: text(name), body })
            .collect(),
    }
}

/// Parses a page as XML, the stricter grammar, which its markup satisfies.
fn parsed(html: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(html, options).unwrap()
}

fn named<'a>(document: &'a Document<'_>, tag: &str) -> Vec<Node<'a, 'a>> {
    document.descendants().filter(|node| node.has_tag_name(tag)).collect()
}

fn words(node: Node<'_, '_>) -> String {
    node.descendants().filter_map(|node| node.text().filter(|_| node.is_text())).collect()
}

fn number(node: Node<'_, '_>, attribute: &str) -> f64 {
    node.attribute(attribute).unwrap().parse().unwrap()
}

#[test]
fn untrusted_text_is_escaped() {
    let html = everything(HOSTILE).html();
    let document = parsed(&html);
    let is_markup = |tag: &str| !named(&document, tag).is_empty();
    assert!(!["script", "img", "iframe", "link", "object", "a", "form"].into_iter().any(is_markup));
    let handlers =
        document.descendants().flat_map(|node| node.attributes()).filter(|a| a.name().starts_with("on"));
    assert_eq!(handlers.count(), 0);
    assert_eq!(named(&document, "style").len(), 1);
    let title = words(named(&document, "title")[0]);
    assert!(title.starts_with("</title></style></script><script src="), "{title}");
}

#[test]
fn the_page_asks_for_nothing_from_the_network() {
    let html = everything("plain").html();
    for request in ["http:", "https:", "//", "src=", "href=", "url(", "@import", "<script"] {
        assert!(!html.contains(request), "{request}");
    }
    assert!(html.contains("default-src 'none'"), "and a browser may not let it");
}

#[test]
fn control_characters_are_shown_as_their_pictures() {
    let html = everything(HOSTILE).html();
    let is_bare = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{fffe}';
    assert!(!html.contains(is_bare));
    assert!(html.contains("␀␈␛"));
}

#[test]
fn equal_figures_give_equal_bytes() {
    assert_eq!(everything(HOSTILE).html(), everything(HOSTILE).html());
}

#[test]
fn numbers_that_are_not_finite_are_left_out_and_said() {
    let points = vec![
        point(0.0, 0.5),
        point(1.0, f64::NAN),
        point(f64::NEG_INFINITY, 0.5),
        Point { x: 2.0, y: 0.6, interval: Some((f64::INFINITY, 0.7)) },
        Point { x: 3.0, y: f64::MAX, interval: None },
    ];
    let matrix = Body::Matrix {
        rows: vec![text("a")],
        columns: vec![text("c"), text("d")],
        cells: vec![vec![Some(f64::NAN), Some(0.6)]],
        center: f64::NAN,
    };
    let bins = vec![(0.5, f64::NAN, 3), (0.5, 0.5, 0), (f64::INFINITY, 0.1, 1)];
    let cases = [
        (lines(false, vec![series("a", true, points.clone())]), "5 values are"),
        (lines(true, vec![series("a", false, points)]), "5 values are"),
        (matrix, "1 value is"),
        (Body::Calibration { series: vec![Binned { name: text("a"), bins }] }, "2 values are"),
        (
            Body::Bars {
                labels: vec![text("a"), text("b")],
                values: vec![f64::NAN, 1.0],
                range: (f64::NAN, f64::INFINITY),
            },
            "1 value is",
        ),
    ];
    for (body, said) in cases {
        let html = one(body);
        let document = parsed(&html);
        assert!(html.contains(&format!("{said} not finite")), "{said}");
        for attribute in document.descendants().flat_map(|node| node.attributes()) {
            let is_drawn = !["title", "aria-label", "class"].contains(&attribute.name());
            let value = attribute.value();
            assert!(!(is_drawn && (value.contains("NaN") || value.contains("inf"))), "{value}");
        }
    }
}

#[test]
fn every_chart_has_its_numbers_as_text() {
    let expected = [
        vec!["0.562 (0.552 to 0.572)", "0.615 (0.605 to 0.625)"],
        vec!["0.43", "0.65", "0.50"],
        vec!["0.311", "0.702", "1,234"],
        vec!["0.123", "−0.456"],
        vec!["12"],
        vec!["1.50", "−2.25"],
    ];
    for (body, numbers) in bodies("plain").into_iter().zip(expected) {
        let html = one(body);
        let document = parsed(&html);
        let mut holders = named(&document, "table");
        holders.extend(named(&document, "article"));
        let shown: String = holders.into_iter().map(words).collect::<Vec<_>>().join(" ");
        assert!(numbers.iter().all(|number| shown.contains(number)), "{numbers:?} in {shown:.600}");
    }
}

#[test]
fn every_picture_says_what_it_is() {
    let html = everything("plain").html();
    let document = parsed(&html);
    let pictures = named(&document, "svg");
    assert_eq!(pictures.len(), 3, "two sizes of curves and a square");
    let is_told =
        |node: &Node<'_, '_>| node.attribute("role") == Some("img") && node.has_attribute("aria-label");
    assert!(pictures.iter().all(is_told));
}

#[test]
fn texts_open_on_demand_and_long_ones_are_whole() {
    let html = everything("plain").html();
    let document = parsed(&html);
    let opened = named(&document, "details").into_iter().filter(|node| node.has_attribute("open"));
    assert_eq!(opened.count(), 0);
    let article = named(&document, "article")[0];
    assert_eq!(words(article).matches("long").count(), 2000);
    let behind = |node: Node<'_, '_>| node.ancestors().any(|node| node.attribute("class") == Some("texts"));
    assert!(named(&document, "article").into_iter().all(behind));
}

#[test]
fn names_of_curves_do_not_overlap() {
    let crowd =
        |n: usize| (0..n).map(|idx| series(&format!("rule {idx}"), idx < 3, vec![point(1.0, 0.5)])).collect();
    for n in [1, 2, 8, 30, 64] {
        let html = one(lines(false, crowd(n)));
        let document = parsed(&html);
        let names =
            named(&document, "text").into_iter().filter(|node| node.attribute("class") == Some("name"));
        let mut places: Vec<f64> = names.map(|node| number(node, "y")).collect();
        places.sort_by(f64::total_cmp);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] > 15.5), "{places:?}");
        let n_unnamed = n - places.len();
        assert!(places.len() >= n.min(30));
        assert_eq!(html.contains("have no room for a name"), n_unnamed > 0);
    }
}

#[test]
fn emphasized_curves_alone_are_colored() {
    let html = everything("plain").html();
    let document = parsed(&html);
    let bands = named(&document, "polygon").len();
    assert_eq!(bands, 2 * 3, "a band for each emphasized curve in both sizes");
}

#[test]
fn a_figure_of_nothing_says_so() {
    let nothing = [
        lines(true, vec![]),
        lines(false, vec![series("a", true, vec![])]),
        Body::Matrix { rows: vec![], columns: vec![], cells: vec![], center: 0.5 },
        Body::Calibration { series: vec![] },
        Body::Bars { labels: vec![], values: vec![], range: (0.0, 1.0) },
        Body::Table { columns: vec![], rows: vec![] },
        Body::Texts(vec![]),
    ];
    for body in nothing {
        let html = one(body);
        parsed(&html);
        assert!(html.contains("Nothing to show."));
    }
    parsed(&page(vec![]).html());
}

#[test]
fn a_large_mixture_is_drawn() {
    let names: Vec<String> = (0..64).map(|idx| format!("head {idx}")).collect();
    let groups: Vec<String> = (0..50).map(|idx| format!("a group {idx}")).collect();
    let row = |k: usize| (0..50).map(|g| Some(0.4 + 0.001 * (k + g) as f64)).collect();
    let cells = (0..64).map(row).collect();
    let html = one(Body::Matrix { rows: names, columns: groups, cells, center: 0.5 });
    let document = parsed(&html);
    let colored = named(&document, "td").into_iter().filter(|node| node.has_attribute("style"));
    assert_eq!(colored.count(), 64 * 50);
}

proptest! {
    #[test]
    fn any_curves_stay_inside_their_picture(
        points in prop::collection::vec(prop::collection::vec((any::<f64>(), any::<f64>()), 0..12), 0..6),
        even in any::<bool>(),
        name in any::<String>(),
    ) {
        let curve = |points: Vec<(f64, f64)>| {
            series(&name, true, points.into_iter().map(|(x, y)| Point { x, y, interval: Some((y, x)) }).collect())
        };
        let html = one(lines(even, points.into_iter().map(curve).collect()));
        let document = parsed(&html);
        for dot in named(&document, "circle") {
            prop_assert!((0.0..=720.0).contains(&number(dot, "cx")));
            prop_assert!((0.0..=670.0).contains(&number(dot, "cy")));
        }
    }

    #[test]
    fn nearly_equal_numbers_are_drawn(y in -1e12..1e12_f64, difference in 0.0..1e-6_f64, even in any::<bool>()) {
        let html = one(lines(even, vec![series("a", true, vec![point(y, y), point(y + difference, y + difference)])]));
        prop_assert!(named(&parsed(&html), "text").len() < 80);
    }
}
