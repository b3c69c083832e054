//! Image files of every format, through `folder:PATH`: the files are those that `tests/data/make.py` had Pillow write.

mod common;

use std::fs;

use common::*;
use equipoise_dataset::{Dataset, DatasetError, Source, Split};
use tempfile::tempdir;

/// Loads one image file under a name.
fn load(name: &str, content: &[u8]) -> Result<Dataset, DatasetError> {
    let folder = tempdir().unwrap();
    fs::create_dir_all(folder.path().join("train/a")).unwrap();
    fs::write(folder.path().join("train/a").join(name), content).unwrap();
    Source::Folder(folder.path().into()).load(Split::Train)
}

fn refused(name: &str, content: &[u8]) -> String {
    let message = load(name, content).unwrap_err().to_string();
    println!("{message}");
    message
}

/// 7x5 pixels: red 30 x + y, green 50 y, blue 255 - red; gray is 36 x + y. Both sides are odd, so that rows are filled
/// up in the formats that fill them.
fn colour() -> Vec<u8> {
    let plane = |value: fn(u8, u8) -> u8| (0..35).map(move |at| value(at % 7, at / 7));
    let red = |x, y| 30 * x + y;
    plane(red).chain(plane(|_, y| 50 * y)).chain(plane(|x, y| 255 - 30 * x - y)).collect()
}

fn gray() -> Vec<u8> {
    (0..35).map(|at| 36 * (at % 7) + at / 7).collect()
}

#[test]
fn lossless_formats_keep_every_value() {
    for name in [
        "rgb.png",
        "rgb.bmp",
        "rgb32.bmp",
        "rgb.ppm",
        "rgb.tiff",
        "rgb-lzw.tif",
        "rgb-deflate.tif",
        "rgb-packbits.tif",
        "rgb.webp",
        "rgba-opaque.png",
        "rgba-opaque.tif",
        "palette.png",
        "palette.bmp",
    ] {
        let set = load(name, &fs::read(fixture(&format!("formats/{name}"))).unwrap()).unwrap();
        assert_eq!((set.shape, bytes(&set)), ([3, 5, 7], colour()), "{name}");
    }
    for name in
        ["gray.png", "gray.bmp", "gray.pgm", "gray.tif", "gray-alpha-opaque.png", "gray-alpha-opaque.tif"]
    {
        let set = load(name, &fs::read(fixture(&format!("formats/{name}"))).unwrap()).unwrap();
        assert_eq!((set.shape, bytes(&set)), ([1, 5, 7], gray()), "{name}");
    }
    // 16 bits keep their high byte.
    for name in ["gray16.png", "gray16.tif"] {
        let set = load(name, &fs::read(fixture(&format!("formats/{name}"))).unwrap()).unwrap();
        assert_eq!((set.shape, bytes(&set)), ([1, 5, 7], gray()), "{name}");
    }
    // One bit is black or white.
    let expected: Vec<u8> = gray().into_iter().map(|value| if value > 127 { 255 } else { 0 }).collect();
    for name in ["bits.png", "bits.bmp", "bits.tif"] {
        let set = load(name, &fs::read(fixture(&format!("formats/{name}"))).unwrap()).unwrap();
        assert_eq!((set.shape, bytes(&set)), ([1, 5, 7], expected.clone()), "{name}");
    }
}

#[test]
fn endings_count_in_any_case_and_contents_by_their_bytes() {
    let png = fs::read(fixture("formats/rgb.png")).unwrap();
    for name in ["A.PNG", "a.Jpeg", "a.TIF", "a.WebP"] {
        assert_eq!(bytes(&load(name, &png).unwrap()), colour(), "{name}");
    }
}

#[test]
fn pnm_as_text_and_with_other_largest_values() {
    let gray = |text: &[u8]| bytes(&load("a.pgm", text).unwrap());
    assert_eq!(gray(b"P2\n# made by hand\n3 1\n# 3 values\n4\n0 1 4\n"), [0, 64, 255]);
    assert_eq!(gray(b"P5 3 1 4\n\x00\x01\x04"), [0, 64, 255]);
    // The first pixel looks like a space.
    assert_eq!(gray(b"P5 2 1 255\n\x20\x0a"), [32, 10]);
    assert_eq!(gray(b"P5 2 1 65535\n\x80\x00\xff\xff"), [128, 255]);
    assert_eq!(gray(b"P1 3 2 010\n1 1 0"), [255, 0, 255, 0, 0, 255]);
    assert_eq!(gray(b"P4 3 2 \x40\xc0"), [255, 0, 255, 0, 0, 255]);
    assert_eq!(bytes(&load("a.ppm", b"P3 1 1 255 1 2 3").unwrap()), [1, 2, 3]);
    for (text, problem) in [
        (&b"P5 3 1 255\n\x00\x01"[..], "announces 3 values, and 2 follow"),
        (b"P2 3 1 255 1 2", "announces 3 values"),
        (b"P5 3", "header"),
        (b"P5 0 1 255\n", "0x1"),
        (b"P5 1 1 0\n\0", "largest value is 0"),
        (b"P6 99999 99999 255\n", "99999x99999 pixels, more than"),
        (b"P2 9000 9000 255 1 2", "announces 81000000 values"),
        (b"P1 2 1 0 x", "neither 0 nor 1"),
    ] {
        says(&refused("a.pgm", text), &["a.pgm:", problem]);
    }
}

#[test]
fn transparent_images_are_refused_in_every_format() {
    for name in ["rgba.png", "rgba.tif", "rgba.webp", "gray-alpha.png", "gray-alpha.tif"] {
        let content = fs::read(fixture(&format!("formats/{name}"))).unwrap();
        says(&refused(name, &content), &[name, "transparent"]);
    }
}

#[test]
fn kinds_that_are_not_read_are_named() {
    for (name, problem) in [
        ("cmyk.jpg", "CMYK"),
        ("palette.tif", "convert it to PNG"),
        ("float.tif", "convert it to PNG"),
        ("rle.bmp", "RLE"),
    ] {
        let content = fs::read(fixture(&format!("formats/{name}"))).unwrap();
        says(&refused(name, &content), &[name, problem]);
    }
}

#[test]
fn truncated_files_of_every_format_are_refused() {
    for entry in fs::read_dir(fixture("formats")).unwrap() {
        let path = entry.unwrap().path();
        let (name, content) = (path.file_name().unwrap().to_str().unwrap(), fs::read(&path).unwrap());
        for kept in [content.len() - content.len() / 5, content.len() / 2, 20, 3, 0] {
            let message = refused(name, &content[..kept]);
            says(&message, &[name]);
        }
    }
}

#[test]
fn no_damaged_byte_makes_a_decoder_panic_or_take_all_memory() {
    for entry in fs::read_dir(fixture("formats")).unwrap() {
        let path = entry.unwrap().path();
        let (name, whole) = (path.file_name().unwrap().to_str().unwrap(), fs::read(&path).unwrap());
        let folder = tempdir().unwrap();
        fs::create_dir_all(folder.path().join("train/a")).unwrap();
        let source = Source::Folder(folder.path().into());
        for at in 0..whole.len().min(120) {
            for value in [0, 255] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                fs::write(folder.path().join("train/a").join(name), damaged).unwrap();
                // Damage may go unseen (in a colour), but what is returned is whole.
                if let Err(error) = source.load(Split::Train) {
                    says(&error.to_string(), &[name]);
                }
            }
        }
    }
}

#[test]
fn palettes_of_no_whole_number_of_colours_are_refused() {
    let content = fs::read(fixture("formats/palette.png")).unwrap();
    let at = content.windows(4).position(|name| name == b"PLTE").unwrap();
    let length = u32::from_be_bytes(content[at - 4..at].try_into().unwrap()) as usize;
    let with = |palette: &[u8]| {
        let chunk = [b"PLTE", palette].concat();
        let mut sum = flate2::Crc::new();
        sum.update(&chunk);
        let start = [&content[..at - 4], &(palette.len() as u32).to_be_bytes()].concat();
        [&start[..], &chunk, &sum.sum().to_be_bytes(), &content[at + 4 + length + 4..]].concat()
    };
    let palette = &content[at + 4..at + 4 + length];
    load("a.png", &with(palette)).unwrap();
    says(&refused("a.png", &with(&palette[..length - 1])), &["a.png", "whole colours"]);
    for palette in [&palette[..2], &[], &[0; 3 * 257], &[0; 3 * 257 + 1]] {
        says(&refused("a.png", &with(palette)), &["a.png"]);
    }
}
