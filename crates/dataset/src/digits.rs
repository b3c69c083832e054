//! `digits`: 1,797 handwritten digits of 8x8 pixels, embedded, so that everything runs without a download.
//!
//! Source, licence and format of the file: `data/README.md`.
//! The split is this crate's own and fixed: the images are shuffled by Fisher and Yates's method with
//! SplitMix64 (Steele, Lea and Flood 2014) from [`SEED`]; the first [`TEST_PER_CLASS`] of every class, in
//! shuffled order, are the test part (500), the other 1,297 the training part.

use std::io::Read;

use flate2::read::GzDecoder;

use crate::{Dataset, DatasetError, Pixels, Split};

static FILE: &[u8] = include_bytes!("../data/digits.csv.gz");
const PLACE: &str = "the embedded digits.csv.gz";
const SEED: u64 = 0;
const CLASSES: usize = 10;
const TEST_PER_CLASS: usize = 50;
const SIZE: usize = 64;

pub(crate) fn load(split: Split) -> Result<Dataset, DatasetError> {
    let mut text = String::new();
    GzDecoder::new(FILE).read_to_string(&mut text).map_err(damaged)?;
    let images = text.lines().map(parse_line).collect::<Result<Vec<_>, _>>()?;

    let mut tested = [0; CLASSES];
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for index in shuffled(images.len()) {
        let (image, label) = images[index];
        let in_test = tested.get(label).is_some_and(|&count| count < TEST_PER_CLASS);
        if in_test {
            tested[label] += 1;
        }
        if in_test == (split == Split::Test) {
            pixels.extend(image);
            labels.push(label);
        }
    }
    let names = (0..CLASSES).map(|digit| digit.to_string()).collect();
    Dataset::at(PLACE, "Digits", [1, 8, 8], CLASSES, names, Pixels::U8(pixels), labels)
}

/// 64 pixels in 0..=16 and a digit.
fn parse_line(line: &str) -> Result<([u8; SIZE], usize), DatasetError> {
    let values = line.split(',').map(str::parse).collect::<Result<Vec<u8>, _>>().map_err(damaged)?;
    match values.split_last() {
        Some((&label, pixels)) if pixels.len() == SIZE && pixels.iter().all(|&ink| ink <= 16) => {
            // round(v * 255 / 16) in integers.
            let image = std::array::from_fn(|at| ((u16::from(pixels[at]) * 255 + 8) / 16) as u8);
            Ok((image, usize::from(label)))
        }
        _ => Err(damaged("a line does not hold 64 pixels and a digit")),
    }
}

fn damaged(problem: impl std::fmt::Display) -> DatasetError {
    DatasetError::format(PLACE, problem, "rebuild from a clean checkout")
}

/// The numbers below `count` in a fixed random order.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = SEED;
    for last in (1..count).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        order.swap(last, (bits % (last as u64 + 1)) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_splits_have_their_sizes_and_the_test_part_is_balanced() {
        let train = load(Split::Train).unwrap();
        let test = load(Split::Test).unwrap();
        assert_eq!((train.len(), test.len()), (1297, 500));
        for class in 0..10 {
            assert_eq!(test.labels.iter().filter(|&&label| label == class).count(), 50);
            // Counts of the original: 174 to 183 per digit.
            assert!((124..=133).contains(&train.labels.iter().filter(|&&label| label == class).count()));
        }
    }

    #[test]
    fn the_split_never_changes() {
        // Results name this split; a change of shuffle would make old and new results incomparable.
        let test = load(Split::Test).unwrap();
        assert_eq!(test.labels[..10], [3, 3, 5, 4, 2, 6, 0, 6, 9, 8]);
        assert_eq!(load(Split::Train).map(fingerprint).unwrap(), 6006399104040142536);
        assert_eq!(fingerprint(test), 12866043351792810827);
    }

    /// A hash (FNV-1a) of all pixels and labels.
    fn fingerprint(set: Dataset) -> u64 {
        let all: Vec<usize> = (0..set.len()).collect();
        let values = set.images(&all).into_iter().map(|value| (value * 255.0).round() as u64);
        let values = values.chain(set.labels.iter().map(|&label| label as u64));
        values.fold(0xcbf2_9ce4_8422_2325, |hash, value| (hash ^ value).wrapping_mul(0x0100_0000_01b3))
    }

    #[test]
    fn ink_is_scaled_to_bytes() {
        let line = (0..64).map(|at| (at % 17).to_string()).collect::<Vec<_>>().join(",") + ",7";
        let (image, label) = parse_line(&line).unwrap();
        assert_eq!(label, 7);
        for (at, &value) in image.iter().enumerate().take(17) {
            assert_eq!(f64::from(value), (at as f64 * 255.0 / 16.0).round());
        }
        assert!(parse_line("1,2,3").is_err());
    }
}
