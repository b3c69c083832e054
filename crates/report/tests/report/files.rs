//! Figures and tables as files, opened by the programs that people open them with. Where such a program is not
//! installed, its test is skipped and says so.

use crate::records::{diagnosis, flagged, healthy, obfuscated, report, two_radii, without_ready_made};
use crate::trainings;
use equipoise_report::{Figure, Format, Report, Scale, Series, pdf_files, render, svg_files};
use roxmltree::Document;
use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The colours of the first four curves.
const SERIES: [[u8; 3]; 4] = [[0x1f, 0x6f, 0xa8], [0xb9, 0x3a, 0x12], [0x0b, 0x8a, 0x6a], [0x8a, 0x4f, 0x9e]];

/// Everything that a report draws, and four curves with bands over each other.
fn whole() -> Report {
    let series = |k: u32| {
        let point = |t: u32| (f64::from(t), 0.5f64.powi(t as i32) / f64::from(k + 1));
        let points: Vec<(f64, f64)> = (1..=8).map(point).collect();
        let band = Some(points.iter().map(|(_, y)| (0.4 * y, 2.5 * y)).collect());
        Series { name: format!("series {k}"), points, band }
    };
    let curves = Figure {
        title: "Four bands".into(),
        x_label: "ε".into(),
        y_label: "‖f(z) − z‖".into(),
        y_scale: Scale::Log,
        series: (0..4).map(series).collect(),
        ..Figure::default()
    };
    let mut other = diagnosis();
    other.eps = 4.0 / 255.0;
    let mut radii = two_radii();
    radii.model = "radii".into();
    Report {
        diagnoses: vec![diagnosis(), other],
        trainings: vec![trainings::whole(), trainings::diverged()],
        figures: vec![curves],
        ..report(vec![flagged(), healthy(), without_ready_made(), radii])
    }
}

/// Runs a program; `None`, with the reason printed, where there is none of that name.
fn tool(name: &str, arguments: &[&str], at: &Path) -> Option<Output> {
    match Command::new(name).args(arguments).current_dir(at).stdin(Stdio::null()).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: {name} does not start ({error})");
            None
        }
    }
}

fn pixels(png: &[u8]) -> Vec<[u8; 3]> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(png));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut bytes).unwrap();
    let samples = frame.color_type.samples();
    assert!(samples >= 3, "a picture without colours");
    bytes[..frame.buffer_size()].chunks_exact(samples).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
}

/// That each colour is there, and not only in a legend's mark: renderers may differ in the last digits.
fn shows(pixels: &[[u8; 3]], colours: &[[u8; 3]], what: &str) {
    for colour in colours {
        let near = |pixel: &&[u8; 3]| pixel.iter().zip(colour).all(|(a, b)| a.abs_diff(*b) <= 6);
        let count = pixels.iter().filter(near).count();
        assert!(count > 200, "{what}: {count} pixels of {colour:?}");
    }
}

#[test]
fn svg_states_every_colour_in_full() {
    for file in svg_files(&whole()) {
        for forbidden in ["var(", "@media", "<style", "class=", "currentColor", "inherit"] {
            assert!(!file.contents.contains(forbidden), "{}: {forbidden}", file.name);
        }
        let document = Document::parse(&file.contents).unwrap();
        let root = document.root_element();
        assert!(root.attribute("font-family").unwrap().ends_with("sans-serif"));
        assert!(root.attribute("width").is_some() && root.attribute("height").is_some());
        let literal = |colour: &str| {
            colour == "none"
                || (colour.starts_with('#') && colour[1..].chars().all(|c| c.is_ascii_hexdigit()))
        };
        let drawn = ["line", "rect", "circle", "polygon", "polyline", "text"];
        for node in document.descendants().filter(|n| drawn.contains(&n.tag_name().name())) {
            let fill = node.attribute("fill").unwrap_or_else(|| panic!("{}: {node:?}", file.name));
            let stroke = node.attribute("stroke").unwrap_or("none");
            assert!(literal(fill) && literal(stroke), "{}: {fill} {stroke}", file.name);
            assert!((fill, stroke) != ("none", "none"), "{}: {node:?} is invisible", file.name);
        }
    }
}

#[test]
fn the_page_keeps_its_variables() {
    let page = render(Format::Html, &whole()).unwrap();
    let drawings: Vec<&str> =
        page.split("<svg").skip(1).filter_map(|svg| svg.split("</svg>").next()).collect();
    assert!(drawings.iter().all(|svg| svg.contains("fill=\"var(--") && !svg.contains("fill=\"#")));
    // What a drawing names is there, light and dark.
    let names: HashSet<&str> = drawings
        .iter()
        .flat_map(|svg| svg.split("var(").skip(1))
        .filter_map(|rest| rest.split(')').next())
        .collect();
    for name in names {
        assert_eq!(page.matches(&format!("{name}:#")).count(), 2, "{name}");
    }
}

#[test]
fn names_tell_figures_apart() {
    let files = svg_files(&whole());
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let apart: HashSet<&str> = names.iter().map(|name| name.split_once('-').unwrap().1).collect();
    assert_eq!(apart.len(), names.len(), "but for their numbers: {names:?}");
    let by_eps = names.iter().filter(|name| name.contains("accuracy-by-eps"));
    let radii: Vec<bool> = by_eps.map(|name| name.contains("eps-8-255")).collect();
    assert_eq!(radii, [true, false], "{names:?}");
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    assert!(names.iter().all(|name| name.len() < 140 && name.chars().all(allowed)));
    let pdfs = pdf_files(&whole()).unwrap();
    let stems = |name: &str| name.rsplit_once('.').unwrap().0.to_owned();
    assert!(pdfs.iter().map(|f| stems(&f.name)).eq(names.iter().map(|name| stems(name))));
}

#[test]
fn svg_is_drawn_by_librsvg() {
    let folder = tempfile::tempdir().unwrap();
    let file = svg_files(&whole()).pop().unwrap();
    std::fs::write(folder.path().join("figure.svg"), file.contents).unwrap();
    let Some(output) = tool("rsvg-convert", &["figure.svg"], folder.path()) else { return };
    assert!(output.status.success(), "{output:?}");
    shows(&pixels(&output.stdout), &SERIES, "rsvg-convert");
}

#[test]
fn pdfs_are_the_same_every_time_and_hold_their_fonts() {
    let files = pdf_files(&whole()).unwrap();
    assert_eq!(files, pdf_files(&whole()).unwrap());
    for file in files {
        let text = String::from_utf8_lossy(&file.contents);
        assert!(text.starts_with("%PDF-1.4") && text.trim_end().ends_with("%%EOF"), "{}", file.name);
        assert_eq!(text.matches("/Type /Page\n").count(), 1, "{}", file.name);
        // Each font with its file, and with what its glyphs stand for.
        let fonts = text.matches("/Subtype /Type0").count();
        assert!(fonts >= 1 && text.matches("/FontFile2").count() == fonts, "{}", file.name);
        assert_eq!(text.matches("/ToUnicode").count(), fonts, "{}", file.name);
        for forbidden in ["/CreationDate", "/ModDate", "/Subtype /Image", "/Subtype /Type1"] {
            assert!(!text.contains(forbidden), "{}: {forbidden}", file.name);
        }
        assert!(file.contents.len() < 60_000, "{}: {} bytes", file.name, file.contents.len());
    }
}

#[test]
fn pdf_is_drawn_and_read_by_poppler() {
    let folder = tempfile::tempdir().unwrap();
    let file = pdf_files(&whole()).unwrap().pop().unwrap();
    std::fs::write(folder.path().join("figure.pdf"), file.contents).unwrap();
    if let Some(output) = tool("pdftoppm", &["-png", "-r", "96", "figure.pdf"], folder.path()) {
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        shows(&pixels(&output.stdout), &SERIES, "pdftoppm");
    }
    if let Some(output) = tool("pdftotext", &["figure.pdf", "-"], folder.path()) {
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        for expected in ["series 0", "series 3", "‖f(z) − z‖", "ε", "10⁻¹"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
    if let Some(output) = tool("pdffonts", &["figure.pdf"], folder.path()) {
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.lines().count() == 3, "{text}");
        // Embedded, a subset, with its characters.
        assert!(text.contains("DejaVuSansCondensed") && text.contains("yes yes yes"), "{text}");
    }
    if let Some(output) = tool("qpdf", &["--check", "figure.pdf"], folder.path()) {
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn what_the_font_lacks_is_written_as_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = obfuscated();
    model.model = "模".into();
    let files = pdf_files(&report(vec![model])).unwrap();
    let file = files.into_iter().find(|file| file.name.contains("clean-ready-made")).unwrap();
    std::fs::write(folder.path().join("figure.pdf"), file.contents).unwrap();
    let Some(output) = tool("pdftotext", &["figure.pdf", "-"], folder.path()) else { return };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("[U+6A21]"), "{text}");
}

#[test]
fn latex_compiles_with_its_figures() {
    let folder = tempfile::tempdir().unwrap();
    let packages = ["booktabs.sty", "adjustbox.sty", "graphicx.sty"];
    match tool("kpsewhich", &packages, folder.path()) {
        None => return,
        Some(output) if !output.status.success() => {
            eprintln!("skipped: this TeX has not all of {packages:?}");
            return;
        }
        Some(_) => {}
    }
    let mut report = whole();
    report.models[1].model = "a_b & 50% {x} ~^ é 模 [y] <z>".into();
    let file = pdf_files(&report).unwrap().pop().unwrap();
    std::fs::write(folder.path().join("figure.pdf"), file.contents).unwrap();
    std::fs::write(folder.path().join("tables.tex"), render(Format::Latex, &report).unwrap()).unwrap();
    let document = "\\documentclass{article}\\usepackage{booktabs}\\usepackage{adjustbox}\\usepackage{graphicx}\n\
                    \\begin{document}\\input{tables}\\noindent\\includegraphics[width=\\linewidth]{figure}\\end{document}\n";
    std::fs::write(folder.path().join("document.tex"), document).unwrap();
    let arguments = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "document.tex"];
    // Twice, for the references.
    for _ in 0..2 {
        let Some(output) = tool("pdflatex", &arguments, folder.path()) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let log =
        String::from_utf8_lossy(&std::fs::read(folder.path().join("document.log")).unwrap()).into_owned();
    for warning in ["undefined references", "multiply defined", "PDF inclusion", "Overfull"] {
        assert!(!log.contains(warning), "{warning}: {log}");
    }
}

#[test]
fn labels_are_unique_and_every_reference_has_its_label() {
    let mut report = whole();
    report.models.push(flagged());
    let latex = render(Format::Latex, &report).unwrap();
    let within = |command: &str| -> Vec<String> {
        let parts = latex.split(command).skip(1);
        parts.filter_map(|rest| rest.split('}').next()).map(str::to_owned).collect()
    };
    let labels = within("\\label{");
    let unique: HashSet<&String> = labels.iter().collect();
    assert_eq!((labels.len(), unique.len()), (latex.matches("\\begin{table}").count(), labels.len()));
    assert!(within("\\ref{").iter().all(|label| unique.contains(label)));
    assert!(unique.contains(&"tab:attacks-other-early-3".to_owned()), "{labels:?}");
    // Each kind of table says once what its columns hold.
    for about in ["Every run in order.", "One against one:", "A run through another gradient and its twin"] {
        assert_eq!(latex.matches(about).count(), 1, "{about}");
    }
    for label in ["tab:verdict", "tab:radii-radii-final", "tab:comparison", "tab:effort-trades-final"] {
        assert!(labels.iter().any(|found| found.starts_with(label)), "{label}: {labels:?}");
    }
    assert!(latex.find("\\label{tab:accuracy-").unwrap() < latex.find("Wilson").unwrap());
    assert!(latex.contains("$z_1$") && !latex.contains("z\\_1"));
}
