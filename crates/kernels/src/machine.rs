//! The peak of this machine, in multiply-adds and in bandwidth: what timings are compared with.
//!
//! Both are measured, on all threads of the global pool, in the instruction set that the kernels would choose: data
//! sheets know neither the clock under load nor what a virtual machine was given.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Rounds of each measurement; the best one counts, as interruptions only ever slow it down.
const ROUNDS: usize = 5;

/// The instruction set that the kernels choose on this machine: another one adds in another order, and the last digits of a
/// result may differ.
pub fn instruction_set() -> &'static str {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) -> usize {
            S::F32_LANES
        }
    }
    match (std::env::consts::ARCH, Arch::new().dispatch(Lanes)) {
        ("x86_64", 16) => "AVX-512",
        ("x86_64", 8) => "AVX2",
        ("aarch64", 4) => "NEON",
        _ => "baseline",
    }
}

/// Floating-point operations per second (a fused multiply-add is two) in float32, on registers alone.
pub fn peak_flops() -> f64 {
    const STEPS: usize = 4_000_000;
    const CHAINS: usize = 10;
    struct Chains;
    impl WithSimd for Chains {
        type Output = usize;

        /// Independent chains of multiply-adds, enough to hide their latency. Returns the lanes of a register.
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> usize {
            let (a, b) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(0.001)));
            let mut sums = [simd.splat_f32s(1.0); CHAINS];
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = simd.mul_add_f32s(*sum, a, b);
                }
            }
            black_box(sums.iter().map(|&sum| simd.reduce_sum_f32s(sum)).sum::<f32>());
            S::F32_LANES
        }
    }
    best(|| {
        let started = Instant::now();
        let lanes: usize = on_every_thread(|| Arch::new().dispatch(Chains)).into_iter().sum();
        (lanes * STEPS * CHAINS * 2) as f64 / started.elapsed().as_secs_f64()
    })
}

/// Bytes per second of a copy from memory to memory: those read and those written.
pub fn copy_bandwidth() -> f64 {
    /// Per thread, far beyond any cache.
    const LENGTH: usize = 16 << 20;
    let mut buffers: Vec<(Vec<f32>, Vec<f32>)> =
        on_every_thread(|| (vec![1.0_f32; LENGTH], vec![0.0_f32; LENGTH]));
    let bytes = buffers.len() * LENGTH * 2 * size_of::<f32>();
    best(|| {
        let started = Instant::now();
        buffers.par_iter_mut().with_max_len(1).for_each(|(from, to)| to.copy_from_slice(black_box(from)));
        black_box(&buffers);
        bytes as f64 / started.elapsed().as_secs_f64()
    })
}

fn on_every_thread<T: Send>(run: impl Fn() -> T + Sync) -> Vec<T> {
    (0..rayon::current_num_threads()).into_par_iter().with_max_len(1).map(|_| run()).collect()
}

fn best(mut rate: impl FnMut() -> f64) -> f64 {
    (0..ROUNDS).map(|_| rate()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_computes_and_copies() {
        // Slower than anything this runs on, faster than a clock that does not tick.
        assert!(peak_flops() > 1e8);
        assert!(copy_bandwidth() > 1e7);
    }
}
