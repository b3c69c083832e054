//! Small dense systems on the host.

/// x with A x = b, by Gaussian elimination with partial pivoting; `None` if A is singular to rounding, or an entry is not
/// finite.
pub(crate) fn solve(mut matrix: Vec<Vec<f64>>, right: Vec<f64>) -> Option<Vec<f64>> {
    let n = matrix.len();
    let scale = matrix.iter().flatten().fold(1.0_f64, |scale, entry| scale.max(entry.abs()));
    for (row, right) in matrix.iter_mut().zip(right) {
        row.push(right);
    }
    for column in 0..n {
        let pivot =
            (column..n).max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))?;
        matrix.swap(column, pivot);
        let head = matrix[column][column];
        if !head.is_finite() || head.abs() <= 1e-14 * scale {
            return None;
        }
        let pivot_row = matrix[column].clone();
        for row in matrix.iter_mut().skip(column + 1) {
            let factor = row[column] / head;
            row.iter_mut().zip(&pivot_row).skip(column).for_each(|(entry, pivot)| *entry -= factor * pivot);
        }
    }
    let mut solution = vec![0.0; n];
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| matrix[row][k] * solution[k]).sum();
        solution[row] = (matrix[row][n] - known) / matrix[row][row];
    }
    solution.iter().all(|entry| entry.is_finite()).then_some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_solved_or_said_to_be_singular() {
        let matrix = vec![vec![0.0, 2.0, 1.0], vec![1.0, 1.0, 0.0], vec![3.0, 0.0, -1.0]];
        let found = solve(matrix, vec![7.0, 3.0, 0.0]).unwrap();
        for (found, expected) in found.iter().zip([1.0, 2.0, 3.0]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert_eq!(solve(vec![vec![1.0, 1.0], vec![1.0, 1.0]], vec![1.0, 2.0]), None);
        assert_eq!(solve(vec![vec![f64::NAN]], vec![1.0]), None);
    }
}
