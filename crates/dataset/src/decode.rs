//! One PNG or JPEG file to 8-bit pixels.
//!
//! The decoders (`png`, `zune-jpeg`) are those of the `image` crate, called directly: gray stays gray, nothing
//! is colour-managed, and a truncated file is an error, not a half-gray image.

use std::io::Cursor;

use png::{ColorType, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// A decoded image.
pub(crate) struct Image {
    pub width: usize,
    pub height: usize,
    /// 1 (gray) or 3 (red, green, blue).
    pub channels: usize,
    /// `height * width * channels` values, the channels of a pixel side by side.
    interleaved: Vec<u8>,
}

impl Image {
    /// Width and height as errors print them.
    pub fn size(&self) -> String {
        format!("{}x{}", self.width, self.height)
    }

    /// Writes the image as planes (C, H, W) of `out`, whose length is 1 or 3 planes.
    /// Gray becomes three equal planes where three are asked for; a colour image must be given three.
    pub fn write_planes(&self, out: &mut [u8]) {
        let area = self.width * self.height;
        for (channel, plane) in out.chunks_exact_mut(area).enumerate() {
            let first = if self.channels == 1 { 0 } else { channel };
            let values = self.interleaved.iter().skip(first).step_by(self.channels);
            for (to, &from) in plane.iter_mut().zip(values) {
                *to = from;
            }
        }
    }
}

/// Whether the bytes begin like a JPEG file.
pub(crate) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

/// Decodes by what the bytes are, whatever the file is called. The error says what is wrong.
pub(crate) fn decode(bytes: &[u8]) -> Result<Image, String> {
    if is_jpeg(bytes) {
        jpeg(bytes)
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        png(bytes)
    } else {
        Err("neither a PNG nor a JPEG image".into())
    }
}

fn jpeg(bytes: &[u8]) -> Result<Image, String> {
    // The decoder fills up what is missing of a truncated image, strict or not.
    if !has_its_end(bytes) {
        return Err("the JPEG image is truncated (no end marker)".into());
    }
    let options = DecoderOptions::default().set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| format!("{error}"))?;
    let gray = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let out = if gray { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(out));
    let interleaved = decoder.decode().map_err(|error| format!("{error}"))?;
    let info = decoder.info().ok_or("no JPEG header")?;
    let channels = if gray { 1 } else { 3 };
    complete(Image { width: info.width.into(), height: info.height.into(), channels, interleaved })
}

/// Whether an end marker (FF D9) follows the last scan (FF DA). In coded data FF is always followed by 00 or a
/// restart marker; thumbnails with markers of their own come before the scans.
fn has_its_end(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    last(0xda).is_some_and(|scan| last(0xd9).is_some_and(|end| end > scan))
}

fn png(bytes: &[u8]) -> Result<Image, String> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    // Palettes become colours, 1 to 16 bits become 8.
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let length = reader.output_buffer_size().ok_or("the PNG image is too large")?;
    let mut buffer = vec![0; length];
    let frame = reader.next_frame(&mut buffer).map_err(|error| error.to_string())?;
    buffer.truncate(frame.buffer_size());
    let (channels, alpha) = match frame.color_type {
        ColorType::Grayscale => (1, false),
        ColorType::GrayscaleAlpha => (1, true),
        ColorType::Rgba => (3, true),
        ColorType::Rgb | ColorType::Indexed => (3, false),
    };
    if alpha {
        buffer = without_alpha(&buffer, channels)?;
    }
    complete(Image {
        width: frame.width as usize,
        height: frame.height as usize,
        channels,
        interleaved: buffer,
    })
}

/// Drops an alpha channel that says nothing. What lies behind a transparent pixel is not ours to choose.
fn without_alpha(values: &[u8], channels: usize) -> Result<Vec<u8>, String> {
    let mut colours = Vec::with_capacity(values.len());
    for pixel in values.chunks_exact(channels + 1) {
        if pixel[channels] != 255 {
            return Err("the PNG image has transparent pixels (flatten it onto a background first)".into());
        }
        colours.extend_from_slice(&pixel[..channels]);
    }
    Ok(colours)
}

fn complete(image: Image) -> Result<Image, String> {
    match image.interleaved.len() == image.width * image.height * image.channels {
        true => Ok(image),
        false => Err("the decoder returned an incomplete image".into()),
    }
}
