//! Gaps against residuals and cosines: points are matched, told apart, fitted over training runs, and what is missing is
//! said.

use crate::arms::{Pair, Runs, model};
use crate::records::{diagnosis, report};
use equipoise_record::{Cosine, Diagnosis, Evaluation, Finding, ModelDiagnosis, Section, Spread, View};
use equipoise_report::{Format, Report, SvgFile, dose_csv, render, svg_files};
use roxmltree::Document;
use serde_json::json;

const IMAGES: usize = 400;
const READOUTS: [&str; 3] = ["final", "early(1)", "early(2)"];

/// A model after an epoch of a training run.
#[derive(Clone, Copy)]
struct Trained {
    name: &'static str,
    seed: u64,
    epoch: u64,
}

impl Trained {
    fn hash(self) -> String {
        format!("{}-{}-{}", self.name, self.seed, self.epoch)
    }

    /// Evaluated behind some readouts, whose white-box arm broke so many images beyond its twins.
    fn evaluated(self, gradient: &'static str, gaps: &[(&'static str, usize)]) -> Evaluation {
        let of = |&(readout, white_box): &(&'static str, usize)| {
            let pair = Pair { attack: "pgd-10", gradient, white_box, twin: 0, aimed: 0 };
            let opening: &[(&str, usize)] = &[("pgd-10", 100)];
            let pairs = vec![pair];
            let mut record =
                Runs { readout, count: IMAGES, clean: 300, opening, pairs, ..Runs::default() }.record();
            // To conclude so many takes seconds: up to a million images are tried for each that is undecided.
            record.verdict.finding = Finding::Undecided;
            record
        };
        let mut one = model(self.name, IMAGES, Vec::new());
        one.readouts = gaps.iter().map(of).collect();
        let training =
            json!({ "recipe": {}, "seed": self.seed, "epoch": self.epoch, "step": 100 * self.epoch });
        one.configuration = json!({
            "model": { "name": self.name, "training": training }, "model_sha256": self.hash(),
        });
        one
    }

    /// Diagnosed: a solver of three steps with these residuals, and a cosine of 1 less each of them.
    fn diagnosed(self, residuals: [f64; 3]) -> ModelDiagnosis {
        let mut one = diagnosis().diagnosed.swap_remove(0);
        one.model = self.name.into();
        one.configuration = json!({ "model_sha256": self.hash() });
        one.solver_steps = Some(3);
        let residual = one.residual.as_mut().unwrap().result.as_mut().unwrap();
        for view in &mut residual.views {
            let attacked = if view.view == View::Attacked { 2.0 } else { 1.0 };
            view.by_iterate = residuals.map(|r| Spread::of([attacked * r])).to_vec();
        }
        let cosine = |readout: &str, t: usize| Cosine {
            view: View::Clean,
            readout: readout.into(),
            estimator: "exact".into(),
            family: "exact".into(),
            t: None,
            cosine: Spread::of([1.0 - residuals[t - 1]]),
            zero: 0,
        };
        let cosines = vec![cosine("final", 3), cosine("early(1)", 1), cosine("early(2)", 2)];
        one.alignment.as_mut().unwrap().result.as_mut().unwrap().cosines = cosines;
        one
    }
}

fn diagnosis_of(diagnosed: Vec<ModelDiagnosis>) -> Diagnosis {
    Diagnosis { diagnosed, ..diagnosis() }
}

/// Six training runs of two epochs, whose gap grows by four points with every tenfold residual; each run has a little more
/// or less of a gap than the others.
fn family(runs: u64) -> (Vec<Evaluation>, Vec<Diagnosis>) {
    let (mut models, mut diagnoses) = (Vec::new(), Vec::new());
    for seed in 0..runs {
        for epoch in [2, 4] {
            let one = Trained { name: "deq", seed, epoch };
            let moved = 0.1 * seed as f64 + 0.05 * epoch as f64;
            let residuals = [-0.9, -1.6, -3.0].map(|exponent: f64| 10_f64.powf(exponent + moved));
            let own = [-0.006, 0.006, 0.002, -0.004, 0.004, -0.002][seed as usize % 6];
            let broken = |t: usize| {
                let gap = 0.04 * (residuals[t - 1].log10() + 3.0) + own;
                (IMAGES as f64 * gap).round().max(0.0) as usize
            };
            let gaps = [("final", broken(3)), ("early(1)", broken(1)), ("early(2)", broken(2))];
            models.push(one.evaluated("through-solver", &gaps));
            diagnoses.push(diagnosis_of(vec![one.diagnosed(residuals)]));
        }
    }
    (models, diagnoses)
}

fn page(models: Vec<Evaluation>, diagnoses: Vec<Diagnosis>) -> Report {
    Report { diagnoses, ..report(models) }
}

fn rows(models: &[Evaluation], diagnoses: &[Diagnosis]) -> Vec<csv::StringRecord> {
    let text = dose_csv(models, diagnoses).unwrap().unwrap();
    csv::Reader::from_reader(text.as_bytes()).records().map(|row| row.unwrap()).collect()
}

/// The figures of this section.
fn drawn(report: &Report) -> Vec<SvgFile> {
    let mut files = svg_files(report);
    files.retain(|file| file.name.contains("gap-against"));
    files
}

/// The first number after some words, then those of the interval that follows it.
fn estimate(text: &str, before: &str) -> [f64; 3] {
    let at = text.find(before).unwrap_or_else(|| panic!("{before}: {text}")) + before.len();
    let rest = text[at..].replace('−', "-");
    let number = |part: &str| part.trim().trim_end_matches(" points, 95% interval").parse().unwrap();
    let (value, rest) = rest.split_once('[').unwrap();
    let (low, rest) = rest.split_once(", ").unwrap();
    [number(value), number(low), number(rest.split_once(']').unwrap().0)]
}

#[test]
fn the_planted_slope_lies_in_its_interval() {
    let (models, diagnoses) = family(6);
    let markdown = render(Format::Markdown, &page(models, diagnoses)).unwrap();
    let start = "- CIFAR-10 (JPEG), test, L∞ ε = 8/255, 400 images. Gap against residual, true gradient: 36 points of 6 \
                 training runs; ";
    let line = markdown.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{markdown}"));
    let [slope, low, high] = estimate(line, "with every tenfold residual the gap grows by ");
    assert!(low <= 4.0 && 4.0 <= high && low < slope && slope < high, "{line}");
    assert!((slope - 4.0).abs() < 0.5 && high - low < 2.0, "{line}");
    let [rank, low, _] = estimate(line, "Spearman's rank correlation ");
    assert!(rank > 0.8 && low > 0.5, "{line}");
    // A gap of a point lies at 10^-2.75, and what the bound shows lies above it.
    let onset = line.split("from the residual ").nth(1).unwrap().split(' ').next().unwrap();
    let onset: f64 = onset.parse().unwrap();
    assert!((1.8e-3..4e-2).contains(&onset), "{line}");
    // The cosine falls as the gap grows.
    let line = markdown.lines().find(|line| line.contains("Gap against cosine, true gradient: 36")).unwrap();
    assert!(estimate(line, "Spearman's rank correlation ")[0] < -0.8, "{line}");
    assert!(estimate(line, "with every 0.1 that the cosine falls the gap grows by ")[0] > 0.0, "{line}");
}

#[test]
fn epochs_of_one_run_are_one_cluster_and_seeds_are_several() {
    let (models, diagnoses) = family(6);
    let rows = rows(&models, &diagnoses);
    let cluster = |at: usize| rows[at][1].to_owned();
    // Three readouts of two epochs.
    assert!((0..6).all(|at| cluster(at) == "deq (seed 0)") && cluster(6) == "deq (seed 1)");
    assert_eq!((&rows[0][2], &rows[3][2]), ("2", "4"));
    // The same models as if each had been trained on its own: the interval ignores what a run's models share.
    let mut alone = models.clone();
    for one in &mut alone {
        let hash = one.configuration["model_sha256"].clone();
        one.configuration["model"]["training"]["recipe"] = json!({ "of": hash });
    }
    let markdown = |models| render(Format::Markdown, &page(models, diagnoses.clone())).unwrap();
    let (clustered, alone) = (markdown(models), markdown(alone));
    assert!(
        clustered.contains("36 points of 6 training runs") && alone.contains("36 points of 12 training runs")
    );
}

#[test]
fn with_few_training_runs_no_trend_is_fitted() {
    let (models, diagnoses) = family(3);
    let report = page(models, diagnoses);
    let markdown = render(Format::Markdown, &report).unwrap();
    let expected = "18 points of 3 training runs; with fewer than 4 training runs no trend is fitted.";
    assert_eq!(markdown.matches(expected).count(), 2 * 2, "in a sentence and in a caption: {markdown}");
    let files = drawn(&report);
    assert!(files.len() == 2 && files.iter().all(|file| !file.contents.contains("fit that never falls")));
}

#[test]
fn points_are_matched_by_hash_and_not_by_name() {
    let [one, two] = [("one", 1), ("two", 2)].map(|(name, seed)| Trained { name, seed, epoch: 1 });
    let models = vec![
        one.evaluated("through-solver", &[("final", 4)]),
        two.evaluated("through-solver", &[("final", 8)]),
    ];
    // Each diagnosed under the other's name.
    let renamed = |trained: Trained, name: &str, residual| {
        let mut found = trained.diagnosed([0.9, 0.8, residual]);
        found.model = name.into();
        found
    };
    let swapped = diagnosis_of(vec![renamed(two, "one", 0.02), renamed(one, "two", 0.01)]);
    let residuals = |models: &[Evaluation], diagnoses: &[Diagnosis]| -> Vec<String> {
        rows(models, diagnoses).iter().map(|row| row[5].to_owned()).collect()
    };
    assert_eq!(residuals(&models, std::slice::from_ref(&swapped)), ["0.01", "0.02"]);
    // Without a hash the name is all there is.
    let mut unhashed = swapped.clone();
    unhashed.diagnosed.iter_mut().for_each(|model| model.configuration = json!({}));
    assert_eq!(residuals(&models, &[unhashed.clone()]), ["0.02", "0.01"]);
    // A name that two files have says nothing.
    let mut namesakes = models.clone();
    let third = Trained { name: "one", seed: 3, epoch: 1 };
    namesakes.push(third.evaluated("through-solver", &[("final", 8), ("early(1)", 9)]));
    let mut both = vec![unhashed];
    both.push(diagnosis_of(vec![Trained { name: "two", seed: 2, epoch: 1 }.diagnosed([0.9, 0.8, 0.5])]));
    assert!(dose_csv(&namesakes, &both).unwrap().is_none(), "one point is left, of `two`, by its hash");
    both.push(diagnosis_of(vec![one.diagnosed([0.9, 0.8, 0.3])]));
    assert_eq!(residuals(&namesakes, &both), ["0.3", "0.5"]);
    let markdown = render(Format::Markdown, &page(namesakes, both)).unwrap();
    assert!(markdown.contains("of a name that several models have, so no point: one."), "{markdown}");
    // The hash of another file is no match, whatever the name.
    let other = diagnosis_of(vec![Trained { epoch: 9, ..one }.diagnosed([0.1; 3]), two.diagnosed([0.1; 3])]);
    assert!(dose_csv(&models, &[other]).unwrap().is_none());
}

#[test]
fn what_is_missing_is_said() {
    let (mut models, mut diagnoses) = family(4);
    // No residual; no cosine; another data set; nothing diagnosed; no control; nothing left; an ensemble.
    diagnoses[0].diagnosed[0].residual = None;
    diagnoses[1].diagnosed[0].alignment = Some(Section::absent("solved by another method"));
    diagnoses[2].dataset = "digits, test".into();
    let named = |name, readouts: Vec<_>| {
        let mut one = Trained { name, seed: 9, epoch: 1 }.evaluated("through-solver", &[]);
        one.readouts = readouts;
        one
    };
    models.push(named("alone", vec![]));
    let no_control = Runs { count: IMAGES, control: false, ..crate::arms::healthy() };
    let nothing_left =
        Runs { count: IMAGES, clean: 300, opening: &[("pgd-10", 300)], ..crate::arms::nothing_left() };
    let ensemble = Runs { readout: "ensemble-states", count: IMAGES, ..crate::arms::healthy() };
    let mut more = named("more", [no_control, nothing_left, ensemble].iter().map(Runs::record).collect());
    equipoise_verdict::conclude(std::slice::from_mut(&mut more));
    models.push(more);
    diagnoses
        .push(diagnosis_of(vec![Trained { name: "more", seed: 9, epoch: 1 }.diagnosed([0.8, 0.1, 0.0125])]));

    let rows = rows(&models, &diagnoses);
    assert_eq!(rows.len(), 7 * 3 + 2);
    assert!(rows[..3].iter().all(|row| row[5].is_empty() && !row[6].is_empty()));
    assert!(rows[3..6].iter().all(|row| !row[5].is_empty() && row[6].is_empty()));
    // They had other gradients, so they are of other rungs.
    let [ensemble, nothing] = [&rows[21], &rows[22]];
    assert_eq!((&nothing[16], &nothing[17]), ("no-robustness-left", "false"));
    // The geometric mean of three states, of no cosine, in no fit.
    assert_eq!((&ensemble[3], &ensemble[6], &ensemble[17]), ("ensemble-states", "", "false"));
    assert!((ensemble[5].parse::<f64>().unwrap() - 0.1).abs() < 1e-9, "{ensemble:?}");

    let report = page(models, diagnoses);
    let notes = [
        "Without a diagnosis in this report, so no point: alone.",
        "Diagnosed on another data set only, so no point: deq.",
        "Without a control, so no point: more, final.",
        "No robustness left, so neither drawn nor fitted: more, final.",
        "No residual of what it reads in the diagnoses, so not in that figure: deq, final; deq, early(1); deq, early(2).",
        "No cosine of the training gradient behind it in the diagnoses, so not in that figure: deq, final; deq, early(1); \
         deq, early(2).",
        "Gap against residual, true gradient: 18 points of 4 training runs",
        "Gap against residual, other gradients: 0 points of 0 training runs; there is nothing to fit.",
    ];
    for format in [Format::Markdown, Format::Html, Format::Latex] {
        let text = render(format, &report).unwrap();
        for note in notes {
            assert!(text.contains(note), "{format}: {note}");
        }
    }
}

#[test]
fn rungs_stand_in_pictures_of_their_own() {
    let (mut models, diagnoses) = family(4);
    for at in 0..models.len() {
        let trained = Trained { name: "deq", seed: at as u64 / 2, epoch: if at % 2 == 0 { 2 } else { 4 } };
        models.push(trained.evaluated("adjoint:state=2,beta=1", &READOUTS.map(|readout| (readout, 1))));
    }
    let report = page(models.clone(), diagnoses.clone());
    let files = drawn(&report);
    let names: Vec<&str> = files.iter().map(|file| file.name.split_once('-').unwrap().1).collect();
    let expected = ["true-gradient", "other-gradients"].map(|rung| ["residual", "cosine"].map(|x| (rung, x)));
    let expected: Vec<String> =
        expected.iter().flatten().map(|(rung, x)| format!("gap-against-{x}-{rung}.svg")).collect();
    assert_eq!(names, expected);
    let description = |file: &SvgFile| {
        let document = Document::parse(&file.contents).unwrap();
        document.descendants().find(|n| n.has_tag_name("desc")).unwrap().text().unwrap().to_owned()
    };
    let says = description(&files[0]);
    for part in [
        "gap in points against relative residual",
        "final: from",
        "early(t): from",
        "16 points",
        "line: from",
        "fit that never falls: from",
    ] {
        assert!(says.contains(part), "{part}: {says}");
    }
    assert!(says.contains("Marked at ") && !description(&files[2]).contains("Marked at "));
    // Of a gap of a fourth of a point nothing is shown.
    let markdown = render(Format::Markdown, &report).unwrap();
    assert!(markdown.contains("nowhere, up to the residual") && markdown.contains("cannot be determined"));
    // Every point has its bar, each of the two fits an area and no bars.
    let document = Document::parse(&files[0].contents).unwrap();
    let bars = document.descendants().filter(|n| n.attribute("stroke-width") == Some("1.6"));
    assert_eq!(bars.count(), 24);
    assert_eq!(files[0].contents.matches("fill-opacity=\"0.14\"").count(), 2);
    let rungs: Vec<String> = rows(&models, &diagnoses).iter().map(|row| row[4].to_owned()).collect();
    assert!(rungs[..24].iter().all(|rung| rung == "true-gradient"));
    assert!(rungs[24..].iter().all(|rung| rung == "other-gradients") && rungs.len() == 48);
}

#[test]
fn the_numbers_say_where_they_come_from() {
    let (models, diagnoses) = family(4);
    let report = page(models, diagnoses);
    let expected = "CIFAR-10 (JPEG), test, L∞ ε = 8/255, 400 images; 24 points of 8 models from 4 training runs; readouts \
                    final, early(1) and early(2). White-box arm through through-solver, its twins through the training \
                    gradient (exact); 1 run of pgd-10 in each arm. Diagnosed on 10 clean images.";
    let markdown = render(Format::Markdown, &report).unwrap();
    // Two figures and the table.
    assert_eq!(markdown.matches(expected).count(), 3, "{markdown}");
    let html = render(Format::Html, &report).unwrap();
    assert!(html.contains(expected) && html.contains("href=\"#dose\"") && html.contains("id=\"dose\""));
    // What eight diagnoses have in common is said once at the top.
    assert_eq!(html.matches("<p>Diagnosis on ").count(), 1);
    let latex = render(Format::Latex, &report).unwrap();
    assert!(latex.contains("\\label{tab:dose-true-gradient}"), "{latex}");
}

#[test]
fn csv_has_a_row_for_each_point() {
    let (models, diagnoses) = family(4);
    let text = dose_csv(&models, &diagnoses).unwrap().unwrap();
    let head = "model,cluster,epoch,readout,rung,residual,cosine,spectral_radius,gap,gap_low,gap_high,b,c,n,\
                ready_made_accuracy,white_box_accuracy,finding,fitted,dataset,norm,eps,seed,runs,effort,residual_images,\
                cosine_images";
    assert_eq!(text.lines().next(), Some(head));
    let rows = rows(&models, &diagnoses);
    assert_eq!(rows.len(), 8 * 3);
    let number = |row: &csv::StringRecord, at: usize| row[at].parse::<f64>().unwrap();
    for (row, readout) in rows.iter().zip(READOUTS.iter().cycle()) {
        assert_eq!((&row[3], &row[12], &row[13], &row[22]), (*readout, "0", "400", "1"));
        assert!((number(row, 8) - number(row, 11) / 400.0).abs() < 1e-12, "{row:?}");
        assert!(number(row, 9) <= number(row, 8) && number(row, 8) <= number(row, 10));
        assert!((number(row, 14) - number(row, 15) - number(row, 8)).abs() < 1e-12, "nothing but the arms");
        assert!((number(row, 5) + number(row, 6) - 1.0).abs() < 1e-9);
        assert_eq!((number(row, 7), &row[24]), (0.8, "10"));
    }
    // z_T behind `final`, z_t behind `early(t)`.
    assert!(number(&rows[0], 5) < number(&rows[2], 5) && number(&rows[2], 5) < number(&rows[1], 5));
}

#[test]
fn nothing_is_shown_without_diagnoses() {
    let (models, diagnoses) = family(4);
    assert_eq!(dose_csv(&models, &[]).unwrap(), None);
    assert_eq!(dose_csv(&[], &diagnoses).unwrap(), None);
    // One point is no relation.
    let mut one = models[..1].to_vec();
    one[0].readouts.truncate(1);
    assert_eq!(dose_csv(&one, &diagnoses).unwrap(), None);
    for report in [report(models), page(Vec::new(), diagnoses.clone()), page(one, diagnoses)] {
        for format in [Format::Markdown, Format::Html, Format::Latex] {
            let text = render(format, &report).unwrap();
            assert!(!text.contains("Gap against"), "{format}");
        }
        assert!(drawn(&report).is_empty());
    }
}

/// One training run after so many epochs, whose residual and gap grow.
fn course(epochs: std::ops::RangeInclusive<u64>) -> Report {
    let (mut models, mut diagnoses) = (Vec::new(), Vec::new());
    for epoch in epochs {
        let one = Trained { name: "deq", seed: 1, epoch };
        let broken = 4 * epoch as usize;
        models.push(one.evaluated("through-solver", &[("final", 0), ("early(1)", broken)]));
        diagnoses.push(diagnosis_of(vec![one.diagnosed([0.1 * epoch as f64, 0.05, 0.001 * epoch as f64])]));
    }
    page(models, diagnoses)
}

#[test]
fn a_run_of_three_epochs_is_followed_and_one_of_two_is_not() {
    let followed = |report: &Report| -> Vec<SvgFile> {
        svg_files(report).into_iter().filter(|file| file.name.contains("over-its-epochs")).collect()
    };
    assert!(followed(&course(1..=2)).is_empty());
    let report = course(1..=3);
    let [file] = &followed(&report)[..] else { panic!("one run, one drawing") };
    let document = Document::parse(&file.contents).unwrap();
    let says: Vec<&str> =
        document.descendants().filter(|node| node.is_text()).filter_map(|node| node.text()).collect();
    let panels = [
        "accuracy behind final, %",
        "gap, points",
        "relative residual of the state that is read",
        "spectral radius of the Jacobian",
    ];
    for panel in panels {
        assert!(says.contains(&panel), "{panel}: {says:?}");
    }
    assert_eq!(says.iter().filter(|says| **says == "epochs").count(), panels.len());
    // What is drawn, as numbers: 12 images of 400 after three epochs, and z_3 behind `final`.
    let markdown = render(Format::Markdown, &report).unwrap();
    for row in [
        "| gap, points | early(1) | 3 | 3 |",
        "| relative residual of the state that is read | final | 3 | 0.003 | – | – |",
        "| relative residual of the state that is read | early(1) | 2 | 0.2 | – | – |",
        "| spectral radius of the Jacobian | spectral radius | 1 | 0.8 | – | – |",
        "| accuracy behind final, % | clean | 1 | 75 |",
    ] {
        assert!(markdown.contains(row), "{row}: {markdown}");
    }
}
