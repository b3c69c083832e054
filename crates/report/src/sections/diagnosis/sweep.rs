//! Sweeps: accuracy as the solver's budget, its tolerance and ε change, attacked anew each time.

use super::spreads::{INTERVALS, SHARE, Sheet, deployed, deployed_steps, fields, share_fields, shares};
use super::{Clause, Measurement, result, results, setting};
use crate::figure::{Figure, Mark, Scale};
use crate::numbers;
use equipoise_record::{Diagnosis, ModelDiagnosis, Section, Sweep, SweepPoint};

pub(super) struct Sweeps;

impl Measurement for Sweeps {
    fn name(&self) -> &'static str {
        "sweep"
    }

    fn title(&self) -> &'static str {
        "Sweeps"
    }

    fn about(&self) -> &'static str {
        "Accuracy as one setting changes, attacked anew each time. Robust accuracy must reach 0% as ε grows: if it does \
         not, the attack fails. It should not depend on the solver's budget: if it does, it is a property of that \
         budget."
    }

    fn section(&self, model: &ModelDiagnosis) -> Option<Section<()>> {
        model.sweep.as_ref().map(Section::outline)
    }

    fn figures(&self, diagnosis: &Diagnosis) -> Vec<Figure> {
        type Points<'a> = &'a dyn Fn(&Sweep) -> &[SweepPoint];
        let found = results(diagnosis, |m| m.sweep.as_ref());
        let figure =
            |title: &str, x_label: &str, x_scale: Scale, note: &str, marks: Vec<Mark>, points: Points<'_>| {
                let mut series = Vec::new();
                for (model, sweep) in &found {
                    let points = points(sweep);
                    if points.is_empty() {
                        continue;
                    }
                    let name = |what: &str| format!("{}, {what}", model.model);
                    series.push(shares(name("clean"), points.iter().map(|p| (p.at, &p.clean))));
                    series.push(shares(name("robust"), points.iter().map(|p| (p.at, &p.robust))));
                    let transferred = points.iter().filter_map(|p| Some((p.at, p.transferred.as_ref()?)));
                    if transferred.clone().next().is_some() {
                        series.push(shares(name("transferred"), transferred));
                    }
                }
                (!series.is_empty()).then(|| Figure {
                    title: title.into(),
                    caption: format!("{}. {note} {INTERVALS}", setting(diagnosis)),
                    x_label: x_label.into(),
                    y_label: "accuracy in %".into(),
                    x_scale,
                    series,
                    marks,
                    ..Figure::default()
                })
            };
        let transferred = format!(
            "Robust: under the ready-made PGD-10, run anew with this solver. Transferred: on the images that were found \
             with the deployed solver by {}.",
            numbers::attack(diagnosis.attacked)
        );
        let eps = vec![Mark { at: diagnosis.eps, says: format!("ε = {}", numbers::eps(diagnosis.eps)) }];
        let tolerances = results(diagnosis, |m| m.residual.as_ref());
        let tolerances = tolerances.iter().map(|(model, residual)| (*model, residual.tolerance));
        let tolerances = deployed(tolerances, "deployed");
        [
            figure(
                "Accuracy by ε",
                "ε",
                Scale::Log,
                "Ready-made PGD-10 with steps of ε/4, run anew at every ε.",
                eps,
                &|sweep| &sweep.eps,
            ),
            figure(
                "Accuracy by solver steps",
                "solver steps T",
                Scale::Linear,
                &transferred,
                deployed_steps(&found),
                &|sweep| &sweep.solver_steps,
            ),
            figure(
                "Accuracy by solver tolerance",
                "tolerance",
                Scale::Log,
                &transferred,
                tolerances,
                &|sweep| &sweep.tolerance,
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn sheet(&self, diagnosis: &Diagnosis) -> Sheet {
        let mut sheet = Sheet::new(&[&["model", "setting", "at", "measure"], &SHARE]);
        for (model, sweep) in results(diagnosis, |m| m.sweep.as_ref()) {
            let all =
                [("eps", &sweep.eps), ("solver steps", &sweep.solver_steps), ("tolerance", &sweep.tolerance)];
            for (setting, points) in all {
                for p in points {
                    let measures = [
                        ("clean", Some(&p.clean)),
                        ("robust", Some(&p.robust)),
                        ("transferred", p.transferred.as_ref()),
                    ];
                    for (measure, s) in measures.into_iter().filter_map(|(measure, s)| Some((measure, s?))) {
                        sheet.row(&[fields(&[&model.model, &setting, &p.at, &measure]), share_fields(s)]);
                    }
                }
            }
        }
        sheet
    }

    fn clause(&self, _: &Diagnosis, model: &ModelDiagnosis) -> Option<Clause> {
        let last = result(&model.sweep)?.eps.last()?;
        let says = match last.robust.correct {
            0 => format!("nothing survives ε = {}", numbers::eps(last.at)),
            _ => format!(
                "{} survive even ε = {}, where nothing should: the attack fails",
                numbers::percent(last.robust.accuracy.value),
                numbers::eps(last.at)
            ),
        };
        Some(Clause { place: 2, says })
    }
}
