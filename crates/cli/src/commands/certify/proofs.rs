//! Certificates of monotone DEQs: each image by each method, of the ideal network and of the deployed one.

use equipoise::attack::Norm;
use equipoise::batch::to_vec;
use equipoise::certify::{Method, MonotoneCertifier, prove, side_by_side, usual_radii};
use equipoise::checkpoint::ModelFile;
use equipoise::evaluate::Observer;
use equipoise::readout::Readout;
use equipoise_record::{Certificate, CertifiedExample};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Checked;
use crate::configuration::interrupted;
use crate::error::{Error, input};
use crate::flags::Certify;
use crate::sections::Sections;
use crate::setup::Setup;
use crate::watch::Watch;

/// A model's constants, and what is asked.
pub struct Proofs {
    certifier: MonotoneCertifier,
    methods: Vec<Method>,
    deployed: bool,
    /// `--at-eps`
    at_eps: bool,
}

/// What is kept of an image.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// By each proof, in their order.
    found: Vec<CertifiedExample>,
    seconds: Vec<f64>,
}

impl Proofs {
    /// `--method`, or all that the model has.
    pub fn check(flags: &Certify, file: &ModelFile, readout: &Readout, norm: Norm) -> Result<Self, Error> {
        let certifier = MonotoneCertifier::new(&*file.model).map_err(|error| {
            input(format!(
                "{}: {error}; for any model there is smoothing: give --sigma, such as 0.25",
                flags.model.display()
            ))
        })?;
        let mut methods = Vec::new();
        for name in &flags.method {
            let method: Method =
                name.parse().map_err(|error| input(format!("--method: {error}, smoothing")))?;
            let refused = |error| input(format!("--method {name}: {error}"));
            method.check_norm(norm).map_err(refused)?;
            certifier.ideal(method).map_err(refused)?;
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        if methods.is_empty() {
            let (known, unknown) = certifier.methods(norm);
            for (method, error) in unknown {
                tracing::info!("no certificate by {method}: {error}");
            }
            methods = known;
        }
        let deployment = &file.metadata.deployment;
        let refused = certifier.deployed(Method::Lipschitz, deployment, readout).err();
        if let Some(error) = &refused {
            tracing::warn!(
                "{}: what is certified is the ideal network, not the deployed one: {error}",
                flags.model.display()
            );
        }
        Ok(Self { certifier, methods, deployed: refused.is_none(), at_eps: flags.at_eps })
    }

    /// Whether the table's radii are the only ones that are tried.
    pub fn at_eps(&self) -> bool {
        self.at_eps
    }

    /// The methods' names.
    pub fn names(&self) -> Vec<&'static str> {
        self.methods.iter().map(|method| method.name()).collect()
    }

    /// Every image, read or proved.
    pub fn certificates(
        &self,
        checked: &Checked,
        done: &Sections,
        setup: &Setup,
    ) -> Result<Vec<Certificate>, Error> {
        let Checked { file, points, norm, .. } = checked;
        let deployed = self.deployed.then_some((&file.metadata.deployment, &checked.readout));
        let proofs = self.certifier.proofs(&self.methods, deployed);
        let mut proofs = proofs.map_err(|error| Error::Internal(error.to_string()))?;
        if self.at_eps {
            proofs = proofs.into_iter().map(|proof| proof.among(&checked.eps)).collect();
        }
        let watch = Watch::new(&file.metadata.name, setup);
        watch.stage(&format!("certifying {}", self.names().join(", ")), points.len());
        let numbers = to_vec(points.images().clone());
        let pixels = numbers.len() / points.len();
        let classes = file.model.classes();
        let mut found: Vec<Vec<CertifiedExample>> = vec![Vec::new(); proofs.len()];
        let mut seconds = vec![0.0; proofs.len()];
        let name = |row: usize| format!("image-{}", points.indices()[row]);
        let rows: Vec<usize> = (0..points.len()).collect();
        for rows in rows.chunks(side_by_side(proofs.len())) {
            let missing: Vec<(usize, &[f32])> = rows
                .iter()
                .filter(|&&row| !done.has(&name(row)))
                .map(|&row| (points.indices()[row], &numbers[row * pixels..][..pixels]))
                .collect();
            if !missing.is_empty() && watch.cancelled() {
                return Err(interrupted());
            }
            let mut proved = prove(&proofs, &missing, *norm).into_iter();
            for &row in rows {
                let mut proved = || {
                    let proved =
                        proved.next().ok_or_else(|| Error::Internal("an image was not proved".into()))?;
                    let (found, seconds) = proved.into_iter().unzip();
                    Ok(json!(Kept { found, seconds }))
                };
                let sound = |found: &Value| believable(found, points.indices()[row], proofs.len(), classes);
                let kept = done.kept(&name(row), sound, &mut proved)?;
                let kept: Kept =
                    serde_json::from_value(kept).map_err(|error| Error::Internal(error.to_string()))?;
                for (at, (example, spent)) in kept.found.into_iter().zip(kept.seconds).enumerate() {
                    found[at].push(example);
                    seconds[at] += spent;
                }
                let shown = found[0]
                    .iter()
                    .zip(points.labels())
                    .filter(|(found, label)| found.class == Some(**label));
                watch.advance(1, &format!("{} of {} certified at some radius", shown.count(), row + 1));
            }
        }
        let eps = match checked.eps.as_slice() {
            [] => usual_radii(&found),
            given => given.to_vec(),
        };
        let each = proofs.iter().zip(found).zip(seconds);
        Ok(each
            .map(|((proof, found), seconds)| proof.certificate(found, points.labels(), *norm, &eps, seconds))
            .collect())
    }
}

/// Whether what was kept can be what so many proofs showed of an image.
fn believable(found: &Value, index: usize, proofs: usize, classes: usize) -> Result<(), String> {
    let Kept { found, seconds } = serde_json::from_value(found.clone()).map_err(|error| error.to_string())?;
    if found.len() != proofs || seconds.len() != proofs {
        return Err(format!("{} proofs, not {proofs}", found.len()));
    }
    for CertifiedExample { index: of, class, radius, abstained } in found {
        let sound = of == index
            && class.is_none_or(|class| class < classes)
            && radius.is_none_or(|radius| radius.is_finite() && radius >= 0.0)
            && abstained == class.is_none()
            && abstained == radius.is_none();
        if !sound {
            return Err(format!("what stands for image {index} contradicts itself"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use equipoise_files::seal;
    use equipoise_fuzz::{Sample, Target, mutate};

    use super::*;

    equipoise_fuzz::fuzz!(proved_images, 500, {
        let key = json!({ "model": "m", "proofs": ["lipschitz"] });
        let example = CertifiedExample { index: 7, class: Some(3), radius: Some(0.25), abstained: false };
        let kept = Kept { found: vec![example; 2], seconds: vec![0.01, 0.02] };
        let sample = Sample::of("sections/key.json", seal(&key).unwrap(), mutate::sealed);
        let sample = sample.and("sections/image-7.json", seal(&json!(kept)).unwrap(), Some(mutate::sealed));
        Target::new(vec![sample], move |folder| {
            let sections = Sections::open(folder, true, &key).map_err(|error| error.to_string())?;
            let sound = |found: &Value| believable(found, 7, 2, 10);
            let found = sections.kept("image-7", sound, &mut || panic!("the image is there"));
            let found = found.map_err(|error| error.to_string())?;
            let Kept { found, .. } = serde_json::from_value(found).map_err(|error| error.to_string())?;
            assert!(found.iter().all(|example| example.class.is_none_or(|class| class < 10)));
            Ok(())
        })
    });
}
