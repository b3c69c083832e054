//! The words of the page, each with its meaning.

use super::Section;
use crate::layout::html::Page;
use crate::{Report, ReportError};
use maud::{Markup, html};

const WORDS: [(&str, &str); 13] = [
    (
        "Run",
        "One attack with one schedule, from one start, through one gradient, on the images that stand in its arm.",
    ),
    (
        "Opening, ready-made attack",
        "An attack through the model's own training gradient on its final state: what a standard tool runs. The opening \
         is each of them once.",
    ),
    (
        "White-box arm, ready-made arm",
        "The white-box arm is the runs through other gradients. The ready-made arm is their twins: the same attack, steps \
         and start through the training gradient. Both begin with what stands after the opening, and each meets only \
         what stands in itself.",
    ),
    ("Twin", "Another gradient at the same start: the two differ in the gradient alone."),
    ("Restart", "Another start of the same attack through the same gradient: only the start differs."),
    (
        "b, c",
        "Images broken in the white-box arm only, and in the ready-made arm only. If the gradients are equally good, each \
         such image is a toss of a coin: that is the test (McNemar 1947, exact).",
    ),
    (
        "One against one",
        "A union of different gradients may beat one gradient without any obfuscation. So one other gradient is compared \
         with the training gradient alone, from the same number of starts, on all images that are correct when clean.",
    ),
    (
        "Aim",
        "The training gradient reads the loss at the final state. Behind another readout it may be the right gradient of \
         the wrong function. The aimed arm points the same method at the readout; what it finds beyond the ready-made arm \
         is aim.",
    ),
    (
        "Gradient-free",
        "Attacks from the outputs alone, on what withstood every gradient. What only they break is the classical sign of \
         masking.",
    ),
    (
        "White-box accuracy",
        "The share of images that are classified correctly and withstand everything that was tried, image by image. It is \
         an upper bound on the true robust accuracy.",
    ),
    (
        "Gradient obfuscation",
        "A gradient that hides the way to an adversarial image from attacks that follow it. The model then looks more \
         robust than it is.",
    ),
    ("Readout", "Which state or states of the solver the classifying head sees."),
    (
        "Interval",
        "95%: Wilson's score interval of a share, Newcombe's method 10 for a difference on the same images. The sampling \
         error of that many images, nothing else.",
    ),
];

pub(crate) struct Glossary;

impl Section for Glossary {
    fn html(&self, report: &Report, page: &mut Page) -> Result<Markup, ReportError> {
        if report.models.is_empty() {
            return Ok(html! {});
        }
        Ok(html! {
            section id=(page.section("words", "Words")) {
                h2 { "Words" }
                dl.words { @for (word, meaning) in WORDS { dt { (word) } dd { (meaning) } } }
            }
        })
    }
}
