//! The largest radius of a proof.

/// Halvings of the interval: to a part in 10¹² of its length.
const HALVINGS: usize = 40;

/// A radius, near the largest one, at which `holds`; `None` if it holds at none, 0 included. What is returned was tried.
pub(crate) fn largest(most: f64, holds: impl Fn(f64) -> bool) -> Option<f64> {
    if !holds(0.0) {
        return None;
    }
    if holds(most) {
        return Some(most);
    }
    let (mut found, mut high) = (0.0, most);
    for _ in 0..HALVINGS {
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
        let found = largest(28.0, |eps| eps < 0.3).unwrap();
        assert!(found < 0.3 && 0.3 - found < 1e-9);
        assert_eq!(largest(2.0, |_| true), Some(2.0));
        assert_eq!(largest(2.0, |_| false), None);
        assert_eq!(largest(2.0, |eps| eps == 0.0), Some(0.0));
    }
}
