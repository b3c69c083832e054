//! WebP.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::{Image, Undecoded, check_size, complete};

pub(super) fn decode(bytes: &[u8], expected: Option<[usize; 2]>) -> Result<Image, Undecoded> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    let size @ [width, height] = [width as usize, height as usize];
    check_size(width, height, expected)?;
    // The decoder's own bound on what a chunk may claim.
    decoder.set_memory_limit(bytes.len().max(4 * width * height));
    let mut buffer = vec![0; decoder.output_buffer_size().ok_or("the WebP image is too large")?];
    let alpha = decoder.has_alpha();
    decoder.read_image(&mut buffer).map_err(|error| error.to_string())?;
    Ok(complete(size, 3, alpha, &buffer)?)
}
