"""The MDEQ, Broyden's method and the gradients of PGD in plain PyTorch, as well as PyTorch allows; feedforward networks in
feedforward.py.

The other side of `equipoise bench --pytorch PYTHON`, which starts it in three ways:

    mdeq.py about                                                         versions and settings, as JSON
    mdeq.py check --model M --input IN --trace OUT                        how far from ours, as JSON
    mdeq.py worker --task TASK --model M --input IN                       answers `run N` lines, see below

Weights and deployment come from an Equipoise model file, images and labels from a trace's input. A worker says
{"ready":true}; then each line `run N` on its standard input means N timed repetitions and is answered by one line
{"seconds": [..], "peak_kib": ..}. It ends with its input.

The modules, and thus the names of the weights, are those of scripts/make_parity_fixture.py. What runs here is made
for speed: weight normalisation folded once; batch normalisation folded into convolutions in evaluation; operations
in place wherever autograd allows; channels-last or not, whichever is faster on this machine, which is measured
first; low-rank memory preallocated and multiplied by batched products; graphs retained over the backward solve;
glibc told to keep freed memory instead of returning every page to the system. The algorithm is that of the
authors: three products with the low-rank memory in each Broyden step; each state of an ensemble by a solve of its
own (`resolve(..)`; `ensemble(..)` shares one trajectory).
"""

import argparse
import copy
import json
import os
import re
import sys
import time
from pathlib import Path

# Read by glibc when the process starts, hence the new start. Without it every large tensor is mapped, faulted in and
# unmapped again.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(1 << 26)}
if os.environ.get("EQUIPOISE_BENCH_MALLOC", "keep") == "keep" and any(k not in os.environ for k in ALLOCATOR):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn.utils.fusion import fuse_conv_bn_eval

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import feedforward  # noqa: E402
from make_parity_fixture import Bottleneck, Down, Mdeq, Up  # noqa: E402

EPS, STEP = 8 / 255, 2 / 255


class Cell:
    """f(z; x) on flat states. Channels-last states are flattened as H, W, C: a permutation, which solvers do not
    notice. With `track` the weights stay on the graph."""

    def __init__(self, model, last, track=False):
        self.shapes, self.last, stage = model.shapes, last, model.fullstage

        def layout(w):
            return w.contiguous(memory_format=torch.channels_last) if last else w.contiguous()

        def folded(conv):
            v = conv.weight_v
            return layout(conv.weight_g * v / v.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1))

        def norm(gn):
            return gn.num_groups, gn.weight, gn.bias, gn.eps

        def step(layer):
            return layout(layer.conv.weight), layer.conv.padding, layer.conv.stride, norm(layer.gnorm)

        def path(p):
            if isinstance(p, Up):
                return p.factor, [step(p.net)]
            return (1, [step(layer) for layer in p.net]) if isinstance(p, Down) else None

        with torch.set_grad_enabled(track):
            blocks = [branch.blocks[0] for branch in stage.branches]
            self.blocks = [(folded(b.conv1), norm(b.gn1), folded(b.conv2), norm(b.gn2), norm(b.gn3)) for b in blocks]
            many = len(blocks) > 1
            self.paths = [[path(p) for p in row] for row in stage.fuse_layers] if many else []
            self.post = [(folded(p.conv), norm(p.gnorm)) for p in stage.post_fuse_layers] if many else []

    def split(self, z):
        parts = z.split([c * h * w for c, h, w in self.shapes], dim=1)
        if self.last:
            return [p.reshape(-1, h, w, c).permute(0, 3, 1, 2) for p, (c, h, w) in zip(parts, self.shapes)]
        return [p.reshape(-1, c, h, w) for p, (c, h, w) in zip(parts, self.shapes)]

    def join(self, hs):
        if self.last:
            hs = [h.permute(0, 2, 3, 1) for h in hs]
        return torch.cat([h.flatten(1) for h in hs], dim=1)

    def __call__(self, z, injection):
        hs = []
        for i, ((w1, n1, w2, n2, n3), x) in enumerate(zip(self.blocks, self.split(z))):
            h = F.group_norm(F.conv2d(x, w1, padding=1), *n1).relu_()
            h = F.conv2d(h, w2, padding=1)
            h = F.group_norm(h.add_(injection) if i == 0 else h, *n2)
            hs.append(F.group_norm(h.add_(x).relu_(), *n3))
        if not self.paths:
            return self.join(hs)
        out = []
        for i, (row, (w, n)) in enumerate(zip(self.paths, self.post)):
            total = None
            for p, h in zip(row, hs):
                if p is None:
                    continue
                factor, steps = p
                for k, (wk, padding, stride, nk) in enumerate(steps):
                    h = F.group_norm(F.conv2d(h.relu_() if k else h, wk, stride=stride, padding=padding), *nk)
                h = F.interpolate(h, scale_factor=factor, mode="nearest") if factor > 1 else h
                total = h if total is None else total.add_(h)
            out.append(F.group_norm(F.conv2d(total.add_(hs[i]).relu_(), w), *n))
        return self.join(out)


def fuse(module):
    """Folds each batch normalisation that follows a convolution into it, in evaluation."""
    for child in module.children():
        fuse(child)
    if isinstance(module, torch.nn.Sequential):
        for k in range(len(module) - 1):
            if isinstance(module[k], torch.nn.Conv2d) and isinstance(module[k + 1], torch.nn.BatchNorm2d):
                module[k], module[k + 1] = fuse_conv_bn_eval(module[k], module[k + 1]), torch.nn.Identity()
    if isinstance(module, Bottleneck):
        for k in "123":
            conv, bn = getattr(module, f"conv{k}"), getattr(module, f"bn{k}")
            setattr(module, f"conv{k}", fuse_conv_bn_eval(conv, without_affine(bn)))
            setattr(module, f"bn{k}", torch.nn.Identity())


def without_affine(bn):
    if bn.weight is None:
        bn.weight = torch.nn.Parameter(torch.ones_like(bn.running_mean))
        bn.bias = torch.nn.Parameter(torch.zeros_like(bn.running_mean))
    return bn


class Deq:
    """A model in use: stem, cell and head, and how it is deployed."""

    def __init__(self, model, deployment, last, train=False):
        self.deployment, self.last = deployment, last
        if train:
            self.model = model.train()
        else:
            self.model = copy.deepcopy(model).eval().requires_grad_(False)
            fuse(self.model)
        if last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.cell = Cell(self.model, last, track=train)
        self.dim = sum(c * h * w for c, h, w in model.shapes)

    def inject(self, x):
        return self.model.inject(x.contiguous(memory_format=torch.channels_last) if self.last else x)

    def head(self, z):
        zs, m = self.cell.split(z), self.model
        y = m.incre_modules[0](zs[0])
        for k, down in enumerate(m.downsamp_modules):
            y = m.incre_modules[k + 1](zs[k + 1]) + down(y)
        return m.classifier(m.final_layer(y).mean(dim=(2, 3)))

    def solve(self, injection, keep=False):
        settings = self.deployment["solver"]
        with torch.no_grad():
            start = torch.zeros(len(injection), self.dim)
            return broyden(lambda z: self.cell(z, injection), start, settings["steps"], settings["tolerance"], keep)

    def tail(self, injection, z, tail):
        for k in range(tail["lead"] + tail["steps"]):
            value = self.cell(z, injection)
            damping = 1 if k < tail["lead"] else tail["damping"]
            z = value if damping == 1 else torch.lerp(z, value, damping)
        return z


class LowRank:
    """B = -I + U V^T, per example, memory for all steps laid out beforehand."""

    def __init__(self, n, dim, steps):
        self.u, self.v, self.count = torch.empty(n, steps, dim), torch.empty(n, steps, dim), 0

    def product(self, x, transposed=False):
        if self.count == 0:
            return -x
        u, v = self.u[:, : self.count], self.v[:, : self.count]
        a, b = (v, u) if transposed else (u, v)
        factors = torch.bmm(b, x.unsqueeze(2)).transpose(1, 2)
        return torch.baddbmm(x.unsqueeze(1), factors, a, beta=-1).squeeze(1)

    def correct(self, dz, dg):
        vt = self.product(dz, transposed=True)
        u = (dz - self.product(dg)).div_((vt * dg).sum(1, keepdim=True))
        self.u[:, self.count] = u.nan_to_num_(0.0, 0.0, 0.0)
        self.v[:, self.count] = vt.nan_to_num_(0.0, 0.0, 0.0)
        self.count += 1


def broyden(f, z, steps, tolerance, keep=False):
    """The best iterate of each example, and all iterates if they are to be kept. An example that has converged stays
    where it is."""
    memory = LowRank(*z.shape, steps)
    states, best, least, done = [], None, None, None
    g = f(z) - z
    for step in range(steps):
        update = memory.product(g)
        new = z - update
        if done is not None and done.any():
            new = torch.where(done[:, None], z, new)
        value = f(new)
        new_g = value - new
        relative = new_g.norm(dim=1) / value.norm(dim=1)
        if best is None:
            best, least = new, relative
        else:
            better = relative < least
            least = torch.where(better, relative, least)
            best = new if better.all() else torch.where(better[:, None], new, best) if better.any() else best
        if keep:
            states.append(new)
        if tolerance > 0:
            done = relative < tolerance if done is None else done | (relative < tolerance)
            if done.all():
                states += [new] * (steps - len(states)) if keep else []
                break
        if step + 1 < steps:
            memory.correct(new - z, new_g - g)
        z, g = new, new_g
    return (best, states) if keep else best


def cross_entropy(logits, y):
    return F.cross_entropy(logits, y, reduction="sum")


def backward_solve(deq, a, z, v, retain):
    """u = J^T u + v, J the Jacobian of a with respect to z."""
    settings = deq.deployment["backward"]

    def adjoint(u):
        with torch.enable_grad():
            return torch.autograd.grad(a, z, u, retain_graph=True)[0] + v

    with torch.no_grad():
        return broyden(adjoint, torch.zeros_like(v), settings["steps"], settings["tolerance"])


def exact(deq, x, y):
    tail = deq.deployment["tail"]
    x = x.clone().requires_grad_()
    injection = deq.inject(x)
    z = deq.solve(injection.detach())
    last = tail["lead"] + tail["steps"]
    with torch.no_grad():
        before = {"lead": min(tail["lead"], last - 1), "steps": max(tail["steps"] - 1, 0), "damping": tail["damping"]}
        z = deq.tail(injection, z, before)
    z = z.requires_grad_()
    a = deq.cell(z, injection)
    state = a if tail["steps"] == 0 else torch.lerp(z, a, tail["damping"])
    at = state.detach().requires_grad_()
    v = torch.autograd.grad(cross_entropy(deq.head(at), y), at)[0]
    u = backward_solve(deq, a, z, v, True)
    return torch.autograd.grad(a, x, u)[0]


def unrolled(deq, x, y, z, tail):
    x = x.clone().requires_grad_()
    a = deq.tail(deq.inject(x), z, tail)
    return torch.autograd.grad(cross_entropy(deq.head(a), y), x)[0]


def parse(spec):
    """A gradient by its string: a function of model, images and labels."""
    if spec == "exact":
        return exact
    kind, rest = re.fullmatch(r"(\w+)[:(](.*?)\)?", spec).groups()
    if kind in ("ensemble", "resolve"):
        settings = dict(pair.split("=") for pair in rest.removeprefix("unrolled:").split(","))
        first, last = (int(t) for t in settings["state"].split(".."))
        tail, chosen = tail_of(settings), range(first, last + 1)

        def mean(deq, x, y):
            total, states = torch.zeros_like(x), None
            for t in chosen:
                if states is None or kind == "resolve":
                    with torch.no_grad():
                        injection = deq.inject(x)
                    states = deq.solve(injection, keep=True)[1]
                total.add_(unrolled(deq, x, y, states[t - 1], tail))
            return total / len(chosen)

        return mean
    if kind == "unrolled":
        settings = dict(pair.split("=") for pair in rest.split(","))
        tail, state = tail_of(settings), settings.get("state", "best")

        def one(deq, x, y):
            with torch.no_grad():
                injection = deq.inject(x)
            solved = deq.solve(injection, keep=state != "best")
            return unrolled(deq, x, y, solved if state == "best" else solved[1][int(state) - 1], tail)

        return one
    sys.exit(f"no gradient `{spec}` here")


def tail_of(settings):
    return {"lead": int(settings.get("lead", 1)), "steps": int(settings.get("steps", 9)),
            "damping": float(settings.get("damping", 0.5))}


def pgd_step(gradient, deq, x, y):
    moved = x + STEP * gradient(deq, x, y).sign_()
    return torch.minimum(torch.maximum(moved, x - EPS), x + EPS).clamp_(0, 1)


def train_step(model, optimizer, deployment, last, x, y):
    """One PGD step on the model in evaluation, then one Adam step with the exact gradient at what it found."""
    x = pgd_step(exact, Deq(model, deployment, last), x, y)
    deq = Deq(model, deployment, last, train=True)
    optimizer.zero_grad(set_to_none=True)
    injection = deq.inject(x)
    z = deq.solve(injection.detach()).requires_grad_()
    a = deq.cell(z, injection)
    at = a.detach().requires_grad_()
    (cross_entropy(deq.head(at), y) / len(y)).backward()
    u = backward_solve(deq, a, z, at.grad, True)
    a.backward(u)
    optimizer.step()


@torch.no_grad()
def votes(deq, x, batch, fast):
    """How many of 16 batches of draws of an image under noise give each class: by a solve from 0 and the tail, or, fast, by one step
    of the solver from the end of the batch before, and f there."""
    counts = 0
    z = deq.solve(deq.inject(x)).expand(batch, -1) if fast else None
    for _ in range(16):
        injection = deq.inject(x + 0.25 * torch.randn(batch, *x.shape[1:]))
        if fast:
            z = deq.cell(deq.cell(z, injection), injection)
        else:
            z = deq.tail(injection, deq.solve(injection), deq.deployment["tail"])
        logits = deq.head(z)
        counts = counts + torch.bincount(logits.argmax(1), minlength=logits.shape[1])
    return counts


def task(name, model, deployment, last, x, y):
    """What one repetition does."""
    if not isinstance(model, Mdeq):
        return feedforward.task(name, model, last, x, y, pgd_step)
    if name == "train-step":
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-9)
        return lambda: train_step(model, optimizer, deployment, last, x, y)
    deq = Deq(model, deployment, last)
    if name.startswith("pgd:"):
        gradient = parse(name.removeprefix("pgd:"))
        return lambda: pgd_step(gradient, deq, x, y)
    if name in ("vote", "vote-fast"):
        return lambda: votes(deq, x[:1], len(x), name == "vote-fast")
    with torch.no_grad():
        injection = deq.inject(x)
    states = deq.solve(injection, keep=True)[1]
    state, cotangent = states[1], states[2]
    if name == "cell-forward":
        return torch.no_grad()(lambda: deq.cell(state, injection))
    if name == "cell-vjp":
        z, at = state.clone().requires_grad_(), injection.clone().requires_grad_()
        a = deq.cell(z, at)
        return lambda: torch.autograd.grad(a, (z, at), cotangent, retain_graph=True)
    if name == "solve":
        return lambda: deq.solve(injection)
    if name == "low-rank":
        with torch.no_grad():
            points = [torch.zeros_like(state), *states[:-1]]
            points = [(z, deq.cell(z, injection) - z) for z in points]

        @torch.no_grad()
        def products():
            memory = LowRank(*state.shape, len(points))
            for k, (z, g) in enumerate(points):
                if k:
                    memory.correct(z - points[k - 1][0], g - points[k - 1][1])
                memory.product(g)

        return products
    sys.exit(f"no task `{name}` here")


def timed(run):
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def faster_layout(name, model, deployment, x, y):
    """Whether channels-last is faster here, by evaluations of the cell, or by its VJPs where a task needs them; for a feedforward
    network by the task itself."""
    probe = "cell-forward" if name in ("cell-forward", "solve", "low-rank", "vote", "vote-fast") else "cell-vjp"
    probe = probe if isinstance(model, Mdeq) else name
    seconds = {}
    for last in (False, True):
        run = task(probe, model, deployment, last, x, y)
        run()
        seconds[last] = min(timed(run) for _ in range(3))
    return seconds[True] < seconds[False]


def described(path):
    """What a model file says of its model."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["equipoise"])


def read(path):
    metadata = described(path)
    sizes = metadata["architecture"]
    model = feedforward.KINDS.get(sizes["kind"], Mdeq)(sizes)
    missing, unexpected = model.load_state_dict(load_file(path), strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        sys.exit(f"{path}: missing {missing}, unexpected {unexpected}")
    return model, metadata["deployment"]


def normalisation(path):
    """Mean and deviation that images are normalised by, by channel, if they are."""
    return described(path)["architecture"].get("normalisation")


def peak_kib():
    """Peak of this process's resident memory, where Linux tells."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(re.search(r"VmHWM:\s*(\d+)", status).group(1))


def worker(arguments):
    model, deployment = read(arguments.model)
    tensors = load_file(arguments.input)
    x, y = tensors["x"], tensors["y"]
    last = arguments.layout == "channels-last"
    if arguments.layout == "auto":
        last = faster_layout(arguments.task, model, deployment, x, y)
    repeat = task(arguments.task, model, deployment, last, x, y)
    print(json.dumps({"ready": True}, separators=(",", ":")), flush=True)
    for line in sys.stdin:
        command, count = line.split()
        assert command == "run", line
        seconds = [timed(repeat) for _ in range(int(count))]
        print(json.dumps({"seconds": seconds, "peak_kib": peak_kib()}), flush=True)


def check(arguments):
    model, deployment = read(arguments.model)
    tensors, ours = load_file(arguments.input), load_file(arguments.trace)
    x, y = tensors["x"], tensors["y"]
    errors = {}

    def compare(name, a, b):
        # The median over images: rounding may carry an image across a kink of a ReLU, and its gradient is another then.
        a, b = a.double().flatten(1), b.double().flatten(1)
        error = ((a - b).norm(dim=1) / b.norm(dim=1)).median().item()
        errors[name] = max(errors.get(name, 0.0), error)

    if not isinstance(model, Mdeq):
        for name, found in feedforward.check(model, x, y):
            compare(name, found, ours[name])
        print(json.dumps(errors))
        return
    for last in (False, True):
        deq = Deq(model, deployment, last)
        with torch.no_grad():
            injection = deq.inject(x)
        best, states = deq.solve(injection, keep=True)
        for t, z in enumerate(states):
            plain = torch.cat([part.flatten(1) for part in deq.cell.split(z)], dim=1)
            compare("states", plain, ours["states"][:, t])
        with torch.no_grad():
            compare("logits.final", deq.head(deq.tail(injection, best, deployment["tail"])), ours["logits.final"])
        for name, expected in ours.items():
            if name.startswith("gradient."):
                spec = name.removeprefix("gradient.")
                compare(name, parse(spec)(deq, x, y), expected)
                if spec.startswith("ensemble"):
                    compare(name, parse(spec.replace("ensemble", "resolve"))(deq, x, y), expected)
    print(json.dumps(errors))


def autoattack(arguments):
    try:
        from autoattack import AutoAttack
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    model, _ = read(arguments.model)
    if isinstance(model, Mdeq):
        sys.exit("autoattack: feedforward networks alone")
    tensors = load_file(arguments.input)
    last = arguments.layout != "channels-first" and faster_layout("pgd", model, None, tensors["x"][:arguments.batch],
                                                                  tensors["y"][:arguments.batch])
    network = feedforward.normalised(feedforward.evaluated(model, last), normalisation(arguments.model))
    x, y = tensors["x"], tensors["y"]

    # The attacks view gradients as rows, which have to have the images' own layout.
    def model(images):
        return network(feedforward.layout(images, last))

    with torch.no_grad():
        clean = sum((model(x[k:k + arguments.batch]).argmax(1) == y[k:k + arguments.batch]).sum().item()
                    for k in range(0, len(y), arguments.batch))
    adversary = AutoAttack(model, norm="Linf", eps=arguments.eps, version="standard", device="cpu", verbose=False)
    started = time.perf_counter()
    images = adversary.run_standard_evaluation(x, y, bs=arguments.batch)
    seconds = time.perf_counter() - started
    with torch.no_grad():
        robust = sum((model(images[k:k + arguments.batch]).argmax(1) == y[k:k + arguments.batch]).sum().item()
                     for k in range(0, len(y), arguments.batch))
    print(json.dumps({"seconds": seconds, "clean": clean, "robust": robust}))


def about(arguments):
    print(json.dumps({
        "torch": torch.__version__, "threads": torch.get_num_threads(), "layout": arguments.layout,
        "mkldnn": torch.backends.mkldnn.is_available(), "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "allocator": {k: os.environ.get(k) for k in ALLOCATOR},
    }))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["about", "autoattack", "check", "worker"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--layout", choices=["auto", "channels-last", "channels-first"], default="auto")
    parser.add_argument("--task")
    for name in "model", "input", "trace":
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--eps", type=float, help="of `autoattack`, L∞")
    parser.add_argument("--batch", type=int, default=64, help="of `autoattack`")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    {"about": about, "autoattack": autoattack, "check": check, "worker": worker}[arguments.command](arguments)
