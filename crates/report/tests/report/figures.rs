//! Figures are well-formed, say in words what they show, and draw what the record says.

use crate::records::{empty, flattered, honest, report, without_ready_made};
use equipoise_report::{Figure, Kind, Report, Scale, Series, svg_files};
use roxmltree::{Document, Node};

fn texts(node: Node) -> Vec<String> {
    let text = |n: Node| n.descendants().filter(Node::is_text).filter_map(|t| t.text()).collect::<String>();
    node.descendants().filter(|n| n.has_tag_name("text")).map(text).collect()
}

/// Elements that are filled or, if they are no areas, drawn in a colour.
fn elements<'a>(document: &'a Document, tag: &str, colour: &str) -> Vec<Node<'a, 'a>> {
    let painted = |n: &Node| match n.attribute("fill") {
        Some("none") => n.attribute("stroke") == Some(colour),
        fill => fill == Some(colour),
    };
    let wanted = |n: &Node| n.tag_name().name() == tag && painted(n);
    document.descendants().filter(wanted).collect()
}

fn number(node: Node, attribute: &str) -> f64 {
    node.attribute(attribute).unwrap().parse().unwrap()
}

#[test]
fn each_has_a_role_a_title_and_a_description() {
    let files = svg_files(&report(vec![flattered(), honest(), without_ready_made(), empty()]));
    assert_eq!(files.len(), 2 * 3 + 5, "two for each of three settings, one for each of five readouts");
    for file in files {
        let document = Document::parse(&file.contents).unwrap();
        let svg = document.root_element();
        assert_eq!(svg.attribute("role"), Some("img"));
        for tag in ["title", "desc"] {
            let child = svg.children().find(|n| n.tag_name().name() == tag).unwrap();
            assert!(!child.text().unwrap().is_empty());
            assert!(svg.attribute("aria-labelledby").unwrap().contains(child.attribute("id").unwrap()));
        }
        assert!(!file.contents.contains("NaN") && !file.contents.contains("inf"), "{}", file.name);
    }
}

#[test]
fn accuracies_stand_where_and_as_the_record_says() {
    let files = svg_files(&report(vec![flattered(), honest()]));
    let document = Document::parse(&files[0].contents).unwrap();
    let texts = texts(document.root_element());
    for expected in ["73.4%[69.4, 77.1]", "41.2%[37.0, 45.6]", "33.0%[29.0, 37.2]", "36.2%[32.1, 40.5]"] {
        assert!(texts.iter().any(|t| t == expected), "{expected} in {texts:?}");
    }
    // The axis is measured from its own labels.
    let at = |label: &str| {
        let tick = |n: &Node| n.has_tag_name("text") && n.text() == Some(label);
        number(document.descendants().find(tick).unwrap(), "x")
    };
    let place = |share: f64| at("0%") + share * (at("100%") - at("0%"));
    let clean: Vec<f64> = elements(&document, "circle", "#6d6a64").iter().map(|n| number(*n, "cx")).collect();
    let rows: Vec<f64> = clean[1..].to_vec(); // the first is the legend's
    for (drawn, share) in rows.iter().zip([0.734, 0.704]) {
        assert!((drawn - place(share)).abs() <= 0.1, "{drawn} {}", place(share));
    }
    let gaps = elements(&document, "rect", "#b93a12");
    assert!((number(gaps[1], "x") - place(0.330)).abs() <= 0.1);
    assert!((number(gaps[1], "width") - (place(0.412) - place(0.330))).abs() <= 0.1);
}

#[test]
fn attribution_accounts_for_every_image() {
    let files = svg_files(&report(vec![flattered()]));
    let document = Document::parse(&files[1].contents).unwrap();
    let titles: Vec<&str> =
        document.descendants().filter(|n| n.has_tag_name("title")).filter_map(|n| n.text()).skip(1).collect();
    let counts: Vec<usize> = titles
        .iter()
        .map(|t| t.rsplit_once(": ").unwrap().1.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(counts, [165, 3, 38, 161, 133], "{titles:?}");
    assert_eq!(counts.iter().sum::<usize>(), 500);
}

#[test]
fn a_record_that_does_not_add_up_shows_it() {
    let mut model = flattered();
    model.readouts[0].attacks.pop();
    let files = svg_files(&report(vec![model]));
    assert!(files[1].contents.contains("not attributed: 3 of 500 images"));
}

#[test]
fn the_cascade_goes_down_as_the_table_does() {
    let files = svg_files(&report(vec![flattered()]));
    let document = Document::parse(&files[2].contents).unwrap();
    let texts = texts(document.root_element());
    for expected in ["73.4%", "41.2%−161", "33.6%−38", "33.0%−3"] {
        assert!(texts.iter().any(|t| t == expected), "{expected} in {texts:?}");
    }
}

fn lines(y_scale: Scale, kind: Kind, points: &[(f64, f64)]) -> String {
    let band = Some(points.iter().map(|(_, y)| (y * 0.5, y * 2.0)).collect());
    let figure = Figure {
        title: "Relative residual, by iterate!".into(),
        y_scale,
        kind,
        series: vec![Series { name: "clean".into(), points: points.to_vec(), band }],
        ..Figure::default()
    };
    let mut files = svg_files(&Report { figures: vec![figure], ..Report::default() });
    let file = files.remove(0);
    assert_eq!(file.name, "01-relative-residual-by-iterate.svg");
    assert!(!file.contents.contains("NaN"));
    file.contents
}

/// Lines of the first series; its bands have thinner edges.
fn curves(document: &Document) -> usize {
    let lines = elements(document, "polyline", "#1f6fa8");
    lines.iter().filter(|line| line.attribute("stroke-width") == Some("2")).count()
}

#[test]
fn what_cannot_be_drawn_interrupts_the_curve() {
    let points = [(1.0, 1.0), (2.0, 0.1), (3.0, 0.0), (4.0, 0.01), (5.0, f64::NAN), (6.0, 0.02), (7.0, 0.03)];
    let svg = lines(Scale::Log, Kind::Lines, &points);
    let document = Document::parse(&svg).unwrap();
    assert_eq!(curves(&document), 3);
    let svg = lines(Scale::Linear, Kind::Lines, &points);
    let document = Document::parse(&svg).unwrap();
    assert_eq!(curves(&document), 2);
}

#[test]
fn charts_of_nothing_and_of_one_point() {
    for points in [&[][..], &[(1.0, 1.0)], &[(f64::INFINITY, 0.0)], &[(0.0, 0.0), (0.0, 0.0)]] {
        for scale in [Scale::Linear, Scale::Log] {
            for kind in [Kind::Lines, Kind::Points] {
                Document::parse(&lines(scale, kind, points)).unwrap();
            }
        }
    }
}

#[test]
fn figures_keep_their_gaps_in_json() {
    let figure = Figure {
        series: vec![Series { name: "a".into(), points: vec![(1.0, f64::NAN), (2.0, 0.5)], band: None }],
        ..Figure::default()
    };
    let text = serde_json::to_string(&figure).unwrap();
    let back: Figure = serde_json::from_str(&text).unwrap();
    assert!(back.series[0].points[0].1.is_nan());
    assert_eq!(back.series[0].points[1], (2.0, 0.5));
}
