//! Gallery: some images, what was added to them, and what the model answered at every iterate.

use super::spreads::{Sheet, fields};
use super::{Measurement, result, results};
use equipoise_record::{Diagnosis, Gallery, ModelDiagnosis, Section};

pub(super) struct Images;

impl Measurement for Images {
    fn name(&self) -> &'static str {
        "gallery"
    }

    fn title(&self) -> &'static str {
        "Gallery"
    }

    fn about(&self) -> &'static str {
        "The first images of the data that are correct when clean, attacked."
    }

    fn section(&self, model: &ModelDiagnosis) -> Option<Section<()>> {
        model.gallery.as_ref().map(Section::outline)
    }

    fn images<'a>(&self, model: &'a ModelDiagnosis) -> Option<&'a Gallery> {
        result(&model.gallery)
    }

    fn sheet(&self, diagnosis: &Diagnosis) -> Sheet {
        let head = ["model", "index", "label", "distance", "images", "t", "answer"];
        let mut sheet = Sheet::new(&[&head]);
        for (model, gallery) in results(diagnosis, |m| m.gallery.as_ref()) {
            for item in &gallery.items {
                for (images, answers) in
                    [("clean", &item.clean_answers), ("attacked", &item.attacked_answers)]
                {
                    let by_iterate = answers.by_iterate.iter().enumerate();
                    let by_iterate = by_iterate.map(|(k, answer)| ((k + 1).to_string(), *answer));
                    for (t, answer) in by_iterate.chain([(String::new(), answers.deployed)]) {
                        let answer = answer.map_or(String::new(), |answer| answer.to_string());
                        let of = [
                            &model.model as &dyn std::fmt::Display,
                            &item.index,
                            &item.label,
                            &item.distance,
                        ];
                        sheet.row(&[fields(&of), fields(&[&images, &t, &answer])]);
                    }
                }
            }
        }
        sheet
    }
}
