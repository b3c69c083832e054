//! Random crops and flips, drawn per example.

use super::config::Augment;
use equipoise_attack::random::ExampleRng;

/// Augments one image of C·H·W values in place.
pub fn augment(image: &mut [f32], shape: [usize; 3], settings: Augment, rng: &mut ExampleRng) {
    let [c, h, w] = shape;
    let pad = settings.crop as i64;
    let offset = |rng: &mut ExampleRng| (rng.unit() * (2 * pad + 1) as f64) as i64 - pad;
    let (down, right) = (offset(rng), offset(rng));
    let mirror = settings.flip && rng.unit() < 0.5;
    let source = image.to_vec();
    for channel in 0..c {
        for row in 0..h {
            for column in 0..w {
                let from_column = if mirror { w - 1 - column } else { column } as i64 + right;
                let from_row = row as i64 + down;
                let inside = (0..h as i64).contains(&from_row) && (0..w as i64).contains(&from_column);
                image[(channel * h + row) * w + column] = if inside {
                    source[(channel * h + from_row as usize) * w + from_column as usize]
                } else {
                    0.0
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_shifts_and_a_flip_mirrors() {
        let original: Vec<f32> = (1..=9).map(|x| x as f32).collect();
        let settings = Augment { crop: 1, flip: true };
        let (mut shifted, mut mirrored) = (false, false);
        for index in 0..64 {
            let mut image = original.clone();
            augment(&mut image, [1, 3, 3], settings, &mut ExampleRng::new(1, "augment", index, 0));
            // The centre pixel is one of its neighbours or itself, and only a shift brings zeros in.
            assert!(image[4] >= 1.0);
            shifted |= image.contains(&0.0);
            mirrored |= image == [3., 2., 1., 6., 5., 4., 9., 8., 7.];
        }
        assert!(shifted && mirrored);
        let mut untouched = original.clone();
        let nothing = Augment { crop: 0, flip: false };
        augment(&mut untouched, [1, 3, 3], nothing, &mut ExampleRng::new(1, "augment", 0, 0));
        assert_eq!(untouched, original);
    }
}
