//! One image file to 8-bit pixels: PNG, JPEG, BMP, PPM and PGM, TIFF and WebP, told apart by their first bytes.
//!
//! The decoders of PNG, JPEG, TIFF and WebP are those of the `image` crate, called directly: gray stays gray, nothing
//! is colour-managed or turned, and a truncated file is an error, not a half-gray image. Where a file holds several
//! images (pages, frames), the first is meant, as in Pillow.

mod bmp;
mod jpeg;
mod png;
mod pnm;
mod tiff;
mod webp;

/// The largest image that is decoded, Pillow's limit: some 9,459 x 9,459. A header can claim any size, and memory is
/// taken by what it claims.
pub(crate) const MAX_PIXELS: usize = 1024 * 1024 * 1024 / 4 / 3;

/// Why there is no image.
#[derive(Debug, PartialEq)]
pub(crate) enum Undecoded {
    /// It is not of the size that was expected: its width and height, from its header.
    Size([usize; 2]),
    /// What is wrong with it.
    Damaged(String),
}

impl From<String> for Undecoded {
    fn from(problem: String) -> Self {
        Self::Damaged(problem)
    }
}

impl From<&str> for Undecoded {
    fn from(problem: &str) -> Self {
        Self::Damaged(problem.to_owned())
    }
}

/// A decoded image.
pub(crate) struct Image {
    pub width: usize,
    pub height: usize,
    /// 1 (gray) or 3 (red, green, blue).
    pub channels: usize,
    /// `channels` planes of `height * width` values.
    pub planes: Vec<u8>,
}

impl Image {
    /// Writes the image as planes (C, H, W) of `out`, whose length is 1 or 3 planes.
    /// Gray becomes three equal planes where three are asked for; a colour image must be given three.
    pub fn write_planes(&self, out: &mut [u8]) {
        let area = self.width * self.height;
        for (channel, plane) in out.chunks_exact_mut(area).enumerate() {
            let first = if self.channels == 1 { 0 } else { channel * area };
            plane.copy_from_slice(&self.planes[first..first + area]);
        }
    }
}

/// What a file is by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Png,
    Jpeg,
    Bmp,
    Pnm,
    Tiff,
    WebP,
    /// An image of a kind that is not read, by name.
    Other(&'static str),
}

/// How many bytes [`Format::of`] looks at.
pub(crate) const MAGIC_LENGTH: usize = 16;

impl Format {
    /// `None` when the bytes do not begin like an image.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let begins = |magic: &[u8]| bytes.starts_with(magic);
        let holds = |at: usize, magic: &[u8]| bytes.get(at..at + magic.len()) == Some(magic);
        Some(match bytes {
            _ if is_jpeg(bytes) => Self::Jpeg,
            _ if begins(b"\x89PNG\r\n\x1a\n") => Self::Png,
            _ if begins(b"RIFF") && holds(8, b"WEBP") => Self::WebP,
            _ if begins(b"II*\0") || begins(b"MM\0*") || begins(b"II+\0") || begins(b"MM\0+") => Self::Tiff,
            // The second zeros are reserved, so that text which begins with BM is not meant.
            _ if begins(b"BM") && holds(6, &[0; 4]) => Self::Bmp,
            [b'P', b'1'..=b'6', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..] => Self::Pnm,
            _ if begins(b"GIF8") => Self::Other("GIF"),
            _ if holds(4, b"ftypavi") => Self::Other("AVIF"),
            _ if holds(4, b"ftyphei") || holds(4, b"ftypmif1") || holds(4, b"ftyphev") => Self::Other("HEIF"),
            _ if begins(b"\0\0\0\x0cJXL ") || begins(b"\xff\x0a") => Self::Other("JPEG XL"),
            _ if begins(b"\0\0\0\x0cjP  ") || begins(b"\xff\x4f\xff\x51") => Self::Other("JPEG 2000"),
            _ if begins(b"8BPS") => Self::Other("Photoshop"),
            _ if begins(b"\x76\x2f\x31\x01") => Self::Other("OpenEXR"),
            _ if begins(b"qoif") => Self::Other("QOI"),
            _ if begins(b"DDS ") => Self::Other("DDS"),
            _ => return None,
        })
    }
}

/// Whether the bytes begin like a JPEG file.
pub(crate) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

/// Decodes by what the bytes are, whatever the file is called. Where a width and a height are expected, an image of
/// another size is refused by its header. The error says what is wrong.
pub(crate) fn decode(bytes: &[u8], expected: Option<[usize; 2]>) -> Result<Image, Undecoded> {
    match Format::of(bytes) {
        Some(Format::Png) => png::decode(bytes, expected),
        Some(Format::Jpeg) => jpeg::decode(bytes, expected),
        Some(Format::Bmp) => bmp::decode(bytes, expected),
        Some(Format::Pnm) => pnm::decode(bytes, expected),
        Some(Format::Tiff) => tiff::decode(bytes, expected),
        Some(Format::WebP) => webp::decode(bytes, expected),
        Some(Format::Other(name)) => Err(format!("{name} images are not read (convert it to PNG)").into()),
        None => Err("neither a PNG nor a JPEG image, nor BMP, PPM, PGM, TIFF or WebP".into()),
    }
}

/// Refuses sizes that are not expected or that no image of a data set has, before memory is taken for them.
fn check_size(width: usize, height: usize, expected: Option<[usize; 2]>) -> Result<(), Undecoded> {
    if expected.is_some_and(|expected| expected != [width, height]) {
        return Err(Undecoded::Size([width, height]));
    }
    match width.checked_mul(height) {
        Some(1..=MAX_PIXELS) => Ok(()),
        Some(0) => Err(format!("its header claims {width}x{height} pixels, which is none").into()),
        _ => Err(format!("its header claims {width}x{height} pixels, more than {MAX_PIXELS}").into()),
    }
}

/// From channels side by side, the last of them alpha if `alpha`, to planes.
fn complete(
    [width, height]: [usize; 2],
    channels: usize,
    alpha: bool,
    interleaved: &[u8],
) -> Result<Image, String> {
    let stored = channels + usize::from(alpha);
    if interleaved.len() != width * height * stored {
        return Err("the decoder returned an incomplete image".into());
    }
    // An opaque alpha channel says nothing. What lies behind a transparent pixel is not ours to choose.
    if alpha && interleaved.iter().skip(channels).step_by(stored).any(|&alpha| alpha != 255) {
        return Err("the image has transparent pixels (flatten it onto a background first)".into());
    }
    let mut planes = Vec::with_capacity(width * height * channels);
    for channel in 0..channels {
        planes.extend(interleaved.iter().skip(channel).step_by(stored));
    }
    Ok(Image { width, height, channels, planes })
}

/// The high byte of each 16-bit value: how Pillow and libpng make 8 bits of 16.
fn high_bytes(values: &[u16]) -> Vec<u8> {
    values.iter().map(|value| (value >> 8) as u8).collect()
}
