//! PBM, PGM and PPM, as text (P1 to P3) or bytes (P4 to P6).

use super::{Image, Undecoded, check_size, complete};

pub(super) fn decode(bytes: &[u8], expected: Option<[usize; 2]>) -> Result<Image, Undecoded> {
    let kind = bytes[1];
    let mut rest = &bytes[2..];
    let mut number = || number(&mut rest).ok_or("its header is not that of a PNM image");
    let (width, height) = (number()?, number()?);
    let max = if matches!(kind, b'1' | b'4') { 1 } else { number()? };
    check_size(width, height, expected)?;
    if !(1..=65_535).contains(&max) {
        return Err(format!("its largest value is {max}, outside 1..=65535").into());
    }
    let channels = if matches!(kind, b'3' | b'6') { 3 } else { 1 };
    let count = width * height * channels;
    // Rounded half to even, as Pillow does.
    let scaled = |value: usize| (value.min(max) as f64 * 255.0 / max as f64).round_ties_even() as u8;
    let values: Vec<u8> = match kind {
        b'1' => digits(rest, count)?.into_iter().map(|bit| 255 * (1 - bit)).collect(),
        b'2' | b'3' => {
            // A value takes a digit and a space at least, so that a header cannot claim more than the file has.
            if count > rest.len().div_ceil(2) {
                return Err(short(count, rest.len().div_ceil(2)).into());
            }
            let mut values = Vec::with_capacity(count);
            while let Some(value) = self::number(&mut rest).filter(|_| values.len() < count) {
                values.push(scaled(value));
            }
            values
        }
        binary => {
            // One space ends the header; the next byte may look like a space and is a pixel.
            let body = rest.get(1..).unwrap_or_default();
            match binary {
                b'4' => {
                    let row = width.div_ceil(8);
                    let rows = body.get(..row * height).ok_or_else(|| short(row * height, body.len()))?;
                    let pixel =
                        |row: &[u8], x: usize| if row[x / 8] >> (7 - x % 8) & 1 == 1 { 0 } else { 255 };
                    rows.chunks_exact(row).flat_map(|row| (0..width).map(move |x| pixel(row, x))).collect()
                }
                _ if max < 256 => {
                    let values = body.get(..count).ok_or_else(|| short(count, body.len()))?;
                    values.iter().map(|&value| scaled(value.into())).collect()
                }
                _ => {
                    let values = body.get(..2 * count).ok_or_else(|| short(2 * count, body.len()))?;
                    let values = values.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
                    values.map(|value| scaled(value.into())).collect()
                }
            }
        }
    };
    if values.len() != count {
        return Err(short(count, values.len()).into());
    }
    Ok(complete([width, height], channels, false, &values)?)
}

fn short(expected: usize, found: usize) -> String {
    format!("it is truncated: its header announces {expected} values, and {found} follow")
}

/// The next number; spaces and comments before it are skipped.
fn number(rest: &mut &[u8]) -> Option<usize> {
    loop {
        match rest.first()? {
            b'#' => *rest = &rest[rest.iter().position(|&byte| byte == b'\n' || byte == b'\r')?..],
            byte if byte.is_ascii_whitespace() => *rest = &rest[1..],
            _ => break,
        }
    }
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, after) = rest.split_at(length);
    *rest = after;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Bits as text, with or without spaces between them.
fn digits(text: &[u8], count: usize) -> Result<Vec<u8>, String> {
    let mut bits = Vec::new();
    for &byte in text.iter().filter(|byte| !byte.is_ascii_whitespace()).take(count) {
        match byte {
            b'0' | b'1' => bits.push(byte - b'0'),
            _ => return Err("its pixels are neither 0 nor 1".into()),
        }
    }
    Ok(bits)
}
