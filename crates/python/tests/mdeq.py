"""An MDEQ in PyTorch operations, by the names of the state dict: what a user's own implementation would be."""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

MODELS = Path(__file__).resolve().parents[3] / "models"


def read(path):
    """The weights and the metadata of a model file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata = json.loads(header.pop("__metadata__")["equipoise"])

    def tensor(entry):
        first, last = entry["data_offsets"]
        return torch.from_numpy(np.frombuffer(data[first:last], "<f4").reshape(entry["shape"]).copy())

    return {name: tensor(entry) for name, entry in header.items()}, metadata


class Mdeq(torch.nn.Module):
    """Blocks, fusion and head of the release, from its state dict."""

    def __init__(self, weights, sizes):
        super().__init__()
        self.names = {name: f"p{k}" for k, name in enumerate(weights)}
        for name, value in weights.items():
            self.register_buffer(self.names[name], value)
        self.sizes = sizes
        side = sizes["image"][1] >> sizes["downsample_times"]
        self.shapes = [(c, side >> k, side >> k) for k, c in enumerate(sizes["channels"])]

    def w(self, name):
        found = self.names.get(name)
        return None if found is None else getattr(self, found)

    def conv(self, name, x, stride=1):
        weight = self.w(f"{name}.weight")
        if weight is None:
            v = self.w(f"{name}.weight_v")
            weight = self.w(f"{name}.weight_g") * v / v.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        return F.conv2d(x, weight, self.w(f"{name}.bias"), stride, weight.shape[-1] // 2)

    def bn(self, name, x):
        mean, variance = self.w(f"{name}.running_mean"), self.w(f"{name}.running_var")
        return F.batch_norm(x, mean, variance, self.w(f"{name}.weight"), self.w(f"{name}.bias"))

    def gn(self, name, x, groups):
        return F.group_norm(x, groups, self.w(f"{name}.weight"), self.w(f"{name}.bias"))

    def stem(self, x):
        times = self.sizes["downsample_times"]
        x = F.relu(self.bn("downsample.1", self.conv("downsample.0", x, 2 if times >= 1 else 1)))
        x = F.relu(self.bn("downsample.4", self.conv("downsample.3", x, 2 if times >= 2 else 1)))
        return F.relu(self.bn("stage0.1", self.conv("stage0.0", x))) if self.w("stage0.0.weight") is not None else x

    def block(self, branch, z, injection):
        name, groups = f"fullstage.branches.{branch}.blocks.0", self.sizes["groups"]
        h = F.relu(self.gn(f"{name}.gn1", self.conv(f"{name}.conv1", z), groups))
        h = self.conv(f"{name}.conv2", h)
        h = self.gn(f"{name}.gn2", h if injection is None else h + injection, groups)
        return self.gn(f"{name}.gn3", F.relu(h + z), groups)

    def fused(self, to, branch, z):
        groups, name = self.sizes["groups"], f"fullstage.fuse_layers.{to}.{branch}.net"
        if to == branch:
            return z
        if to < branch:
            z = self.gn(f"{name}.gnorm", self.conv(f"{name}.conv", z), groups)
            return F.interpolate(z, scale_factor=2 ** (branch - to), mode="nearest")
        for step in range(to - branch):
            z = F.relu(z) if step else z
            z = self.gn(f"{name}.{step}.gnorm", self.conv(f"{name}.{step}.conv", z, 2), groups)
        return z

    def f(self, states, injection):
        """Scale by scale."""
        mixed = [self.block(k, z, injection if k == 0 else None) for k, z in enumerate(states)]
        sums = [sum(self.fused(to, k, z) for k, z in enumerate(mixed)) for to in range(len(mixed))]
        name, groups = "fullstage.post_fuse_layers", self.sizes["groups"] // 2
        return [self.gn(f"{name}.{k}.gnorm", self.conv(f"{name}.{k}.conv", F.relu(z)), groups) for k, z in enumerate(sums)]

    def bottleneck(self, branch, z):
        name = f"incre_modules.{branch}.0"
        h = F.relu(self.bn(f"{name}.bn1", self.conv(f"{name}.conv1", z)))
        h = F.relu(self.bn(f"{name}.bn2", self.conv(f"{name}.conv2", h)))
        h = self.bn(f"{name}.bn3", self.conv(f"{name}.conv3", h))
        return F.relu(h + self.bn(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", z)))

    def head(self, states):
        y, *rest = [self.bottleneck(k, z) for k, z in enumerate(states)]
        for k, z in enumerate(rest):
            y = z + F.relu(self.bn(f"downsamp_modules.{k}.1", self.conv(f"downsamp_modules.{k}.0", y, 2)))
        y = F.relu(self.bn("final_layer.1", self.conv("final_layer.0", y))).mean((2, 3))
        return F.linear(y, self.w("classifier.weight"), self.w("classifier.bias"))
