"""CH-zonotopes of a fully connected monotone DEQ in plain PyTorch, float64, rounding not counted:

    env/bin/python benchmarks/pytorch/zonotopes.py --model m.safetensors --data mnist-test.npz --count 100 --eps 0.02,0.05

does with matrices what `equipoise certify --method zonotopes --norm linf --at-eps` proves, with the same steps, consolidations and
widening, and prints how many images it holds of and its seconds. Both are to agree; rounding takes nothing here that is seen.
"""

import argparse
import json
import math
import time

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

CONSOLIDATIONS, TIGHTENINGS, LOOK, BASIS, KEPT = 20, 5, 8, 4, 10
CONTRACTED, EVERY, LITTLE = 0.02, (8, 40), 0.9
WIDER, WIDER_BY, GROWTH, SMALL = 0.2, 1e-3, 1.1, 1e-4


def contracting(norm, step):
    """The longest step that contracts, and what by."""
    contraction = norm(step)
    while norm(step / 2) < contraction:
        step, contraction = step / 2, norm(step / 2)
    while norm(1.1 * step) <= max(contraction, LITTLE):
        step, contraction = 1.1 * step, norm(1.1 * step)
    return step, contraction


class Network:
    def __init__(self, path):
        with safe_open(path, "pt") as file:
            architecture = json.loads(file.metadata()["equipoise"])["architecture"]
        tensors = {name: tensor.double() for name, tensor in load_file(path).items()}
        a, b = tensors["fullstage.a"], tensors["fullstage.b"]
        eye = torch.eye(len(a), dtype=torch.float64)
        step = architecture["step"]
        weight = (1 - architecture["monotonicity"]) * eye - a.T @ a + b - b.T
        step, contraction = contracting(lambda step: torch.linalg.matrix_norm((1 - step) * eye + step * weight, 2).item(), step)
        self.every = min(max(math.ceil(math.log(CONTRACTED) / math.log(contraction)), EVERY[0]), EVERY[1])
        self.averaged = (1 - step) * eye + step * weight
        normalisation = architecture.get("normalisation") or {"mean": [0.0], "std": [1.0]}
        u, mean, std = tensors["injection.weight"], normalisation["mean"][0], normalisation["std"][0]
        self.injection = step * u / std
        self.offset = step * (tensors["injection.bias"] - u.sum(1) * mean / std)
        self.head, self.bias = tensors["classifier.weight"], tensors["classifier.bias"]

    def solved(self, x):
        z, injected = torch.zeros_like(self.offset), self.injection @ x + self.offset
        for _ in range(20_000):
            z, before = torch.relu(self.averaged @ z + injected), z
            if (z - before).norm() <= 1e-15 * z.norm():
                break
        return z

    def logits(self, z):
        return self.head @ z + self.bias


class Zonotope:
    """{c + G e + b∘e′}; the image's symbols come first in G, scaled by its radii, once it has them."""

    def __init__(self, c, image, errors, b):
        self.c, self.image, self.errors, self.b = c, image, errors, b

    def generators(self):
        return torch.cat([self.image, self.errors], 1)

    def radius(self):
        return self.generators().abs().sum(1) + self.b

    def stepped(self, network, injection, middle):
        m = network.averaged
        c = m @ self.c + middle
        image = m @ self.image + injection if self.image.shape[1] else injection
        spread = self.b > 0
        errors = torch.cat([m @ self.errors, m[:, spread] * self.b[spread]], 1)
        radius = image.abs().sum(1) + errors.abs().sum(1)
        low, high = c - radius, c + radius
        crossing = (low < 0) & (high > 0)
        slope = torch.where(low >= 0, 1.0, torch.where(crossing, high / (high - low), 0.0))
        shift = torch.where(crossing, 0.5 * torch.maximum(high * (1 - slope), -slope * low), 0.0)
        errors = slope[:, None] * errors
        sizes = errors.abs().sum(0)
        small = sizes <= SMALL * (sizes.max() if len(sizes) else 0)
        b = shift + errors[:, small].abs().sum(1)
        return Zonotope(slope * c + shift, slope[:, None] * image, errors[:, ~small], b)

    def consolidated(self, basis, wider, by):
        lengths = (basis.T @ self.generators()).abs().sum(1) * (1 + wider) + by
        return Zonotope(self.c, self.image[:, :0], basis * lengths, self.b), basis.T / lengths[:, None]


def included(network, injection, middle, z):
    empty = torch.zeros(len(z), 0, dtype=torch.float64)
    found, largest = Zonotope(z, empty, empty, torch.zeros_like(z)), max(z.max().item(), 1e-6)
    wider, by, kept, basis = WIDER, WIDER_BY * largest, [], None
    for step in range(1, CONSOLIDATIONS * network.every + 1):
        found = found.stepped(network, injection, middle)
        if step % network.every:
            continue
        for outer, inverse in kept[-KEPT:]:
            apart = ((found.c - outer.c).abs() + found.b - outer.b).clamp(min=0)
            if ((inverse @ found.generators()).abs().sum(1) + inverse.abs() @ apart).max() <= 1:
                return found
        if not (found.radius() < 1e3 * (1 + largest)).all():
            return None
        if step // network.every % BASIS == 1:
            generators = found.generators()
            basis = torch.linalg.eigh(generators @ generators.T)[1]
        kept.append(found.consolidated(basis, wider, by))
        found = kept[-1][0]
        wider, by = wider * GROWTH, by * GROWTH
    return None


def holds(network, x, eps, label):
    own = network.logits(network.solved(x)).argmax().item()
    low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    middle, half = (low + high) / 2, (high - low) / 2
    z = network.solved(middle)
    if own != label or network.logits(z).argmax().item() != own:
        return False
    injection, injected = network.injection * half, network.injection @ middle + network.offset
    found = included(network, injection, injected, z)
    if found is None:
        return False
    w = (network.head[own] - network.head)[[j for j in range(len(network.bias)) if j != own]]
    offset = (network.bias[own] - network.bias)[[j for j in range(len(network.bias)) if j != own]]
    least = -torch.inf
    for step in range(1, TIGHTENINGS * network.every + 1):
        found = found.stepped(network, injection, injected)
        margins = w @ found.c + offset - (w @ found.generators()).abs().sum(1) - w.abs() @ found.b
        now = margins.min().item()
        if now > 0:
            return True
        if step % LOOK == 0:
            if now <= least + 1e-2 * abs(least):
                return False
            least = now
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="npz with x in [0, 1] and y")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--eps", default="0.02,0.05")
    parser.add_argument("--threads", type=int, default=2)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    network, data = Network(flags.model), np.load(flags.data)
    x = torch.from_numpy(data["x"][: flags.count].reshape(flags.count, -1).astype(np.float64))
    x = x / 255 if data["x"].dtype == np.uint8 else x
    for eps in map(float, flags.eps.split(",")):
        start = time.perf_counter()
        count = sum(holds(network, image, eps, int(label)) for image, label in zip(x, data["y"][: flags.count]))
        print(f"{eps}: {count} of {flags.count}, {(time.perf_counter() - start) / flags.count:.4f} s an image", flush=True)


if __name__ == "__main__":
    main()
