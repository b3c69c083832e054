//! The largest radius of a proof.

/// Halvings of the interval at most.
const HALVINGS: usize = 40;

/// A radius at which something `holds`, next to the largest one to a relative precision; `None` if it holds at none, 0 included. What is
/// returned was tried.
pub(crate) fn largest(most: f64, precision: f64, holds: impl Fn(f64) -> bool) -> Option<f64> {
    if !holds(0.0) {
        return None;
    }
    // What fails far beyond the largest radius takes longest: it is approached from below.
    let (mut found, mut high) = (0.0, most / 64.0);
    while holds(high) {
        found = high;
        if high >= most {
            return Some(found);
        }
        high = (2.0 * high).min(most);
    }
    for _ in 0..HALVINGS {
        if high - found <= precision * found {
            break;
        }
        let middle = 0.5 * (found + high);
        match holds(middle) {
            true => found = middle,
            false => high = middle,
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::largest;

    #[test]
    fn it_is_found_from_below() {
        let found = largest(28.0, 1e-9, |eps| eps < 0.3).unwrap();
        assert!(found < 0.3 && 0.3 - found < 1e-9);
        let roughly = largest(28.0, 1e-2, |eps| eps < 0.3).unwrap();
        assert!(roughly < 0.3 && 0.3 - roughly < 3e-3 && roughly != found);
        assert_eq!(largest(2.0, 1e-3, |_| true), Some(2.0));
        assert_eq!(largest(2.0, 1e-3, |_| false), None);
        assert_eq!(largest(2.0, 1e-3, |eps| eps == 0.0), Some(0.0));
    }
}
