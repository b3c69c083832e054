"""Times an MDEQ in PyTorch under the Python package: states kept on its device, copied to memory, and plain PyTorch beside them.

    deq.py MODEL.safetensors [--device cuda] [--batch 96] [--rounds 7] [--copies]

The cell is that of crates/python/tests/mdeq.py with the weights of a model file; `equipoise train --model mdeq-large --data cifar10:PATH
--count 4 --development 1 --batch-size 2 --epochs 1 --out big` makes one of random weights. 8 Broyden steps of tolerance 0, one undamped
application, 7 backward steps. Prints milliseconds from images in memory to logits or gradients in memory, median and range, and
the cosine of `through-solver` behind early(8) to autograd through the same steps.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F

import equipoise as eq

sys.path.insert(0, str(Path(__file__).parents[2] / "crates/python/tests"))
from mdeq import Mdeq, read  # noqa: E402


def broyden(f, z, steps):
    """Plain PyTorch: the formulas of the library's solver, the residuals' norms read as its loop reads them."""
    g = f(z) - z
    direction, corrections = -g, []
    for _ in range(steps):
        before, g_before = z, g
        z = z - direction
        value = f(z)
        g = value - z
        (g.norm(dim=1) / value.norm(dim=1)).cpu()
        change, image = z - before, g - g_before
        v, product = -change, -g
        for old_u, old_v in corrections:
            v = v + old_v * (old_u * change).sum(1, keepdim=True)
            product = product + old_u * (old_v * g).sum(1, keepdim=True)
        u = -product / (v * image).sum(1, keepdim=True)
        u = torch.where(torch.isfinite(u), u, torch.zeros_like(u))
        direction = product + u * (v * g).sum(1, keepdim=True)
        corrections.append((u, v))
    return z


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--copies", action="store_true", help="time copies to memory too")
    flags = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    weights, metadata = read(flags.model)
    net = Mdeq(weights, metadata["architecture"]).eval().to(flags.device)
    x = torch.rand(flags.batch, *metadata["architecture"]["image"], generator=torch.Generator().manual_seed(2))
    y = torch.arange(flags.batch) % metadata["architecture"]["classes"]
    width = sum(c * h * w for c, h, w in net.shapes)

    def f(z, u):
        return torch.cat([part.flatten(1) for part in net.f(eq.scales(z, net.shapes), u)], dim=1)

    def timed(what, run, rounds=flags.rounds):
        run()
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - started))
        print(f"{what:55} {statistics.median(times):9.1f} ms, {min(times):.1f} to {max(times):.1f}", flush=True)

    def plain(images, tail):
        u = net.stem(images)
        z = broyden(lambda z: f(z, u), torch.zeros(len(images), width, device=flags.device), 8)
        return net.head(eq.scales(f(z, u) if tail else z, net.shapes))

    def logits():
        with torch.no_grad():
            return plain(x.to(flags.device), True).cpu()

    def autograd(tail=True):
        images = x.to(flags.device).requires_grad_(True)
        loss = F.cross_entropy(plain(images, tail), y.to(flags.device), reduction="sum")
        return torch.autograd.grad(loss, images)[0].cpu()

    with torch.no_grad():
        u, zeros = net.stem(x.to(flags.device)), torch.zeros(flags.batch, width, device=flags.device)
        timed("plain PyTorch: f", lambda: f(zeros, u))
    timed("plain PyTorch: logits", logits)
    timed("plain PyTorch: autograd through the unrolled solver", autograd, 3)
    for states, rounds in [("model", flags.rounds)] + ([("memory", 2)] if flags.copies else []):
        model = eq.Deq(
            net.stem, lambda z, u: net.f(eq.scales(z, net.shapes), u), lambda z: net.head(eq.scales(z, net.shapes)),
            state=net.shapes, solver=eq.Broyden(8, tolerance=0), backward=eq.Broyden(7, tolerance=0), tail=eq.Tail.exact(),
            states=states, device=flags.device, dtype=torch.float32, module=net,
        )
        timed(f"states={states}: logits", lambda: model(x), rounds)
        for gradient in ["exact", "ensemble(unrolled:state=1..8,lead=1,steps=0)", "through-solver"]:
            timed(f"states={states}: {gradient}", lambda: model.gradient(x, y, gradient), rounds)
        found = model.gradient(x, y, "through-solver", "early(8)")
        cosine = F.cosine_similarity(found.flatten(1).double(), autograd(False).flatten(1).double()).min()
        print(f"states={states}: early(8), cosine of through-solver to autograd, least of the images: 1 - {1 - cosine:.1e}")


if __name__ == "__main__":
    main()
