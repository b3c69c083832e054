"""Makes the small parity fixtures in crates/equipoise/tests/fixtures.

A plain PyTorch implementation of the MDEQ, of Broyden's method with per-example norms, and of the exact and
unrolled gradients, as docs and rustdoc describe them; written for this purpose and sharing no code with the
library or with anyone's release. Random weights from a seed, float32 arithmetic, one CPU thread.

    pip install torch numpy safetensors pyyaml
    python scripts/make_parity_fixture.py [--out crates/equipoise/tests/fixtures]

With `--weights FOLDER` it reads a configuration and a checkpoint (config.yaml, checkpoint.pth.tar) and the images
of io.safetensors instead, computes in float64, and prints how far io.safetensors is from that.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

STEPS, BACKWARD_STEPS = 8, 7


def conv(cin, cout, k, stride=1, bias=False):
    return nn.Conv2d(cin, cout, k, stride=stride, padding=k // 2, bias=bias)


def bn(channels, affine=True):
    return nn.BatchNorm2d(channels, affine=affine)


class WeightNormConv(nn.Module):
    """w = g v / |v| per output channel, no bias."""

    def __init__(self, cin, cout, k):
        super().__init__()
        v = torch.randn(cout, cin, k, k) * 0.01
        self.weight_v = nn.Parameter(v)
        self.weight_g = nn.Parameter(v.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1))
        self.pad = k // 2

    def forward(self, x):
        v = self.weight_v
        w = self.weight_g * v / v.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        return F.conv2d(x, w, padding=self.pad)


class Block(nn.Module):
    def __init__(self, c, cfg):
        super().__init__()
        inner, g = c * cfg["expansion"], cfg["groups"]
        self.conv1 = WeightNormConv(c, inner, 3)
        self.gn1 = nn.GroupNorm(g, inner)
        self.conv2 = WeightNormConv(inner, c, 3)
        self.gn2 = nn.GroupNorm(g, c)
        self.gn3 = nn.GroupNorm(g, c)

    def forward(self, z, injection):
        h = F.relu(self.gn1(self.conv1(z)))
        h = self.gn2(self.conv2(h) + injection)
        return self.gn3(F.relu(h + z))


class ConvNorm(nn.Module):
    def __init__(self, cin, cout, k, stride, cfg):
        super().__init__()
        self.conv = conv(cin, cout, k, stride)
        self.gnorm = nn.GroupNorm(cfg["groups"], cout)

    def forward(self, x):
        return self.gnorm(self.conv(x))


class Down(nn.Module):
    def __init__(self, cin, cout, steps, cfg):
        super().__init__()
        outs = [cin] * (steps - 1) + [cout]
        self.net = nn.ModuleList([ConvNorm(cin, out, 3, 2, cfg) for out in outs])

    def forward(self, x):
        for k, layer in enumerate(self.net):
            x = layer(F.relu(x) if k else x)
        return x


class Up(nn.Module):
    def __init__(self, cin, cout, steps, cfg):
        super().__init__()
        self.net, self.factor = ConvNorm(cin, cout, 1, 1, cfg), 2**steps

    def forward(self, x):
        return F.interpolate(self.net(x), scale_factor=self.factor, mode="nearest")


class PostFuse(nn.Module):
    def __init__(self, c, cfg):
        super().__init__()
        self.conv = WeightNormConv(c, c, 1)
        self.gnorm = nn.GroupNorm(cfg["groups"] // 2, c, affine=cfg["post_affine"])

    def forward(self, x):
        return self.gnorm(self.conv(F.relu(x)))


class Branch(nn.Module):
    def __init__(self, c, cfg):
        super().__init__()
        self.blocks = nn.ModuleList([Block(c, cfg)])


class Stage(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        cs = cfg["channels"]
        self.branches = nn.ModuleList([Branch(c, cfg) for c in cs])
        if len(cs) == 1:
            return

        def path(i, j):
            if i == j:
                return nn.Identity()
            return Down(cs[j], cs[i], i - j, cfg) if j < i else Up(cs[j], cs[i], j - i, cfg)

        self.fuse_layers = nn.ModuleList(
            [nn.ModuleList([path(i, j) for j in range(len(cs))]) for i in range(len(cs))]
        )
        self.post_fuse_layers = nn.ModuleList([PostFuse(c, cfg) for c in cs])

    def forward(self, zs, injection):
        hs = [b.blocks[0](z, injection if i == 0 else 0.0) for i, (b, z) in enumerate(zip(self.branches, zs))]
        if len(hs) == 1:
            return hs
        fused = [sum(path(h) for path, h in zip(row, hs)) for row in self.fuse_layers]
        return [post(x) for post, x in zip(self.post_fuse_layers, fused)]


class Bottleneck(nn.Module):
    def __init__(self, cin, planes):
        super().__init__()
        out = planes * 4
        self.conv1, self.bn1 = conv(cin, planes, 1), bn(planes, False)
        self.conv2, self.bn2 = conv(planes, planes, 3), bn(planes, False)
        self.conv3, self.bn3 = conv(planes, out, 1), bn(out, False)
        self.downsample = nn.Sequential(conv(cin, out, 1), bn(out)) if cin != out else nn.Sequential()

    def forward(self, x):
        h = F.relu(self.bn1(self.conv1(x)))
        h = F.relu(self.bn2(self.conv2(h)))
        return F.relu(self.bn3(self.conv3(h)) + self.downsample(x))


class Mdeq(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        cs, hs, times = cfg["channels"], cfg["head_channels"], cfg["downsample_times"]
        c, (c_in, height, width) = cs[0], cfg["image"]
        self.shapes = [(ci, height >> (times + i), width >> (times + i)) for i, ci in enumerate(cs)]
        self.downsample = nn.Sequential(
            conv(c_in, c, 3, 2 if times >= 1 else 1), bn(c), nn.ReLU(),
            conv(c, c, 3, 2 if times >= 2 else 1), bn(c), nn.ReLU(),
        )
        bare = times == 0 and len(cs) <= 2
        self.stage0 = nn.Sequential() if bare else nn.Sequential(conv(c, c, 1), bn(c), nn.ReLU())
        self.fullstage = Stage(cfg)
        self.incre_modules = nn.ModuleList([nn.Sequential(Bottleneck(ci, h)) for ci, h in zip(cs, hs)])
        self.downsamp_modules = nn.ModuleList(
            [nn.Sequential(conv(a * 4, b * 4, 3, 2, True), bn(b * 4), nn.ReLU()) for a, b in zip(hs, hs[1:])]
        )
        final = cfg["final_channels"]
        self.final_layer = nn.Sequential(conv(hs[-1] * 4, final, 1, 1, True), bn(final), nn.ReLU())
        self.classifier = nn.Linear(final, cfg["classes"])

    def inject(self, x):
        return self.stage0(self.downsample(x))

    def split(self, z):
        sizes = [c * h * w for c, h, w in self.shapes]
        return [part.reshape(-1, *shape) for part, shape in zip(z.split(sizes, dim=1), self.shapes)]

    def cell(self, z, injection):
        return torch.cat([h.flatten(1) for h in self.fullstage(self.split(z), injection)], dim=1)

    def head(self, z):
        zs = self.split(z)
        y = self.incre_modules[0](zs[0])
        for k, down in enumerate(self.downsamp_modules):
            y = self.incre_modules[k + 1](zs[k + 1]) + down(y)
        return self.classifier(self.final_layer(y).mean(dim=(2, 3)))


def dot(a, b):
    return (a * b).sum(dim=1, keepdim=True)


def broyden(f, z, steps, tolerance, whole_batch=False):
    """Broyden's good method with B = -I + sum of u v^T, per example. Returns iterates, residuals, best (from 1).

    An example that has converged stays where it is."""

    def norm(a):
        n = a.norm(dim=1)
        return n.norm().expand_as(n) if whole_batch else n

    us, vs, states, relative, absolute = [], [], [], [], []

    def product(x):
        return -x + sum(u * dot(v, x) for u, v in zip(us, vs))

    def transposed(x):
        return -x + sum(v * dot(u, x) for u, v in zip(us, vs))

    done = torch.zeros(len(z), dtype=torch.bool)
    g = f(z) - z
    for _ in range(steps):
        new = torch.where(done[:, None], z, z - product(g))
        value = f(new)
        new_g = value - new
        dz, dg = new - z, new_g - g
        vt = transposed(dz)
        u = (dz - product(dg)) / dot(vt, dg)
        us.append(torch.nan_to_num(u, 0.0, 0.0, 0.0))
        vs.append(torch.nan_to_num(vt, 0.0, 0.0, 0.0))
        z, g = new, new_g
        states.append(z)
        absolute.append(norm(g))
        relative.append(norm(g) / norm(value))
        done = done | (relative[-1] < tolerance)
    relative, absolute = torch.stack(relative, 1), torch.stack(absolute, 1)
    return torch.stack(states, 1), relative, absolute, relative.argmin(dim=1) + 1


def choose(states, best):
    return states[torch.arange(len(states)), best - 1]


def unroll(f, z, lead, steps, damping):
    for _ in range(lead):
        z = f(z)
    for _ in range(steps):
        z = (1 - damping) * z + damping * f(z)
    return z


def input_gradient(model, x, y, state_of):
    """The gradient of the summed cross-entropy of head(state_of(injection)), with its losses and logits."""
    x = x.clone().requires_grad_()
    logits = state_of(model.inject(x))
    loss = F.cross_entropy(logits, y, reduction="none")
    return torch.autograd.grad(loss.sum(), x)[0], loss.detach(), logits.detach()


def exact_gradient(model, x, y, z, tolerance, whole_batch=False):
    x = x.clone().requires_grad_()
    injection, z = model.inject(x), z.clone().requires_grad_()
    a = model.cell(z, injection)
    at = a.detach().requires_grad_()
    loss = F.cross_entropy(model.head(at), y, reduction="none")
    v = torch.autograd.grad(loss.sum(), at)[0]

    def adjoint(u):
        return torch.autograd.grad(a, z, u, retain_graph=True)[0] + v

    us, _, _, best = broyden(adjoint, torch.zeros_like(v), BACKWARD_STEPS, tolerance, whole_batch)
    return torch.autograd.grad(a, x, choose(us, best))[0], loss.detach()


def compute(model, x, y, tolerance=1e-3, whole_batch=False):
    """Everything a trace holds, and a few gradients by their estimator strings."""
    out = {"x": x, "y": y}
    with torch.no_grad():
        injection = model.inject(x)
        f = lambda z: model.cell(z, injection)
        dim = sum(c * h * w for c, h, w in model.shapes)
        start = torch.zeros(len(x), dim, dtype=x.dtype)
        states, relative, absolute, best = broyden(f, start, STEPS, tolerance, whole_batch)
        z = choose(states, best)
        last = f(z)
        out |= {"states": states, "residual.relative": relative, "residual.absolute": absolute, "best": best}
        out["logits.state"] = torch.stack([model.head(states[:, t]) for t in range(STEPS)], 1)
        out["logits.final"] = model.head(last)
        out["logits.unrolled"] = model.head(unroll(f, z, 1, 9, 0.5))
        members = torch.cat([states, last[:, None]], 1)
        out["logits.ensemble-states"] = model.head(members.mean(1))
        out["logits.ensemble-logits"] = torch.stack([model.head(members[:, t]) for t in range(STEPS + 1)]).mean(0)

    out["gradient.exact"], out["loss.exact"] = exact_gradient(model, x, y, z, tolerance, whole_batch)

    def tail(start, *settings):
        return lambda injection: model.head(unroll(lambda s: model.cell(s, injection), start, *settings))

    def joint(injection):
        members = [tail(states[:, t - 1], 1, 0, 1)(injection) for t in range(2, STEPS + 1)]
        return (sum(members) + tail(z, 1, 9, 0.5)(injection)) / STEPS

    for spec, logits_of in {
        "unrolled:state=best,lead=1,steps=9,damping=0.5": tail(z, 1, 9, 0.5),
        "unrolled:state=1,lead=1,steps=1,damping=1": tail(states[:, 0], 1, 1, 1),
        "unrolled:state=4,lead=1,steps=5,damping=1": tail(states[:, 3], 1, 5, 1),
        "unrolled:state=8,lead=0,steps=3,damping=0.25": tail(states[:, 7], 0, 3, 0.25),
        "joint(unrolled:state=2..8,lead=1,steps=0,unrolled:state=best)": joint,
    }.items():
        out[f"gradient.{spec}"], out[f"loss.{spec}"], _ = input_gradient(model, x, y, logits_of)
    return out


class BasicBlock(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(cin, cout, 3, stride), bn(cout)
        self.conv2, self.bn2 = conv(cout, cout, 3), bn(cout)
        same = stride == 1 and cin == cout
        self.shortcut = nn.Sequential() if same else nn.Sequential(conv(cin, cout, 1, stride), bn(cout))

    def forward(self, x):
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(h + self.shortcut(x))


class ResNet18(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.conv1, self.bn1 = conv(3, width, 3), bn(width)
        cs = [width, width, 2 * width, 4 * width, 8 * width]
        for k in range(1, 5):
            blocks = BasicBlock(cs[k - 1], cs[k], 1 if k == 1 else 2), BasicBlock(cs[k], cs[k], 1)
            setattr(self, f"layer{k}", nn.Sequential(*blocks))
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(x.mean(dim=(2, 3)))


class WideBlock(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.bn1, self.conv1 = bn(cin), conv(cin, cout, 3, stride)
        self.bn2, self.conv2 = bn(cout), conv(cout, cout, 3)
        self.convShortcut = conv(cin, cout, 1, stride) if cin != cout else None

    def forward(self, x):
        h = F.relu(self.bn1(x))
        shortcut = self.convShortcut(h) if self.convShortcut else x
        return self.conv2(F.relu(self.bn2(self.conv1(h)))) + shortcut


class WideStage(nn.Module):
    def __init__(self, count, cin, cout, stride):
        super().__init__()
        blocks = [WideBlock(cin if k == 0 else cout, cout, stride if k == 0 else 1) for k in range(count)]
        self.layer = nn.Sequential(*blocks)


class WideResNet(nn.Module):
    def __init__(self, depth, width, classes):
        super().__init__()
        count, cs = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = conv(3, cs[0], 3)
        for k in range(1, 4):
            setattr(self, f"block{k}", WideStage(count, cs[k - 1], cs[k], 1 if k == 1 else 2))
        self.bn1, self.fc = bn(cs[3]), nn.Linear(cs[3], classes)

    def forward(self, x):
        x = self.block3.layer(self.block2.layer(self.block1.layer(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean(dim=(2, 3)))


def by_formula(model):
    """Weights that the tests can make again: uniform numbers from the tensor's place among the sorted names and
    the entry's place in the tensor (SplitMix64). Keeps the fixture small. Returns the shapes by name."""
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    for place, name in enumerate(sorted(state)):
        shape = list(state[name].shape)
        with np.errstate(over="ignore"):
            x = np.arange(state[name].numel(), dtype=np.uint64) + np.uint64(place << 32)
            x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x = x ^ (x >> np.uint64(31))
        uniform = (x >> np.uint64(11)).astype(np.float64) / 2**53 * 2 - 1
        if len(shape) > 1:
            values = uniform * (6 / np.prod(shape[1:])) ** 0.5
        elif name.endswith("running_var") or name.endswith("weight"):
            values = 1 + 0.5 * uniform
        else:
            values = 0.2 * uniform
        state[name] = torch.tensor(values, dtype=torch.float32).reshape(shape)
    model.load_state_dict(state, strict=False)
    return {name: list(tensor.shape) for name, tensor in state.items()}


def make_baselines(out):
    torch.manual_seed(9)
    classes = 5
    tensors = {"x": torch.rand(2, 3, 16, 16), "y": torch.tensor([1, 4])}
    names = {}
    for name, model in [("resnet18", ResNet18(4, classes)), ("wrn-34-10", WideResNet(10, 2, classes))]:
        names[name] = by_formula(model.eval())
        x = tensors["x"].clone().requires_grad_()
        logits = model(x)
        loss = F.cross_entropy(logits, tensors["y"], reduction="sum")
        tensors[f"{name}.gradient"] = torch.autograd.grad(loss, x)[0]
        tensors[f"{name}.logits"] = logits.detach()
    save_file(tensors, out / "baselines.safetensors")
    (out / "baselines.json").write_text(json.dumps(names, indent=0) + "\n")


def make_types(out):
    """A bare state dict of every floating-point type, one tensor a transposed view."""
    values = torch.tensor([[1.0, -2.5, 0.09375], [3.0, 1e-3, 65504.0]])
    torch.save(
        {
            "single": values.T,
            "half": values.half(),
            "bfloat16": values.bfloat16(),
            "double": values.double(),
            "bn.num_batches_tracked": torch.tensor(7),
        },
        out / "types.pth",
    )


CONFIGS = {
    "two-branch": dict(channels=[8, 8], head_channels=[2, 2], final_channels=16, groups=4, expansion=2,
                       downsample_times=1, post_affine=True, image=[3, 8, 8], classes=4),
    "three-branch": dict(channels=[4, 4, 8], head_channels=[2, 2, 2], final_channels=8, groups=2, expansion=2,
                         downsample_times=0, post_affine=False, image=[1, 8, 8], classes=3),
    "single-scale": dict(channels=[8], head_channels=[2], final_channels=8, groups=4, expansion=2,
                         downsample_times=0, post_affine=False, image=[3, 8, 8], classes=5),
}


# Loose enough that some examples stop before others.
TOLERANCES = {"two-branch": 1e-3, "three-branch": 1e-3, "single-scale": 0.17}


def shake(model):
    """Affine maps and running statistics away from the identity, so that each matters; and a cell that contracts,
    as a trained one does: otherwise every application carries rounding across kinks of ReLU."""
    with torch.no_grad():
        for name, p in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("num_batches_tracked"):
                continue
            if p.dim() == 1:
                p.add_(torch.randn_like(p) * 0.2)
            if name.endswith("gn1.weight"):
                p.mul_(0.3)
            if name.endswith("gn2.weight"):
                p.mul_(3)
            if name.endswith("running_var"):
                p.abs_()


def make(out):
    for k, (name, cfg) in enumerate(CONFIGS.items()):
        torch.manual_seed(k)
        model = Mdeq(cfg).eval()
        shake(model)
        count = 2
        x, y = torch.rand(count, *cfg["image"]), torch.randint(cfg["classes"], (count,))
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.detach().contiguous() for k, v in compute(model, x, y, TOLERANCES[name]).items()}
        print(name, tensors['residual.relative'].tolist(), tensors['best'].tolist())
        save_file(tensors, folder / "io.safetensors")
        state = {f"module.{k}": v for k, v in model.state_dict().items()}
        deployment = {
            "solver": {"method": "broyden", "steps": STEPS, "tolerance": TOLERANCES[name]},
            "backward": {"method": "broyden", "steps": BACKWARD_STEPS, "tolerance": TOLERANCES[name]},
        }
        # Another container for each, so that all of them are read.
        torch.save({"epoch": 1, "state_dict": state, "best_perf": 0.5}, folder / "checkpoint.pth.tar",
                   _use_new_zipfile_serialization=name != "three-branch")
        (folder / "config.json").write_text(json.dumps({"architecture": cfg, "deployment": deployment}, indent=1) + "\n")


def compare(folder):
    import yaml

    keys = yaml.safe_load((folder / "config.yaml").read_text())["MODEL"]
    stage = keys["EXTRA"]["FULL_STAGE"]
    cfg = dict(channels=stage["NUM_CHANNELS"], head_channels=stage["HEAD_CHANNELS"],
               final_channels=stage["FINAL_CHANSIZE"], groups=keys["NUM_GROUPS"],
               expansion=keys["EXPANSION_FACTOR"], downsample_times=keys["DOWNSAMPLE_TIMES"],
               post_affine=keys["POST_GN_AFFINE"], image=[3, *keys["IMAGE_SIZE"]], classes=keys["NUM_CLASSES"])
    model = Mdeq(cfg)
    state = torch.load(folder / "checkpoint.pth.tar", map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
    theirs = load_file(folder / "io.safetensors")
    for dtype in torch.float32, torch.float64:
        model = model.eval().to(dtype)
        ours = compute(model, theirs["x"].to(dtype), theirs["y"], whole_batch=True)
        for name, spec, scale in [
            ("states", "states", 1),
            ("logits.exact", "logits.final", 1),
            ("grad.real", "gradient.exact", len(theirs["y"])),
            ("grad.unroll", "gradient.unrolled:state=best,lead=1,steps=9,damping=0.5", len(theirs["y"])),
            ("grad.Funroll-3-5", "gradient.unrolled:state=4,lead=1,steps=5,damping=1", len(theirs["y"])),
        ]:
            a, b = theirs[name].double() * scale, ours[spec].double()
            error = ((a - b).norm() / b.norm()).item()
            cosine = F.cosine_similarity(a.flatten(1), b.flatten(1)).min().item()
            print(f"{dtype} {name}: relative error {error:.1e}, worst cosine {cosine:.6f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("crates/equipoise/tests/fixtures"))
    parser.add_argument("--weights", type=Path)
    arguments = parser.parse_args()
    if arguments.weights:
        compare(arguments.weights)
    else:
        make(arguments.out)
        make_baselines(arguments.out)
        make_types(arguments.out)
