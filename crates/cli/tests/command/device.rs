//! Devices beside the CPU: a crash in a driver has a message; and, in builds with `vulkan` or `wgpu` where such a device can be had, the
//! CPU's results (`.ci/run --all`, on Debian's software Vulkan).

use std::io::Write;
use std::process::Stdio;

use crate::support::{command, folder};

#[test]
fn a_process_that_ends_by_a_signal_has_its_message() {
    let folder = folder();
    for (said, message) in [(&b""[..], true), (b".", false)] {
        let mut second = command(folder.path(), "")
            .env("EQUIPOISE_LIFELINE", "vulkan:1")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        second.stdin.take().unwrap().write_all(said).unwrap();
        let output = second.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && output.stdout.is_empty());
        assert_eq!(stderr.contains("the device vulkan:1: its driver crashed"), message, "{stderr}");
        assert_eq!(stderr.is_empty(), !message, "{stderr}");
    }
}

#[cfg(any(feature = "vulkan", feature = "wgpu"))]
mod beside_the_cpu {
    use std::fs;
    use std::path::Path;

    use serde_json::Value;

    use crate::support::{RECIPE, folder, run, succeed, train_longer};

    const DEVICES: &[&str] = &[
        #[cfg(feature = "vulkan")]
        "vulkan",
        #[cfg(feature = "wgpu")]
        "wgpu",
    ];

    /// Devices that this machine has.
    fn devices(at: &Path) -> Vec<&'static str> {
        let there = |device: &&&str| {
            let probe = format!(
                "--device {device} evaluate --model model/model.safetensors --data digits --count 1 --eps 0.1 \
                                 --attacks square-1 --no-flags --out probe-{device}"
            );
            let output = run(at, &probe);
            if !output.status.success() {
                println!("skipped: no {device}: {}", String::from_utf8_lossy(&output.stderr));
            }
            output.status.success()
        };
        DEVICES.iter().filter(there).copied().collect()
    }

    fn json(path: &Path) -> Value {
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn attacks_end_as_on_the_cpu() {
        let folder = folder();
        let at = folder.path();
        train_longer(at);
        let evaluate = "evaluate --model model/model.safetensors --data digits --count 12 --eps 0.1 --attacks pgd-2 --gradients \
                        through-solver,adjoint,unrolled:state=2,lead=1,steps=1 --no-flags";
        succeed(at, &format!("{evaluate} --out cpu"));
        for device in devices(at) {
            succeed(at, &format!("--device {device} {evaluate} --out {device}"));
            let examples = |name: &str| {
                let record = json(&at.join(name).join("results.json"));
                record["models"][0]["readouts"][0]["examples"].clone()
            };
            assert_eq!(examples("cpu"), examples(device), "{device}");
        }
    }

    #[test]
    fn a_training_step_has_the_loss_and_the_gradient_of_the_cpu() {
        let folder = folder();
        let at = folder.path();
        train_longer(at);
        fs::write(at.join("short.toml"), RECIPE).unwrap();
        let train = "train --config short.toml --adversary pgd --eps 0.1 --pgd-steps 2 --epochs 1";
        succeed(at, &format!("{train} --out step-cpu"));
        for device in devices(at) {
            succeed(at, &format!("--device {device} {train} --out step-{device}"));
            let first = |name: &str| {
                let steps = fs::read_to_string(at.join(name).join("steps.jsonl")).unwrap();
                let step: Value = serde_json::from_str(steps.lines().next().unwrap()).unwrap();
                ["loss", "gradient_norm", "residual"].map(|key| step[key].as_f64().unwrap())
            };
            for (a, b) in first("step-cpu").into_iter().zip(first(&format!("step-{device}"))) {
                assert!((a - b).abs() < 1e-4 * a.abs(), "{device}: {a} {b}");
            }
        }
    }
}
