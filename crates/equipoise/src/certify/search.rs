//! The largest radius of a proof.

/// Halvings of the interval at most.
const HALVINGS: usize = 40;

/// A radius at which something `holds`, next to the largest one to a relative precision; `None` if it holds at none, 0 included. What is
/// returned was tried. `guess`, such as what something weaker shows, is tried first after 0.
pub(crate) fn largest(
    guess: Option<f64>,
    most: f64,
    precision: f64,
    holds: impl Fn(f64) -> bool,
) -> Option<f64> {
    if !holds(0.0) {
        return None;
    }
    // What fails far beyond the largest radius takes longest: it is approached from below.
    let guess = guess.filter(|guess| *guess > 0.0 && *guess < most);
    let (mut found, mut high) = (0.0, guess.unwrap_or(most / 64.0));
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
        let found = largest(None, 28.0, 1e-9, |eps| eps < 0.3).unwrap();
        assert!(found < 0.3 && 0.3 - found < 1e-9);
        let roughly = largest(None, 28.0, 1e-2, |eps| eps < 0.3).unwrap();
        assert!(roughly < 0.3 && 0.3 - roughly < 3e-3 && roughly != found);
        assert_eq!(largest(None, 2.0, 1e-3, |_| true), Some(2.0));
        assert_eq!(largest(None, 2.0, 1e-3, |_| false), None);
        assert_eq!(largest(None, 2.0, 1e-3, |eps| eps == 0.0), Some(0.0));
        for guess in [0.0, 0.01, 0.29, 0.31, 27.0, 30.0] {
            let tries = std::cell::Cell::new(0);
            let holds = |eps: f64| {
                tries.set(tries.get() + 1);
                eps < 0.3
            };
            let found = largest(Some(guess), 28.0, 1e-2, holds).unwrap();
            assert!(found < 0.3 && 0.3 - found < 3e-3, "{guess}: {found}");
            assert!(tries.get() < 20, "{guess}: {} tries", tries.get());
        }
    }
}
