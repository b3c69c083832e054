//! When APGD looks back: the checkpoints (Croce and Hein 2020, arXiv 2003.01690, section 3.2).

/// Steps after which the step size is reconsidered, for a search of `iterations` steps.
///
/// The first window is ⌊0.22·N⌋ steps long; each is ⌊0.03·N⌋ shorter than the one before, down to ⌊0.06·N⌋; all
/// three are at least 1. For N = 100: 22, 41, 57, 70, 80, 87, 93, 99. The paper rounds the checkpoints up where
/// the reference implementation, followed here, rounds the windows down.
pub fn checkpoints(iterations: usize) -> Vec<usize> {
    let part = |percent: usize| (percent * iterations / 100).max(1);
    let (mut window, shrink, shortest) = (part(22), part(3), part(6));
    let mut all = Vec::new();
    let mut last = 0;
    while last + window <= iterations {
        last += window;
        all.push(last);
        window = window.saturating_sub(shrink).max(shortest);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_the_published_one() {
        assert_eq!(checkpoints(100), [22, 41, 57, 70, 80, 87, 93, 99]);
    }

    #[test]
    fn short_searches_have_one_too() {
        assert_eq!(checkpoints(50), [11, 21, 30, 38, 45]);
        assert_eq!(checkpoints(10), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(checkpoints(1), [1]);
        assert_eq!(checkpoints(3), [1, 2, 3]);
        assert!(checkpoints(0).is_empty());
    }
}
