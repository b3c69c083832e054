//! Work in floating-point operations, as a direct convolution would do it: an implementation that needs fewer shows a
//! higher rate for it.

use equipoise::architecture::Architecture;
use equipoise::model::mdeq::MdeqConfig;
use equipoise::model::resnet::ResNet18Config;
use equipoise::model::wide_resnet::WideResNetConfig;

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

/// Products and sums of all convolutions of a feedforward network from one image to its logits; 0 for a kind that is not
/// known here.
pub fn feedforward(architecture: &Architecture) -> f64 {
    let [channels, height, width] = architecture.image();
    let area = |halvings: u32| height.div_ceil(1 << halvings) * width.div_ceil(1 << halvings);
    let mut terms = 0;
    // Two convolutions of three by three and a shortcut where the number of channels changes.
    let mut stage = |from: usize, to: usize, blocks: usize, halvings: u32| {
        let shortcut = if from == to { 0 } else { from * to };
        terms += area(halvings) * (9 * from * to + 9 * to * to * (2 * blocks - 1) + shortcut);
    };
    if let Some(ResNet18Config { width, .. }) = architecture.config() {
        let widths = [1, 1, 2, 4, 8].map(|factor| factor * width);
        (0..4).for_each(|k| stage(widths[k], widths[k + 1], 2, k as u32));
        terms += area(0) * 9 * channels * width;
    } else if let Some(WideResNetConfig { width, depth, .. }) = architecture.config() {
        let widths = [16, 16 * width, 32 * width, 64 * width];
        (0..3).for_each(|k| stage(widths[k], widths[k + 1], (depth - 4) / 6, k as u32));
        terms += area(0) * 9 * channels * 16;
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

    /// The usual counts of multiplications: 555 million of a ResNet-18 on 32×32 images and 6.66 billion of a WRN-34-10, of which
    /// the classifiers' few thousand are left out.
    #[test]
    fn feedforward_networks_as_they_are_quoted() {
        let of = |name| feedforward(&Architecture::named(name).unwrap()) / 2e9;
        assert!((of("resnet18") - 0.555).abs() < 1e-3, "{}", of("resnet18"));
        assert!((of("wrn-34-10") - 6.66).abs() < 1e-2, "{}", of("wrn-34-10"));
    }

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
