//! Diagnoses in every format: figures with words, tables, images, what was not measured and why.

use crate::records::{diagnosis, flagged, report};
use equipoise_record::{Diagnosis, ModelDiagnosis};
use equipoise_report::{
    Format, Report, ReportError, csv_files, diagnosis_csv, diagnosis_summary, render, svg_files,
};
use serde_json::Value;

/// The same up to the last digit, which is lost on the way through decimal numbers.
fn close(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-15 * a.abs().max(b.abs())
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| close(a, b)))
        }
        (a, b) => a == b,
    }
}

fn whole() -> Report {
    Report { diagnoses: vec![diagnosis()], ..report(vec![flagged()]) }
}

#[test]
fn every_section_is_in_the_page() {
    let page = render(Format::Html, &whole()).unwrap();
    for expected in [
        "Relative residual by iterate",
        "Images that have reached the tolerance",
        "Accuracy of every iterate",
        "deq: gradients for the readout final",
        "deq: gradients for the readout early(t)",
        "deq: loss along lines through the images",
        "Spectral radius",
        "Accuracy by ε",
        "Accuracy by solver steps",
        "Not measured for resnet: a feedforward network has no fixed-point solver.",
        "id=\"gallery\"",
        "▲ raised",
        "broken by square alone",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    // What is seen is said: every figure has words, every image an alternative.
    assert_eq!(page.matches("<svg").count(), page.matches("<desc").count());
    assert_eq!(page.matches("<img").count(), 3);
    assert!(page.contains("alt=\"deq, image 4, perturbation, scaled; true class cat\""));
    // Nothing is fetched: the images are in the page.
    assert_eq!(page.matches(" src=\"data:image/png;base64,").count(), page.matches(" src=").count());
    assert!(!page.contains("<script"));
    let verdict = page.find("id=\"verdict\"").unwrap();
    let findings = page.find("id=\"findings\"").unwrap();
    assert!(verdict < findings && findings < page.find("id=\"diagnosis\"").unwrap());
}

#[test]
fn images_decode_to_what_the_record_holds() {
    use base64::Engine;
    let page = render(Format::Html, &whole()).unwrap();
    let texts = page.split("data:image/png;base64,").skip(1).map(|rest| rest.split('"').next().unwrap());
    let pixels: Vec<Vec<u8>> = texts
        .map(|text| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
            let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let frame = reader.next_frame(&mut pixels).unwrap();
            assert_eq!((frame.width, frame.height), (2, 1));
            assert_eq!(frame.color_type, png::ColorType::Rgb);
            pixels.truncate(frame.buffer_size());
            pixels
        })
        .collect();
    // Two pixels of three channels: planes in the record, interleaved in the file.
    assert_eq!(pixels[0], [0, 2, 4, 1, 3, 5]);
    assert_eq!(pixels.len(), 3);
}

#[test]
fn a_gallery_of_another_shape_is_refused() {
    let mut broken = diagnosis();
    broken.diagnosed[0].gallery.as_mut().unwrap().result.as_mut().unwrap().items[0].attacked.pop();
    let error = render(Format::Html, &Report { diagnoses: vec![broken], ..Report::default() });
    assert!(matches!(error, Err(ReportError::Png { index: 4, .. })));
}

#[test]
fn sentences_carry_their_numbers() {
    let sentences = diagnosis_summary(&diagnosis());
    let deq = &sentences[0];
    for expected in [
        "deq on CIFAR-10 (JPEG), test, L∞ ε = 8/255, 10 images: 90.0% correct when clean and 40.0% [16.8, 68.7]",
        "60.0% if z_1 is read",
        "20.0% survive even ε = 1, where nothing should",
        "cosine to the true one is 0.5 (median)",
    ] {
        assert!(deq.contains(expected), "{expected}: {deq}");
    }
    assert!(sentences[1].starts_with("resnet on "));
}

#[test]
fn one_gradient_against_one_splits_into_aim_and_gradient() {
    let one = diagnosis();
    let sentence = &diagnosis_summary(&one)[0];
    let expected = "the difference is largest behind early(1): through-solver alone broke 5 images that exact from as \
                    many starts did not, and 0 the other way round (50.0 points [";
    assert!(sentence.contains(expected), "{sentence}");
    let split = "p = 0.031, of which 40.0 are aim and 10.0 gradient)";
    assert!(sentence.contains(split), "{sentence}");

    let markdown = render(Format::Markdown, &whole()).unwrap();
    let row = |start: &str| markdown.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    let cells = |row: &str| row.split(" | ").map(str::to_owned).collect::<Vec<_>>();
    let early = cells(row("| deq | early(1) | 9 |"));
    assert_eq!(early[3..6], ["2 exact", "6 aimed(exact)", "7 through-solver"], "{markdown}");
    for (cell, points) in early[6..].iter().zip(["50.0 [", "40.0 [", "10.0 ["]) {
        assert!(cell.starts_with(points) && cell.contains("] p = "), "{early:?}");
    }
    // The training gradient reads `final` itself: nothing to aim, so all of it is gradient.
    let last = cells(row("| deq | final | 9 |"));
    assert_eq!((last[4].as_str(), last[7].as_str()), ("–", "–"));
    assert!(last[6].starts_with("10.0 [") && last[8].starts_with("10.0 ["), "{last:?}");

    let page = render(Format::Html, &whole()).unwrap();
    let at = |says: &str| page.find(says).unwrap_or_else(|| panic!("{says}"));
    assert!(at(">Gradients<") < at(">One gradient against one<"));
    assert!(at(">One gradient against one<") < at(">Loss landscape<"));

    let files = diagnosis_csv(&one).unwrap();
    let (_, text) = files.iter().find(|(name, _)| name == "yardstick.csv").unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
    let measures: Vec<&str> = rows.iter().map(|row| &row[5]).collect();
    assert_eq!(measures, ["total", "gradient", "total", "aim", "gradient"]);
    let expected =
        ["early(1)", "pgd-10x4", "10", "9", "gradient", "through-solver", "7", "aimed(exact)", "6", "1"];
    assert!(rows[4].iter().skip(1).take(10).eq(expected), "{:?}", rows[4]);
}

#[test]
fn every_section_is_in_the_costs() {
    let page = render(Format::Html, &Report { diagnoses: vec![diagnosis()], ..Report::default() }).unwrap();
    // Twelve of 1.5 seconds, and that of the network without a solver.
    let costs = "It took 19.5 s, 260 evaluations of the cell and 52 vector-Jacobian products";
    assert!(page.contains(costs), "{}", page.split("It took").nth(1).unwrap_or_default());
}

#[test]
fn csv_has_a_row_for_each_number() {
    let files = diagnosis_csv(&diagnosis()).unwrap();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "residual.csv",
        "accuracy.csv",
        "alignment.csv",
        "yardstick.csv",
        "landscape.csv",
        "spectrum.csv",
        "sweep.csv",
        "distance.csv",
        "targets.csv",
        "work.csv",
        "starts.csv",
        "gallery.csv",
    ];
    assert_eq!(names, expected);
    let rows = |name: &str| {
        let text = &files.iter().find(|(found, _)| found == name).unwrap().1;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        reader.records().map(|row| row.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(rows("residual.csv").len(), 2 * (2 + 2 + 2));
    assert_eq!(rows("accuracy.csv").len(), 2 * 2 + 2 * 2);
    // One attack, the least, and two radii; every pair of three classes; two numbers a side; six of each kind of images.
    let lengths = ["distance.csv", "targets.csv", "work.csv", "starts.csv"].map(|name| rows(name).len());
    assert_eq!(lengths, [1 + 1 + 2, 3 * 2, 2 * 2, 2 * 6]);
    let sweep = rows("sweep.csv");
    assert!(
        sweep.iter().any(|row| row.iter().take(6).eq(["deq", "eps", "1", "robust", "2", "10"])),
        "{sweep:?}"
    );
}

#[test]
fn csv_files_of_several_diagnoses_do_not_replace_each_other() {
    let mut other = diagnosis();
    other.diagnosed[0].model = "other".into();
    let report = Report { diagnoses: vec![diagnosis(), other], ..Report::default() };
    let files = csv_files(&report).unwrap();
    let of = |wanted: &str| {
        let found: Vec<&str> =
            files.iter().filter(|(name, _)| name == wanted).map(|(_, text)| text.as_str()).collect();
        assert_eq!(found.len(), 1, "{wanted}");
        found[0]
    };
    let (first, second) = (of("sweep.csv"), of("sweep-2.csv"));
    assert!(first.contains("\ndeq,") && second.contains("\nother,"));
    assert_eq!(files.len(), 2 * ModelDiagnosis::SECTIONS.len());
}

#[test]
fn a_diagnosis_survives_json_and_stands_in_markdown_and_latex() {
    let alone = Report { diagnoses: vec![diagnosis()], ..Report::default() };
    let json = render(Format::Json, &alone).unwrap();
    let back = serde_json::to_value(serde_json::from_str::<Diagnosis>(&json).unwrap()).unwrap();
    assert!(close(&back, &serde_json::to_value(diagnosis()).unwrap()), "{back}");
    let both = render(Format::Json, &whole()).unwrap();
    let both: equipoise_record::Collection = serde_json::from_str(&both).unwrap();
    assert_eq!((both.models.len(), both.diagnoses.len()), (1, 1));
    let markdown = render(Format::Markdown, &whole()).unwrap();
    assert!(markdown.contains("## Findings") && markdown.contains("black-box-beats-white-box, **raised**"));
    assert!(markdown.contains("### Jacobian"));
    let latex = render(Format::Latex, &whole()).unwrap();
    assert!(latex.contains("Spectral radius") && !latex.contains('‖'));
    assert!(svg_files(&alone).len() >= 7);
}
