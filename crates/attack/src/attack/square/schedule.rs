//! How large Square Attack's squares are as the queries go by (Andriushchenko et al. 2020, arXiv 1912.00049,
//! section 4.1).

/// Queries past which the share of pixels is halved once more.
const HALVED_PAST: [usize; 9] = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000];

/// The share of an image's pixels that a square changes at this query (the first is 0): `initial` divided by 2, 4,
/// .., 512 past queries 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000. The queries are not rescaled to the
/// number of all queries, as in the reference version of AutoAttack.
pub fn square_share(initial: f64, query: usize) -> f64 {
    let halvings = HALVED_PAST.iter().filter(|&&past| query > past).count() as i32;
    initial / 2.0_f64.powi(halvings)
}

/// The side of a square of this share of the pixels, at least `least` and at most the image's shorter side.
pub(super) fn side(share: f64, [height, width]: [usize; 2], least: usize) -> usize {
    let side = (share * (height * width) as f64).sqrt().round_ties_even() as usize;
    side.max(least).min(height.min(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_the_published_one() {
        let expected = [
            (0, 1),
            (10, 1),
            (11, 2),
            (50, 2),
            (51, 4),
            (200, 4),
            (201, 8),
            (500, 8),
            (501, 16),
            (1000, 16),
            (1001, 32),
            (2000, 32),
            (2001, 64),
            (4000, 64),
            (4001, 128),
            (6000, 128),
            (6001, 256),
            (8000, 256),
            (8001, 512),
            (100_000, 512),
        ];
        for (query, divisor) in expected {
            assert_eq!(square_share(0.8, query), 0.8 / f64::from(divisor), "query {query}");
        }
    }

    #[test]
    fn squares_shrink_to_a_pixel() {
        let sides: Vec<usize> = [0, 11, 51, 201, 501, 1001, 2001, 4001, 4999]
            .into_iter()
            .map(|query| side(square_share(0.8, query), [32, 32], 1))
            .collect();
        assert_eq!(sides, [29, 20, 14, 10, 7, 5, 4, 3, 3]);
        assert_eq!(side(1e-6, [32, 32], 1), 1);
        assert_eq!(side(1.0, [4, 9], 1), 4);
    }
}
