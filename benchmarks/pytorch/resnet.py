"""Times ResNet-18 in plain PyTorch: logits, and logits with the gradient to the images, in evaluation mode.

    resnet.py [--width 64] [--batch 64] [--threads 1] [--rounds 7]

The other side of `cargo run --release -p equipoise-kernels --example timings`, to be run in turns with it. The network is that of
scripts/make_parity_fixture.py, as attacks on a model find it: batch normalisation in evaluation, parameters that want no gradient.
Prints CPU milliseconds of the process, median and least, which other work on the machine disturbs less than the clock.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from make_parity_fixture import ResNet18  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    model = ResNet18(flags.width, 10).eval().requires_grad_(False)
    images, cotangent = torch.rand(flags.batch, 3, 32, 32), torch.rand(flags.batch, 10)

    def logits():
        with torch.no_grad():
            model(images)

    def gradient():
        tracked = images.clone().requires_grad_()
        torch.autograd.grad((model(tracked) * cotangent).sum(), tracked)

    for name, run in [("logits", logits), ("logits and gradient", gradient)]:
        run()
        times = []
        for _ in range(flags.rounds):
            started = time.process_time()
            run()
            times.append(1e3 * (time.process_time() - started))
        times.sort()
        print(f"width {flags.width}, batch {flags.batch}: {name:20} {times[len(times) // 2]:8.1f} ms median {times[0]:8.1f} ms least")


if __name__ == "__main__":
    main()
