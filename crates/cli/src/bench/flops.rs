//! Work in floating-point operations, as a direct convolution would do it: an implementation that needs fewer shows a
//! higher rate for it.

use equipoise::model::mdeq::MdeqConfig;

/// Products and sums of all convolutions of one cell evaluation, for one example. A vector-Jacobian product has as
/// many: each convolution's data gradient is a convolution of the same size.
pub fn cell(config: &MdeqConfig) -> f64 {
    let layout = config.layout();
    let branches = layout.branches();
    let area = |branch: usize| branches[branch][1] * branches[branch][2];
    let mut terms = 0;
    for (i, &channels) in config.channels.iter().enumerate() {
        terms += 2 * 9 * channels * channels * config.expansion * area(i);
    }
    if branches.len() > 1 {
        for (to, &target) in config.channels.iter().enumerate() {
            terms += target * target * area(to);
            for (from, &source) in config.channels.iter().enumerate() {
                if from > to {
                    terms += source * target * area(from);
                }
                for step in from + 1..=to {
                    let outputs = if step == to { target } else { source };
                    terms += 9 * source * outputs * area(from) / 4_usize.pow((step - from) as u32);
                }
            }
        }
    }
    2.0 * terms as f64
}

/// Bytes that the low-rank products of a solve of `steps` steps must at least move, for one example with a state of
/// `dim` numbers: the first reads g and writes the direction; after k corrections a step reads
/// them once for B g and once for BᵀΔz, and reads or writes seven vectors (z and g, both as before, u, v and the
/// direction).
pub fn low_rank_bytes(dim: usize, steps: usize) -> f64 {
    let vectors: usize = (0..steps).map(|k: usize| if k == 0 { 2 } else { 2 * 2 * (k - 1) + 7 }).sum();
    (vectors * dim * size_of::<f32>()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_cell_by_hand() {
        let config = MdeqConfig {
            channels: vec![2, 4],
            head_channels: vec![1, 1],
            groups: 2,
            expansion: 1,
            image: [1, 4, 4],
            ..MdeqConfig::small()
        };
        let config = MdeqConfig { downsample_times: 0, ..config };
        // Blocks 2·9·2·2·16 and 2·9·4·4·4, post 4·16 and 16·4, up 4·2·4, down 9·2·4·4.
        assert_eq!(cell(&config), 2.0 * (1152 + 1152 + 64 + 64 + 32 + 288) as f64);
        // One branch has no fusion.
        let single = MdeqConfig { channels: vec![2], head_channels: vec![1], ..config };
        assert_eq!(cell(&single), 2.0 * 1152.0);
    }
}
