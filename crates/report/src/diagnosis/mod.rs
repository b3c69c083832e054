//! Diagnoses as figures, tables, sentences and CSV files: what every format shows of them.
//!
//! Models of one diagnosis were measured on the same images, so they share a figure wherever their curves can
//! be told apart.

mod csv;
mod figures;
mod summary;
mod tables;

pub use self::csv::diagnosis_csv;
pub use summary::diagnosis_summary;
pub(crate) use summary::findings;

use crate::figure::Figure;
use crate::table::Table;
use crate::words;
use equipoise_record::{Diagnosis, ModelDiagnosis, Section};

/// A section of a diagnosis, ready to be laid out.
pub(crate) struct Part {
    /// Its heading.
    pub title: &'static str,
    /// What it asks, and how to read it.
    pub about: &'static str,
    pub figures: Vec<Figure>,
    pub tables: Vec<Table>,
    /// Models that it makes no sense for, with the reason.
    pub absent: Vec<String>,
}

/// The sections that were measured, in their order; the gallery is laid out by itself.
pub(crate) fn parts(diagnosis: &Diagnosis) -> Vec<Part> {
    let parts = [
        Part {
            title: "Convergence",
            about: "How far each state of the solver is from being a fixed point. An attack that raises the residual \
                    has found states where the model's own gradient, which assumes a fixed point, is wrong.",
            figures: figures::residual(diagnosis),
            tables: tables::convergence(diagnosis),
            absent: absent(diagnosis, |m| m.residual.as_ref()),
        },
        Part {
            title: "Accuracy of every iterate",
            about: "What the classifying head would answer if it read an earlier state, on the same clean and \
                    attacked images. A state that is more robust than the last is a defence, or a sign that the \
                    attack follows a gradient that misleads it.",
            figures: figures::accuracy(diagnosis),
            tables: tables::accuracy(diagnosis),
            absent: absent(diagnosis, |m| m.accuracy.as_ref()),
        },
        Part {
            title: "Gradients",
            about: "Cosine between each gradient estimator and the true gradient of the deployed function \
                    (through-solver). 1 is the same direction, 0 a right angle.",
            figures: figures::alignment(diagnosis),
            tables: Vec::new(),
            absent: absent(diagnosis, |m| m.alignment.as_ref()),
        },
        Part {
            title: "One gradient against one",
            about: "What the true gradient of the deployed function breaks that the training gradient, from as many \
                    starts, does not. Part of it is aim: the training gradient was made for another readout, and \
                    pointed at this one it breaks those images too. What is left is gradient: only the true one \
                    finds them.",
            figures: Vec::new(),
            tables: tables::yardstick(diagnosis),
            absent: absent(diagnosis, |m| m.yardstick.as_ref()),
        },
        Part {
            title: "Loss landscape",
            about: "Cross-entropy along straight lines through the images, less that at the image. A loss that \
                    does not rise along a gradient shows that the gradient is of no use to an attack.",
            figures: figures::landscape(diagnosis),
            tables: tables::landscape(diagnosis),
            absent: absent(diagnosis, |m| m.landscape.as_ref()),
        },
        Part {
            title: "Jacobian",
            about: "Spectral radius and Frobenius norm of J = ∂f/∂z at the best iterate. Below a radius of 1 the \
                    cell contracts near its fixed point, and simple iterations converge.",
            figures: Vec::new(),
            tables: tables::spectrum(diagnosis),
            absent: absent(diagnosis, |m| m.spectrum.as_ref()),
        },
        Part {
            title: "Sweeps",
            about: "Accuracy as one setting changes, attacked anew each time. Robust accuracy must reach 0% as ε \
                    grows: if it does not, the attack fails. It should not depend on the solver's budget: if it \
                    does, it is a property of that budget.",
            figures: figures::sweep(diagnosis),
            tables: Vec::new(),
            absent: absent(diagnosis, |m| m.sweep.as_ref()),
        },
    ];
    parts
        .into_iter()
        .filter(|part| !part.figures.is_empty() || !part.tables.is_empty() || !part.absent.is_empty())
        .collect()
}

fn absent<T>(diagnosis: &Diagnosis, section: impl Fn(&ModelDiagnosis) -> Option<&Section<T>>) -> Vec<String> {
    let reason = |model: &ModelDiagnosis| {
        let reason = section(model)?.absent.as_ref()?;
        Some(format!("Not measured for {}: {reason}.", model.model))
    };
    diagnosis.diagnosed.iter().filter_map(reason).collect()
}

/// A section's results, by model.
fn results<'a, T>(
    diagnosis: &'a Diagnosis,
    section: impl Fn(&'a ModelDiagnosis) -> Option<&'a Section<T>>,
) -> Vec<(&'a ModelDiagnosis, &'a T)>
where
    T: 'a,
{
    let found = diagnosis.diagnosed.iter().map(|model| (model, section(model)));
    found.filter_map(|(model, section)| Some((model, section?.result.as_ref()?))).collect()
}

/// Where the numbers come from: data set, budget, count.
pub(crate) fn setting(diagnosis: &Diagnosis) -> String {
    format!(
        "{}, {} ε = {}, {}",
        diagnosis.dataset,
        words::norm(&diagnosis.norm),
        words::eps(diagnosis.eps),
        words::images(diagnosis.count)
    )
}

/// All figures, in the order of their sections.
pub(crate) fn all_figures(diagnosis: &Diagnosis) -> Vec<Figure> {
    parts(diagnosis).into_iter().flat_map(|part| part.figures).collect()
}
