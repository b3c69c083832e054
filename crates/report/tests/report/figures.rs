//! Figures are well-formed, say in words what they show, and draw what the record says.

use crate::arms::{self, Runs, model};
use crate::records::{empty, healthy, obfuscated, report, two_radii, without_ready_made};
use equipoise_report::{Figure, Kind, Mark, Report, Scale, Series, SvgFile, svg_files};
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

/// The first figure whose name has this in it.
fn file<'a>(files: &'a [SvgFile], part: &str) -> &'a SvgFile {
    let found = files.iter().find(|file| file.name.contains(part));
    found.unwrap_or_else(|| panic!("{part}: {:?}", files.iter().map(|f| &f.name).collect::<Vec<_>>()))
}

#[test]
fn each_has_a_role_a_title_and_a_description() {
    let files = svg_files(&report(vec![two_radii(), healthy(), without_ready_made(), empty()]));
    // Effort of two, two for each of three settings, the radii of one, one for each of five readouts.
    assert_eq!(files.len(), 2 + 2 * 3 + 1 + 5);
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
    let files = svg_files(&report(vec![obfuscated(), healthy()]));
    let document = Document::parse(&file(&files, "clean-ready-made").contents).unwrap();
    let texts = texts(document.root_element());
    for expected in ["73.4%[69.4, 77.1]", "39.6%[35.4, 44.0]", "31.6%[27.7, 35.8]", "35.6%[31.5, 39.9]"] {
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
    assert!((number(gaps[1], "x") - place(0.316)).abs() <= 0.1);
    assert!((number(gaps[1], "width") - (place(0.396) - place(0.316))).abs() <= 0.1);
}

#[test]
fn attribution_accounts_for_every_image() {
    let files = svg_files(&report(vec![obfuscated()]));
    let document = Document::parse(&file(&files, "which-attack").contents).unwrap();
    let titles: Vec<&str> =
        document.descendants().filter(|n| n.has_tag_name("title")).filter_map(|n| n.text()).skip(1).collect();
    let counts: Vec<(&str, usize)> = titles
        .iter()
        .map(|t| {
            let (says, count) = t.rsplit_once(": ").unwrap();
            (says, count.split(' ').next().unwrap().parse().unwrap())
        })
        .collect();
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<usize>(), 500, "{titles:?}");
    // Six fell in both arms and count for the white-box arm; two only to twins, which are restarts.
    assert_eq!(counts.first(), Some(&("robust", 158)), "{titles:?}");
    assert!(counts.contains(&("square without gradients", 2)), "{titles:?}");
    let restarts = counts.iter().filter(|(says, _)| says.ends_with("restarts")).map(|(_, count)| count);
    assert_eq!(restarts.sum::<usize>(), 2, "{titles:?}");
}

#[test]
fn a_record_that_does_not_add_up_shows_it() {
    let mut model = obfuscated();
    let broken = model.readouts[0].examples.iter_mut().filter(|e| e.broken_by.is_some());
    broken.take(3).for_each(|example| example.broken_by = None);
    let files = svg_files(&report(vec![model]));
    assert!(file(&files, "which-attack").contents.contains("not attributed: 3 of 500 images"));
}

#[test]
fn the_cascade_goes_down_as_the_table_does() {
    let files = svg_files(&report(vec![obfuscated()]));
    let document = Document::parse(&file(&files, "accuracy-after-each-run").contents).unwrap();
    let texts = texts(document.root_element());
    // The first twin breaks four of the points that the run before it has broken: nothing falls anew.
    for expected in ["73.4%", "43.6%−149", "41.2%−12", "36.4%−24"] {
        assert!(texts.iter().any(|t| t == expected), "{expected} in {texts:?}");
    }
}

#[test]
fn the_effort_of_each_arm_is_a_curve_from_the_opening_on() {
    let files = svg_files(&report(vec![obfuscated()]));
    let effort = file(&files, "accuracy-against-effort");
    assert!(effort.name.starts_with("01-"), "{}", effort.name);
    let document = Document::parse(&effort.contents).unwrap();
    let points = |colour: &str| {
        let curve = elements(&document, "polyline", colour).remove(0);
        let points: Vec<(f64, f64)> = curve
            .attribute("points")
            .unwrap()
            .split(' ')
            .map(|p| {
                let (x, y) = p.split_once(',').unwrap();
                (x.parse().unwrap(), y.parse().unwrap())
            })
            .collect();
        points
    };
    let (ready_made, white_box) = (points("#1f6fa8"), points("#b93a12"));
    assert_eq!((ready_made.len(), white_box.len()), (7, 7));
    assert_eq!(ready_made[0], white_box[0]);
    // Downwards on the page; the same number of runs, of which those through other gradients cost more.
    assert!(white_box[6].1 > ready_made[6].1 && white_box[6].0 > ready_made[6].0);
    let desc = document.descendants().find(|n| n.has_tag_name("desc")).unwrap().text().unwrap();
    assert!(desc.contains("from 41.2 at 0 to 39.6") && desc.contains("from 41.2 at 0 to 32.4"), "{desc}");
}

#[test]
fn without_counted_work_effort_is_the_number_of_runs() {
    let runs = Runs { feedforward: true, ..arms::healthy() };
    let files = svg_files(&report(vec![model("resnet", 500, vec![runs.record()])]));
    assert!(file(&files, "accuracy-against-effort").contents.contains("runs (a feedforward network"));
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

/// So many curves of four points with bands, each at its own height.
fn banded(count: usize, marks: Vec<Mark>) -> String {
    let series = (0..count).map(|k| {
        let points: Vec<(f64, f64)> = (1..=4).map(|t| (f64::from(t), (k + 1) as f64)).collect();
        let band = Some(points.iter().map(|(_, y)| (y - 0.25, y + 0.25)).collect());
        Series { name: format!("series {k}"), points, band }
    });
    let figure = Figure { series: series.collect(), marks, ..Figure::default() };
    svg_files(&Report { figures: vec![figure], ..Report::default() }).remove(0).contents
}

#[test]
fn more_than_two_bands_are_bars_that_do_not_hide_each_other() {
    let areas = |svg: &str| svg.matches("fill-opacity=\"0.14\"").count();
    let bars = |svg: &str, colour: &str| {
        let document = Document::parse(svg).unwrap();
        let bars = elements(&document, "line", colour);
        let bars = bars.iter().filter(|line| line.attribute("stroke-width") == Some("1.6"));
        bars.map(|line| number(*line, "x1")).collect::<Vec<f64>>()
    };
    for (count, expected) in [(1, 1), (2, 2), (3, 0), (7, 0)] {
        assert_eq!(areas(&banded(count, Vec::new())), expected, "{count}");
    }
    assert!(bars(&banded(2, Vec::new()), "#1f6fa8").is_empty());
    let three = banded(3, Vec::new());
    let places = ["#1f6fa8", "#b93a12", "#0b8a6a"].map(|colour| bars(&three, colour));
    for (k, at) in places[0].iter().enumerate() {
        // Side by side, around the point.
        let [a, b, c] = [*at, places[1][k], places[2][k]];
        assert!(a < b && b < c && (c - a - 6.0).abs() < 0.11, "{a} {b} {c}");
    }
    assert_eq!(places.map(|at| at.len()), [4, 4, 4]);
}

#[test]
fn marked_places_are_named_and_their_names_do_not_overlap() {
    let mark = |at: f64, says: &str| Mark { at, says: says.into() };
    let svg = banded(
        1,
        vec![mark(2.0, "deployed T = 2, one"), mark(2.5, "deployed T = 2.5, two"), mark(8.0, "far")],
    );
    let document = Document::parse(&svg).unwrap();
    let find = |says: &str| {
        let found = document.descendants().find(|n| n.has_tag_name("text") && n.text() == Some(says));
        found.unwrap_or_else(|| panic!("{says}"))
    };
    let (one, two) = (find("deployed T = 2, one"), find("deployed T = 2.5, two"));
    assert!(number(one, "y") - number(two, "y") > 11.0, "in rows of their own");
    // The axis holds what is marked, and the line stands where the axis says.
    let tick = find("8");
    let lines = document.descendants().filter(|n| n.attribute("stroke-dasharray") == Some("4 3"));
    let at: Vec<f64> = lines.map(|line| number(line, "x1")).collect();
    assert_eq!(at.len(), 3);
    assert!((at[2] - number(tick, "x")).abs() < 0.11 && (at[0] - number(find("2"), "x")).abs() < 0.11);
    assert!(
        document
            .root_element()
            .descendants()
            .any(|n| n.text().is_some_and(|t| t.contains("Marked at 8: far")))
    );
    // One that the axis cannot show is left out.
    let figure = Figure { x_scale: Scale::Log, marks: vec![mark(0.0, "nowhere")], ..Figure::default() };
    let svg = svg_files(&Report { figures: vec![figure], ..Report::default() }).remove(0).contents;
    assert!(!svg.contains("stroke-dasharray=\"4 3\""));
}
