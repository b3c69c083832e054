//! Images to look at: what was shown to a model, what was added, and what it answered at every iterate.

use serde::{Deserialize, Serialize};

/// Some examples of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gallery {
    /// Channels, height, width of an image.
    pub shape: [usize; 3],
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Perturbations are shown as mid-grey + scale × perturbation, clipped.
    pub scale: f64,
    /// The examples.
    pub items: Vec<GalleryItem>,
}

/// One example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GalleryItem {
    /// Index in the data set's split.
    pub index: usize,
    /// True class.
    pub label: usize,
    /// The image, 8 bits per channel in C, H, W order, in hexadecimal.
    #[serde(with = "hexadecimal")]
    pub clean: Vec<u8>,
    /// The perturbation, scaled.
    #[serde(with = "hexadecimal")]
    pub perturbation: Vec<u8>,
    /// The attacked image, rounded to 8 bits.
    #[serde(with = "hexadecimal")]
    pub attacked: Vec<u8>,
    /// Length of the perturbation in the budget's norm.
    pub distance: f64,
    /// What the model answered for the image.
    pub clean_answers: Answers,
    /// What it answered for the attacked image.
    pub attacked_answers: Answers,
}

/// Predicted classes; absent where logits are not finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// When z_1, z_2, .. is read. Empty for a feedforward network.
    pub by_iterate: Vec<Option<usize>>,
    /// Of the deployed readout.
    pub deployed: Option<usize>,
}

/// Bytes as a string of hexadecimal digits.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        to.serialize_str(&text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let byte = |pair: &[u8]| {
            let digits = std::str::from_utf8(pair).ok()?;
            (pair.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
        };
        let bytes = text.as_bytes().chunks(2).map(byte).collect::<Option<_>>();
        bytes.ok_or_else(|| D::Error::custom("pixels are pairs of hexadecimal digits"))
    }
}
