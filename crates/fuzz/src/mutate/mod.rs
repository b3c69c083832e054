//! Damage to files, by what they are: inside a container, with lengths and checksums that stay right, so that more is
//! tested than the container's own check.

mod archives;
mod arrays;
mod bytes;
mod json;
mod png;
mod safetensors;
mod text;

pub use archives::{gzip, tar, tarred, zip};
pub use arrays::{mat, npy};
pub use bytes::bytes;
pub use json::{json, json_lines, sealed};
pub use png::png;
pub use safetensors::safetensors;
pub use text::text;

use crate::Choices;

/// Damages a file.
pub type Mutator = fn(&[u8], &mut Choices<'_>) -> Vec<u8>;

/// Adds what a bomb is made of: many bytes that are packed into few.
fn inflated(content: &mut Vec<u8>, choices: &mut Choices<'_>) {
    if choices.one_in(250) {
        content.resize(content.len() + (160 << 20), 0);
    }
}
