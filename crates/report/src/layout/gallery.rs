//! The gallery as HTML: images inline as PNG, answers as tables, nothing fetched.

use crate::{ReportError, numbers};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use equipoise_record::{Answers, Gallery, GalleryItem};
use maud::{Markup, html};

/// One model's images, those that are correct when clean: the others need no attack.
///
/// # Errors
/// [`ReportError::Png`] if the record's pixels are not those of images of its shape.
pub(crate) fn gallery(model: &str, gallery: &Gallery) -> Result<Markup, ReportError> {
    let correct = |item: &&GalleryItem| item.clean_answers.deployed == Some(item.label);
    let items = gallery.items.iter().filter(correct).map(|i| item(model, gallery, i));
    let items = items.collect::<Result<Vec<_>, _>>()?;
    Ok(html! {
        h4 { (model) }
        p.quiet {
            "Left to right: the image, the perturbation (mid-grey is none; times " (numbers::number(gallery.scale))
            "), the attacked image. Below: what the model answers when each state is read; wrong answers are marked ✗."
        }
        @if items.is_empty() { p.quiet { "None of the images is correct when clean." } }
        div.gallery { @for item in &items { (item) } }
    })
}

fn item(model: &str, gallery: &Gallery, item: &GalleryItem) -> Result<Markup, ReportError> {
    let name = |class: usize| gallery.classes.get(class).cloned().unwrap_or_else(|| class.to_string());
    let picture = |pixels: &[u8], what: &str| {
        let says = format!("{model}, image {}, {what}; true class {}", item.index, name(item.label));
        let png = png(gallery.shape, pixels)
            .ok_or_else(|| ReportError::Png { model: model.to_owned(), index: item.index })?;
        Ok::<Markup, ReportError>(html! {
            img src=(format!("data:image/png;base64,{}", STANDARD.encode(png))) alt=(says) width="64" height="64";
        })
    };
    let deployed = |answers: &Answers| answers.deployed.map_or("nothing finite".to_owned(), name);
    let cell = |answer: Option<usize>| {
        let right = answer == Some(item.label);
        let says = answer.map_or("–".to_owned(), name);
        html! { td.wrong[!right] { (says) @if !right { " ✗" } } }
    };
    let (clean, attacked) = (&item.clean_answers, &item.attacked_answers);
    Ok(html! {
        figure.shot {
            div.trio {
                (picture(&item.clean, "clean")?)
                (picture(&item.perturbation, "perturbation, scaled")?)
                (picture(&item.attacked, "attacked")?)
            }
            figcaption {
                strong { "Image " (item.index) ": " (name(item.label)) }
                span { (deployed(clean)) " → " (deployed(attacked)) ", distance " (distance(item.distance)) }
            }
            table {
                thead { tr { th scope="col" { "Read" } th scope="col" { "Clean" } th scope="col" { "Attacked" } } }
                tbody {
                    @for (k, (clean, attacked)) in clean.by_iterate.iter().zip(&attacked.by_iterate).enumerate() {
                        tr { th scope="row" { "z" sub { (k + 1) } } (cell(*clean)) (cell(*attacked)) }
                    }
                    tr { th scope="row" { "deployed" } (cell(clean.deployed)) (cell(attacked.deployed)) }
                }
            }
        }
    })
}

/// In grey levels where it is a whole number of them, as the radius is.
fn distance(distance: f64) -> String {
    let levels = numbers::eps(distance);
    if levels.contains('/') { levels } else { numbers::number(distance) }
}

/// A PNG of pixels in C, H, W order; nothing if there are not as many as the shape says. One channel is grey, three
/// are red, green and blue; of any other number the first is shown.
fn png([channels, height, width]: [usize; 3], pixels: &[u8]) -> Option<Vec<u8>> {
    let plane = height.checked_mul(width)?;
    if plane == 0 || pixels.len() != channels.checked_mul(plane)? {
        return None;
    }
    let (colour, interleaved) = match channels {
        3 => {
            let pixel = |k: usize| [pixels[k], pixels[plane + k], pixels[2 * plane + k]];
            (png::ColorType::Rgb, (0..plane).flat_map(pixel).collect())
        }
        _ => (png::ColorType::Grayscale, pixels[..plane].to_vec()),
    };
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width.try_into().ok()?, height.try_into().ok()?);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&interleaved).ok()?;
    writer.finish().ok()?;
    Some(bytes)
}
