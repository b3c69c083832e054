//! Several radii: one curve from ε = 0 on, and a verdict for each.

use crate::records::{report, two_radii};
use equipoise_report::{Format, render, svg_files};

#[test]
fn the_curve_begins_at_zero_with_clean_accuracy() {
    let files = svg_files(&report(vec![two_radii()]));
    let curve = files.iter().find(|file| file.contents.contains("in 1/255")).unwrap();
    for expected in [
        "ready-made, equal effort: from 73.4 at 0 to 39.6 at 8, 3 points",
        "white-box: from 73.4 at 0 to 31.6 at 8, 3 points",
        "ready-made, opening alone: from 73.4 at 0 to 41.2 at 8, 3 points",
    ] {
        assert!(curve.contents.contains(expected), "{expected}");
    }
    let bands = curve.contents.split("<polygon").skip(1).filter(|rest| rest.contains("fill-opacity"));
    assert_eq!(bands.count(), 2);
}

#[test]
fn every_radius_has_its_verdict() {
    for format in [Format::Markdown, Format::Html, Format::Latex] {
        let text = render(format, &report(vec![two_radii()])).unwrap();
        for expected in ["4/255", "8/255", "No gradient obfuscation", "Gradient obfuscation"] {
            assert!(text.contains(expected), "{format}: {expected}");
        }
    }
}
