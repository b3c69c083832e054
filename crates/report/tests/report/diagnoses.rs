//! Diagnoses in every format: figures with words, tables, images, what was not measured and why.

use crate::records::{diagnosis, flagged, report};
use equipoise_record::Diagnosis;
use equipoise_report::{Format, Report, ReportError, diagnosis_csv, diagnosis_summary, render, svg_files};
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
        "One gradient against one",
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
        "pgd-10x4 through through-solver against exact breaks 40.0 points more behind early(1)",
        "(4 to 0, p = 0.063, of which 30.0 are aim)",
    ] {
        assert!(deq.contains(expected), "{expected}: {deq}");
    }
    assert!(sentences[1].starts_with("resnet on "));
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
    let sweep = rows("sweep.csv");
    assert!(
        sweep.iter().any(|row| row.iter().take(6).eq(["deq", "eps", "1", "robust", "2", "10"])),
        "{sweep:?}"
    );
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
