//! When APGD looks back: the checkpoints (Croce and Hein 2020, arXiv 2003.01690, section 3.2), and for L1 the
//! phases with larger balls before the last (Croce and Hein 2021, arXiv 2103.01208).

use crate::attack::{Budget, Norm};

/// A stretch of a search: so many steps within one ball.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Phase {
    /// The ball.
    pub budget: Budget,
    /// Gradient steps.
    pub iterations: usize,
    /// Steps after which the step size is reconsidered.
    pub checkpoints: Vec<usize>,
    /// Whether it is the last, within the budget itself: only there is a misclassified point a success.
    pub last: bool,
}

/// The phases of a search of `iterations` steps: one for L∞ and L2; for L1 three within 3ε, 2ε and ε, of ⌈0.3·N⌉,
/// ⌈0.3·N⌉ and the remaining steps, the larger balls left out for N < 3. The checkpoints of L1 are ⌊0.04·n⌋ steps
/// apart, at least 1, for a phase of n steps.
pub(super) fn phases(iterations: usize, budget: &Budget) -> Vec<Phase> {
    if budget.norm() != Norm::L1 {
        let checkpoints = checkpoints(iterations);
        return vec![Phase { budget: *budget, iterations, checkpoints, last: true }];
    }
    let wide = (3 * iterations).div_ceil(10).min(iterations.saturating_sub(1) / 2);
    [(3.0, wide), (2.0, wide), (1.0, iterations - 2 * wide)]
        .into_iter()
        .filter(|&(_, steps)| steps > 0)
        .map(|(times, steps)| Phase {
            budget: budget.times(times),
            iterations: steps,
            checkpoints: (1..=steps).filter(|step| step % (4 * steps / 100).max(1) == 0).collect(),
            last: times == 1.0,
        })
        .collect()
}

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
    fn a_search_in_l1_begins_in_larger_balls() {
        let steps = |iterations| {
            let budget = Budget::new(Norm::L1, 12.0).unwrap();
            phases(iterations, &budget)
                .iter()
                .map(|p| (p.budget.eps(), p.iterations, p.last))
                .collect::<Vec<_>>()
        };
        assert_eq!(steps(100), [(36.0, 30, false), (24.0, 30, false), (12.0, 40, true)]);
        assert_eq!(steps(4), [(36.0, 1, false), (24.0, 1, false), (12.0, 2, true)]);
        assert_eq!(steps(2), [(12.0, 2, true)]);
        assert_eq!(steps(1), [(12.0, 1, true)]);
        let long = phases(250, &Budget::new(Norm::L1, 12.0).unwrap());
        assert_eq!(long[0].checkpoints[..3], [3, 6, 9]);
        assert_eq!(phases(100, &Budget::new(Norm::L2, 0.5).unwrap()).len(), 1);
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
