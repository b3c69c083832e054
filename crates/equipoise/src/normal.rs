//! Standard normal numbers, the same on every machine: by `libm`, whose logarithm and cosine are its own. Those of `std` are the C
//! library's, which differ.

/// A standard normal number of two uniform ones, the first above 0 (Box and Muller 1958).
pub fn box_muller(u: f64, v: f64) -> f64 {
    libm::sqrt(-2.0 * libm::log(u)) * libm::cos(std::f64::consts::TAU * v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_pinned() {
        // To the bit: starts of attacks, initial weights and the noise of certificates hang on them.
        let found = [(0.5, 0.0), (0.3, 0.1), (1e-9, 0.77)].map(|(u, v)| box_muller(u, v));
        assert_eq!(found, [1.177_410_022_515_474_7, 1.255_396_694_924_721_3, 0.806_882_583_581_953_7]);
    }
}
