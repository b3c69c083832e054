//! Certificates: recounted from their examples, and held against what the attacks of the record broke.

use std::collections::{HashMap, HashSet};

use super::{Contradiction, NORMS, Place, accuracies};
use crate::{
    Certificate, CertifiedExample, CertifiedNetwork, Evaluation, ExampleResult, ReadoutResult,
    SerializedVotes,
};

pub(super) fn check(
    place: &Place<'_>,
    model: &Evaluation,
    readout: &ReadoutResult,
) -> Result<(), Contradiction> {
    let known: HashMap<usize, &ExampleResult> =
        readout.examples.iter().map(|example| (example.index, example)).collect();
    readout.certificates.iter().enumerate().try_for_each(|(at, certificate)| {
        let scene = Scene { place, at, certificate, known: &known };
        scene.setting()?;
        scene.examples(model)?;
        match certificate.network {
            CertifiedNetwork::Deployed => scene.against_attacks(model, readout)?,
            // Attacks on the deployed network say nothing of another one.
            CertifiedNetwork::Ideal => {}
        }
        scene.counts()
    })
}

/// A certificate, and the examples by their index.
struct Scene<'a> {
    place: &'a Place<'a>,
    at: usize,
    certificate: &'a Certificate,
    known: &'a HashMap<usize, &'a ExampleResult>,
}

/// A field, what stands there, and what follows from the rest.
type Fault = (String, String, String);

/// Contradictions of certificates by sampling are believed to be chance where that is at least so likely.
const CHANCE: f64 = 1e-6;

impl Scene<'_> {
    fn refuse(
        &self,
        field: &str,
        stands: impl std::fmt::Display,
        follows: impl Into<String>,
    ) -> Contradiction {
        self.place.refuse(format!("certificates[{}].{field}", self.at), stands, follows)
    }

    fn setting(&self) -> Result<(), Contradiction> {
        let Certificate { method, norm, confidence, seconds, .. } = self.certificate;
        if method.is_empty() {
            return Err(self.refuse("method", "empty", "a method has a name"));
        }
        if !NORMS.contains(&norm.as_str()) {
            return Err(self.refuse("norm", norm, "a norm is linf, l2 or l1"));
        }
        if let Some(confidence) = confidence {
            if !(confidence.level > 0.0 && confidence.level < 1.0) {
                let follows = "a confidence lies between 0 and 1; a proof has none";
                return Err(self.refuse("confidence.level", confidence.level, follows));
            }
            if confidence.estimation == 0 {
                return Err(self.refuse("confidence.estimation", 0, "it rests on samples"));
            }
            if let Some(serialized) = confidence.serialized {
                self.serialized(&serialized, confidence.estimation)?;
            }
        }
        if !(seconds.is_finite() && *seconds >= 0.0) {
            return Err(self.refuse("seconds", seconds, "a time is a number from 0"));
        }
        Ok(())
    }

    /// The counts of checked votes.
    fn serialized(&self, found: &SerializedVotes, samples: usize) -> Result<(), Contradiction> {
        let SerializedVotes { steps, chains, checks, checked, confirmed } = *found;
        let refuse = |field: &str, stands: usize, follows: String| {
            Err(self.refuse(&format!("confidence.serialized.{field}"), stands, follows))
        };
        for (field, stands) in [("steps", steps), ("chains", chains)] {
            if stands == 0 {
                return refuse(field, stands, "there is at least one".to_owned());
            }
        }
        if !(1..=samples).contains(&checks) {
            return refuse("checks", checks, format!("some of {samples} samples were checked"));
        }
        let examples = self.certificate.examples.len();
        if checked > checks.saturating_mul(examples) {
            return refuse(
                "checked",
                checked,
                format!("{checks} samples of {examples} examples were picked"),
            );
        }
        if confirmed > checked {
            return refuse("confirmed", confirmed, format!("{checked} votes were checked"));
        }
        Ok(())
    }

    /// Each example by itself: it is one of the readout's, and its fields agree.
    fn examples(&self, model: &Evaluation) -> Result<(), Contradiction> {
        let mut indices = HashSet::new();
        for (at, example) in self.certificate.examples.iter().enumerate() {
            let CertifiedExample { index, class, radius, abstained } = *example;
            let field = |name: &str| format!("examples[{at}].{name}");
            if !self.known.contains_key(&index) {
                return Err(self.refuse(&field("index"), index, "no example of the readout has this index"));
            }
            if !indices.insert(index) {
                return Err(self.refuse(&field("index"), index, "another example has the same index"));
            }
            if let Some(class) =
                class.filter(|&class| class >= model.classes.len() && !model.classes.is_empty())
            {
                let follows = format!("there are {} classes", model.classes.len());
                return Err(self.refuse(&field("class"), class, follows));
            }
            if let Some(radius) = radius.filter(|radius| !(radius.is_finite() && *radius >= 0.0)) {
                return Err(self.refuse(&field("radius"), radius, "a radius is a number from 0"));
            }
            match (class, radius) {
                (Some(class), _) if abstained => {
                    return Err(self.refuse(&field("class"), class, "the method abstained"));
                }
                (None, Some(radius)) => {
                    return Err(self.refuse(&field("radius"), radius, "there is no class that it speaks of"));
                }
                (None, None) if !abstained => {
                    return Err(self.refuse(&field("class"), "null", "the method did not abstain"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// How many examples have their true class certified within a radius.
    fn certified(&self, eps: f64) -> usize {
        let holds = |example: &&CertifiedExample| {
            self.known.get(&example.index).is_some_and(|known| example.holds(known.label, eps))
        };
        self.certificate.examples.iter().filter(holds).count()
    }

    /// Abstentions and accuracies, counted again.
    fn counts(&self) -> Result<(), Contradiction> {
        let Certificate { examples, abstained, radii, .. } = self.certificate;
        let counted = examples.iter().filter(|example| example.abstained).count();
        if *abstained != counted {
            return Err(self.refuse("abstained", abstained, format!("it abstained on {counted} examples")));
        }
        let mut before = None;
        for (at, radius) in radii.iter().enumerate() {
            let field = format!("radii[{at}].eps");
            if !(radius.eps.is_finite() && radius.eps >= 0.0) {
                return Err(self.refuse(&field, radius.eps, "a radius is a number from 0"));
            }
            if let Some(smaller) = before.filter(|smaller| radius.eps <= *smaller) {
                return Err(self.refuse(&field, radius.eps, format!("the one before is {smaller}")));
            }
            before = Some(radius.eps);
            let field = format!("certificates[{}].radii[{at}].certified_accuracy", self.at);
            let (correct, n) = (self.certified(radius.eps), examples.len());
            accuracies::counted(
                self.place,
                &field,
                &radius.certified_accuracy,
                correct,
                n,
                "are certified there",
            )?;
        }
        Ok(())
    }

    /// What is certified of the deployed network was broken by no attack at or below that radius.
    fn against_attacks(&self, model: &Evaluation, readout: &ReadoutResult) -> Result<(), Contradiction> {
        let examples = self.certificate.examples.iter().enumerate();
        let faults: Vec<Fault> = examples
            .filter_map(|(at, example)| {
                let (name, stands, follows) = self.fault(model, example)?;
                Some((format!("examples[{at}].{name}"), stands, follows))
            })
            .collect();
        let claims = self.certificate.examples.iter().filter(|example| example.class.is_some()).count();
        if let Some((field, stands, follows)) = faults.first()
            && self.beyond_chance(claims, faults.len())
        {
            return Err(self.refuse(field, stands, follows));
        }
        // At smaller radii only counts are known.
        for radius in readout.radii.iter().filter(|_| self.covers(&model.norm)) {
            let (certified, standing) = (self.certified(radius.eps), radius.white_box_accuracy.correct());
            if certified > standing && self.beyond_chance(claims, certified - standing) {
                let stands = format!("certified within {} {} on {certified} of them", model.norm, radius.eps);
                let follows = format!("{standing} of all withstand the attacks there");
                return Err(self.refuse("examples", stands, follows));
            }
        }
        Ok(())
    }

    /// What contradicts an example of a certificate: its class when clean, or an attack.
    fn fault(&self, model: &Evaluation, example: &CertifiedExample) -> Option<Fault> {
        let known = self.known.get(&example.index)?;
        if let (Some(class), Some(given)) = (example.class, known.clean_prediction)
            && class != given
        {
            let follows = format!("the network gives the clean image class {given}");
            return Some(("class".to_owned(), class.to_string(), follows));
        }
        let radius = example.radius?;
        if example.class == Some(known.label) && !known.clean_correct {
            let follows = "the network misclassifies the clean image".to_owned();
            return Some(("class".to_owned(), known.label.to_string(), follows));
        }
        if !example.holds(known.label, model.eps) || known.robust || !self.covers(&model.norm) {
            return None;
        }
        let by = known.broken_by.as_ref().map_or("a transferred image".to_owned(), |by| by.label());
        let follows = format!("{by} broke it within {} {}", model.norm, model.eps);
        Some(("radius".to_owned(), format!("{radius} in {}", self.certificate.norm), follows))
    }

    /// Whether the ball of an attack lies in that of the certificate of the same radius: ‖δ‖∞ ≤ ‖δ‖₂ ≤ ‖δ‖₁.
    fn covers(&self, norm: &str) -> bool {
        let place = |norm: &str| NORMS.iter().position(|known| *known == norm);
        place(&self.certificate.norm).zip(place(norm)).is_some_and(|(own, other)| own <= other)
    }

    /// Whether so many of the claims cannot be wrong, or with a confidence only by a chance that nobody meets.
    fn beyond_chance(&self, claims: usize, wrong: usize) -> bool {
        let alpha = self.certificate.confidence.map_or(0.0, |confidence| 1.0 - confidence.level);
        at_least(wrong, claims, alpha) < CHANCE
    }
}

/// The chance of `k` or more successes in `n` trials of chance `p` each.
fn at_least(k: usize, n: usize, p: f64) -> f64 {
    let mut term = (1.0 - p).powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut fewer = 0.0;
    for i in 0..k {
        fewer += term;
        term *= n.saturating_sub(i) as f64 / (i + 1) as f64 * p / (1.0 - p);
    }
    1.0 - fewer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binomial_tail_is_summed() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        near(at_least(0, 5, 0.3), 1.0);
        near(at_least(1, 1, 0.25), 0.25);
        near(at_least(2, 3, 0.5), 0.5);
        // A proof is never wrong.
        near(at_least(1, 500, 0.0), 0.0);
    }
}
