"""Adversarial training here and in PyTorch, side by side: the same first weights, images and random starts.

    python scripts/train_beside_pytorch.py --data cifar10-jpeg --out runs/beside [--seeds 1,2,3] [--steps 300] [--count 128]

The first `count` training images are one batch, and every step sees it: `--warmup` clean steps of four applications without a
solver, then PGD-AT, exact gradient, two steps of 5/255 at L-infinity 8/255 from a random start, Adam at 1e-3. For each seed, which
draws the first weights and the starts, three runs:

- `equipoise`: `equipoise train`;
- `pytorch`: the model of make_parity_fixture.py under autograd, with this file's own PGD, backward solve and Adam of torch.optim;
- `float64`: that again in float64. It is the control: how far rounding alone takes two runs apart. A kink of ReLU that is crossed
  on the way back changes an image's attack, and training amplifies it.

Writes curves.csv (loss, share correct, relative residual of each run and step), the final weights as model files, and prints what
the runs of each kind come to. Data: a folder with train.parquet as Hugging Face has CIFAR-10. Needs torch, numpy, pillow, pyarrow
and safetensors. `--equipoise` names the binary.
"""

import argparse
import csv
import io
import json
import subprocess
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from make_parity_fixture import Mdeq, broyden, choose

CONFIG = dict(channels=[8, 16], head_channels=[4, 8], final_channels=80, groups=4, expansion=3, downsample_times=2,
              post_affine=False, image=[3, 32, 32], classes=10)
STEPS, TOLERANCE, BACKWARD, BACKWARD_TOLERANCE = 8, 1e-3, 7, 1e-3
EPS, SIZE, INNER, RATE, LAYERS = 8 / 255, 5 / 255, 2, 1e-3, 4
MASK = (1 << 64) - 1

RECIPE = """name = "beside"
seed = {seed}
[train]
epochs = {steps}
batch_size = {count}
schedule = "constant"
development = 0
checkpoint_steps = 1000000
[train.optimizer]
kind = "adam"
learning_rate = {rate}
[train.warmup]
steps = {warmup}
layers = {layers}
[train.adversary]
norm = "linf"
eps = "8/255"
step_size = "5/255"
steps = {inner}
"""


def images(folder, split, count):
    """The first images of a split as uint8 [N, C, H, W], and their labels."""
    import pyarrow.parquet as parquet
    from PIL import Image

    table = parquet.read_table(next(Path(folder).rglob(f"{split}*.parquet"))).slice(0, count)
    columns = table.column_names
    cells = table.column(next(c for c in columns if c in ("img", "image"))).to_pylist()
    pixels = [np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in cells]
    labels = table.column("label").to_pylist()
    return np.stack(pixels).transpose(0, 3, 1, 2), np.array(labels)


def epoch_seed(seed, epoch):
    z = seed ^ ((epoch + 1) * 0x9E3779B97F4A7C15 & MASK)
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 & MASK
    return value


def uniform(seed, purpose, indices, size):
    """Numbers in [0, 1) from ChaCha with 8 rounds, keyed by (seed, purpose, index, 0): [N, size]."""
    blocks = -(-size // 8)
    state = np.zeros((16, len(indices), blocks), np.uint32)
    for k, word in enumerate((0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)):
        state[k] = word
    for k, word in enumerate((seed, fnv1a(purpose), None, 0)):
        words = np.array([w if word is None else word for w in indices], np.uint64)
        state[4 + 2 * k] = (words & np.uint64(0xFFFFFFFF)).astype(np.uint32)[:, None]
        state[5 + 2 * k] = (words >> np.uint64(32)).astype(np.uint32)[:, None]
    state[12] = np.arange(blocks, dtype=np.uint32)
    x = state.copy()

    def turn(value, by):
        return (value << np.uint32(by)) | (value >> np.uint32(32 - by))

    def quarter(a, b, c, d):
        for p, q, r, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[p] += x[q]
            x[r] = turn(x[r] ^ x[p], by)

    for _ in range(4):
        for k in range(4):
            quarter(k, 4 + k, 8 + k, 12 + k)
        for k in range(4):
            quarter(k, 4 + (k + 1) % 4, 8 + (k + 2) % 4, 12 + (k + 3) % 4)
    words = (x + state).transpose(1, 2, 0).reshape(len(indices), -1).astype(np.uint64)
    pairs = words[:, 0::2] | (words[:, 1::2] << np.uint64(32))
    return (pairs[:, :size] >> np.uint64(11)).astype(np.float64) / 2**53


class Solved(torch.autograd.Function):
    """The identity on f(z*), whose way back solves u = J' u + v."""

    @staticmethod
    def forward(ctx, value, z, a):
        ctx.z, ctx.a = z, a
        return value.clone()

    @staticmethod
    def backward(ctx, v):
        def adjoint(u):
            return torch.autograd.grad(ctx.a, ctx.z, u, retain_graph=True)[0] + v

        us, _, _, best = broyden(adjoint, torch.zeros_like(v), BACKWARD, BACKWARD_TOLERANCE)
        return choose(us, best), None, None


def logits_of(model, x):
    """Logits through the exact gradient, and each example's relative residual at the state that f is applied to."""
    injection = model.inject(x)
    with torch.no_grad():
        start = torch.zeros(len(x), sum(c * h * w for c, h, w in model.shapes), dtype=x.dtype)
        states, relative, _, best = broyden(lambda z: model.cell(z, injection), start, STEPS, TOLERANCE)
    z = choose(states, best)
    value = model.cell(z, injection)
    with torch.enable_grad():
        z = z.requires_grad_()
        a = model.cell(z, injection.detach())
    return model.head(Solved.apply(value, z, a)), relative.min(1).values


def attacked(model, x, y, start):
    model.eval()
    point = (x + start).clamp(0, 1)
    for _ in range(INNER):
        point.requires_grad_()
        loss = F.cross_entropy(logits_of(model, point)[0], y, reduction="sum")
        gradient = torch.autograd.grad(loss, point)[0]
        point = (point.detach() + SIZE * gradient.sign())
        point = torch.minimum(torch.maximum(point, x - EPS), x + EPS).clamp(0, 1)
    return point


def warm(model, x):
    """Logits of a few applications of f to 0, and the relative residual of the last."""
    injection = model.inject(x)
    z = before = torch.zeros(len(x), sum(c * h * w for c, h, w in model.shapes), dtype=x.dtype)
    for _ in range(LAYERS):
        before, z = z, model.cell(z, injection)
    return model.head(z), ((z - before).norm(dim=1) / z.norm(dim=1)).detach()


def train(state, x, y, seed, steps, warmup, report):
    """Trains from these weights, in the images' precision; calls report(loss, share correct, residual) after each step."""
    model = Mdeq(CONFIG)
    model.load_state_dict(state)
    model = model.to(x.dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, eps=1e-8)
    size = x[0].numel()
    for step in range(steps):
        noise = (2 * EPS * uniform(epoch_seed(seed, step), "pgd start", range(len(x)), size) - EPS).astype(np.float32)
        start = torch.tensor(noise).reshape(x.shape).to(x.dtype)
        at = attacked(model, x, y, start) if step >= warmup else x
        model.train()
        optimizer.zero_grad()
        logits, residual = logits_of(model, at) if step >= warmup else warm(model, at)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        correct = (logits.argmax(1) == y).double().mean().item()
        report(loss.item(), correct, residual.double().mean().item())
    return model.float().state_dict()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/beside"))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--warmup", type=int, default=60)
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--equipoise", default="target/release/equipoise")
    arguments = parser.parse_args()
    out, count, steps, warmup = arguments.out, arguments.count, arguments.steps, arguments.warmup
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    def equipoise(*flags):
        subprocess.run([arguments.equipoise, "--threads", "1", "--quiet", *map(str, flags)], check=True,
                       stdout=subprocess.DEVNULL)

    def imported(weights, name):
        equipoise("import", "--from", weights, "--arch", "mdeq", "--config", out / "config.json", "--name", name,
                  "--normalise", "none", "--out", out / f"{name}.safetensors")

    pixels, labels = images(arguments.data, "train", count)
    np.savez(out / "train.npz", x=pixels, y=labels, classes=10)
    deployment = {
        "solver": {"method": "broyden", "steps": STEPS, "tolerance": TOLERANCE},
        "backward": {"method": "broyden", "steps": BACKWARD, "tolerance": BACKWARD_TOLERANCE},
    }
    (out / "config.json").write_text(json.dumps({"architecture": CONFIG, "deployment": deployment}))
    x, y = torch.tensor(pixels, dtype=torch.float32) / 255, torch.tensor(labels)
    curves = {}
    for seed in map(int, arguments.seeds.split(",")):
        torch.manual_seed(seed)
        first = Mdeq(CONFIG).state_dict()
        torch.save(first, out / f"first-{seed}.pth")
        imported(out / f"first-{seed}.pth", f"first-{seed}")
        (out / "recipe.toml").write_text(RECIPE.format(seed=seed, steps=steps, count=count, rate=RATE, inner=INNER,
                                                       warmup=warmup, layers=LAYERS))
        training = out / f"training-{seed}"
        equipoise("train", "--config", out / "recipe.toml", "--init", out / f"first-{seed}.safetensors",
                  "--data", f"npz:{out / 'train.npz'}", "--out", training)
        (out / f"equipoise-{seed}.safetensors").write_bytes((training / "model.safetensors").read_bytes())
        lines = map(json.loads, (training / "steps.jsonl").read_text().splitlines())
        curves["equipoise", seed] = [(line["loss"], line["accuracy"], line["residual"]) for line in lines]
        for name, dtype in ("pytorch", torch.float32), ("float64", torch.float64):
            curve = curves[name, seed] = []
            final = train(first, x.to(dtype), y, seed, steps, warmup, lambda *row: curve.append(row))
            torch.save(final, out / f"{name}-{seed}.pth")
            imported(out / f"{name}-{seed}.pth", f"{name}-{seed}")
        with open(out / "curves.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["run", "seed", "step", "loss", "accuracy", "residual"])
            for (name, drawn), curve in curves.items():
                writer.writerows([name, drawn, step + 1, *row] for step, row in enumerate(curve))
        summary(curves, warmup, steps)


def summary(curves, warmup, steps):
    """Means over windows of steps: of each run, and of the distance between runs of the same seed."""
    seeds = sorted({seed for _, seed in curves})
    middle = (warmup + steps) // 2
    for begin, end in (0, 1), (0, warmup), (warmup, middle), (middle, steps):
        if begin >= end:
            continue
        print(f"steps {begin + 1} to {end}, {len(seeds)} seeds")
        for column, what in (0, "loss"), (2, "residual"):
            if column == 2 and end <= warmup:
                continue
            mean = {key: np.mean([row[column] for row in curve[begin:end]]) for key, curve in curves.items()}
            for name in "equipoise", "pytorch", "float64":
                values = [mean[name, seed] for seed in seeds]
                print(f"  {what} {name}: {np.mean(values):.4f}, by seed {' '.join(f'{value:.4f}' for value in values)}")
            for a, b in ("equipoise", "pytorch"), ("equipoise", "float64"), ("pytorch", "float64"):
                apart = [np.mean([abs(p[column] - q[column]) for p, q in zip(curves[a, seed][begin:end], curves[b, seed][begin:end])])
                         for seed in seeds]
                print(f"  {what}, {a} and {b} apart: {np.mean(apart):.6f}")
    print(flush=True)


if __name__ == "__main__":
    main()
