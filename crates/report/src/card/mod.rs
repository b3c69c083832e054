//! Model cards as the Hugging Face Hub shows them: front matter for its index, then what a reader needs to know.

mod index;
mod yaml;

use self::index::{ROBUST, known_dataset, model_index};
use self::yaml::Yaml;
use crate::layout::markdown::{table, text};
use crate::sections::{certified_tables, radii_tables, summary};
use crate::table::{Cell, Table, columns};
use crate::{ReportError, derived, verdict};
use equipoise_record::Evaluation;
use std::fmt::Write;

/// What a model card is made from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelCard {
    /// The model's name.
    pub name: String,
    /// Whether it is a deep equilibrium model, and not one of the feedforward baselines.
    pub equilibrium: bool,
    /// The licence by the Hub's identifier, such as `mit`. Left out where nobody has decided: there is no default.
    pub license: Option<String>,
    /// What it was trained on, in words (`CIFAR-10 (JPEG), train`); empty if unknown.
    pub data: String,
    /// What else there is to know, such as the architecture: what, and how it is.
    pub facts: Vec<(String, String)>,
    /// Its evaluations. Whether they are of this model is for the caller to check.
    pub models: Vec<Evaluation>,
}

/// The card as Markdown with YAML front matter: the content of `README.md` in a folder of the Hub.
///
/// # Errors
/// [`ReportError::NotFinite`] if a record holds a number that is not finite.
///
/// ```
/// use equipoise_report::{ModelCard, model_card};
///
/// let card = model_card(&ModelCard { name: "small".into(), ..ModelCard::default() })?;
/// assert!(card.starts_with("---\nlibrary_name: \"equipoise\"\n"));
/// # Ok::<(), equipoise_report::ReportError>(())
/// ```
pub fn model_card(card: &ModelCard) -> Result<String, ReportError> {
    derived::check_finite(&card.models)?;
    let mut out = format!("---\n{}---\n\n# {}\n", front_matter(card).document(), text(&card.name));
    introduction(&mut out, card);
    robustness(&mut out, card);
    use_it(&mut out);
    limits(&mut out, card);
    citation(&mut out, card);
    Ok(out)
}

fn front_matter(card: &ModelCard) -> Yaml {
    let list = |items: &[&str]| Yaml::List(items.iter().map(|item| Yaml::from(*item)).collect());
    let mut entries: Vec<(&'static str, Yaml)> = Vec::new();
    entries.extend(card.license.as_deref().map(|license| ("license", license.into())));
    entries.push(("library_name", "equipoise".into()));
    entries.push(("pipeline_tag", "image-classification".into()));
    let mut tags = vec!["adversarial-robustness"];
    if card.equilibrium {
        tags.insert(0, "deep-equilibrium-model");
    }
    entries.push(("tags", list(&tags)));
    entries.extend(known_dataset(&card.data).map(|name| ("datasets", list(&[name]))));
    if !card.models.is_empty() {
        let attacked = derived::rows(&card.models).any(|(_, readout)| !readout.attacks.is_empty());
        let metrics: &[&str] = if attacked { &["accuracy", ROBUST] } else { &["accuracy"] };
        entries.push(("metrics", list(metrics)));
        entries.push(("model-index", model_index(&card.name, &card.models)));
    }
    Yaml::Map(entries)
}

fn introduction(out: &mut String, card: &ModelCard) {
    let kind = if card.equilibrium { "A deep equilibrium model" } else { "A feedforward network" };
    let data = match card.data.as_str() {
        "" => String::new(),
        data => format!(", trained on {data}"),
    };
    let _ = write!(out, "\n{kind} for images{}.\n", text(&data));
    let license = card.license.as_deref().unwrap_or("not stated");
    let license = ("Licence".to_owned(), license.to_owned());
    let row = |(what, how): &(String, String)| vec![Cell::from(what.as_str()), how.as_str().into()];
    let rows = card.facts.iter().chain([&license]).map(row).collect();
    table(out, &Table { caption: String::new(), columns: columns(&["", ""], &[]), rows });
}

/// The findings as sentences, then the accuracies that they rest on.
fn robustness(out: &mut String, card: &ModelCard) {
    out.push_str("\n## Robustness\n");
    if card.models.is_empty() {
        out.push_str("\nNothing is stated: no evaluation was given.\n");
        return;
    }
    for statement in card.models.iter().flat_map(verdict::statements) {
        let _ = write!(out, "\n**{}.** {}\n", text(statement.label), text(&statement.sentence));
        out.push_str(if statement.warnings.is_empty() { "" } else { "\n" });
        for line in &statement.warnings {
            let _ = writeln!(out, "- {}", text(line));
        }
    }
    for (setting, models) in derived::by_setting(&card.models) {
        table(out, &summary(&setting, &models));
    }
    radii_tables(&card.models).iter().for_each(|along| table(out, along));
    certified_tables(&card.models).iter().for_each(|bounds| table(out, bounds));
}

fn use_it(out: &mut String) {
    out.push_str(
        "\n## Use\n\n`model.safetensors` is a model file of Equipoise, configuration included; `config.json` holds the \
         same in plain sight. In this folder:\n\n\
         ```sh\nequipoise info --model model.safetensors\n\
         equipoise evaluate --model model.safetensors --data SPEC --count 100 --out evaluation\n\
         equipoise export --model model.safetensors --out weights.pth   # for PyTorch, by the names of its state dict\n\
         ```\n",
    );
}

fn limits(out: &mut String, card: &ModelCard) {
    out.push_str("\n## Limits\n\n");
    if !card.models.is_empty() {
        out.push_str(
            "White-box accuracy is the worst case over everything that was tried: an upper bound on robustness, at that \
             norm and ε, on those images. Intervals are the sampling error of that many images, nothing else. ",
        );
    }
    out.push_str(match certified_tables(&card.models).is_empty() {
        true => "Nothing here is certified.\n",
        false => "What is certified, of which network and by which method, stands in the table of certified accuracy.\n",
    });
}

const PAPER: &str = "@inproceedings{yang2022closer,
  title     = {A Closer Look at the Adversarial Robustness of Deep Equilibrium Models},
  author    = {Yang, Zonghan and Pang, Tianyu and Liu, Yang},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {35},
  year      = {2022}
}";

const MDEQ: &str = "@inproceedings{bai2020multiscale,
  title     = {Multiscale Deep Equilibrium Models},
  author    = {Bai, Shaojie and Koltun, Vladlen and Kolter, J. Zico},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {33},
  year      = {2020}
}";

/// Where the question and the architecture are from.
fn citation(out: &mut String, card: &ModelCard) {
    let works = if card.equilibrium { format!("{PAPER}\n\n{MDEQ}") } else { PAPER.to_owned() };
    let _ = write!(
        out,
        "\n## Citation\n\nThe question, whether a robust accuracy is real or gradient obfuscation, is that of Yang, Pang \
         and Liu.{}\n\n```bibtex\n{works}\n```\n",
        if card.equilibrium { " The architecture is that of Bai, Koltun and Kolter." } else { "" }
    );
}
