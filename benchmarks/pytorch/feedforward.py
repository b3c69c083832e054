"""ResNet-18 and wide residual networks in plain PyTorch: what mdeq.py does with an MDEQ, done with a feedforward network.

The networks are those of scripts/make_parity_fixture.py. In evaluation batch normalisations are folded into the convolutions
before them, and parameters want no gradient.
"""

import copy
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from make_parity_fixture import BasicBlock, ResNet18, WideBlock, WideResNet  # noqa: E402

KINDS = {
    "resnet18": lambda sizes: ResNet18(sizes["width"], sizes["classes"]),
    "wrn-34-10": lambda sizes: WideResNet(sizes["depth"], sizes["width"], sizes["classes"]),
}


def evaluated(model, last):
    """The model as an attack finds it."""
    model = copy.deepcopy(model).eval().requires_grad_(False)

    def fold(module, conv, bn):
        setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, bn)))
        setattr(module, bn, torch.nn.Identity())

    for module in list(model.modules()):
        if isinstance(module, BasicBlock):
            fold(module, "conv1", "bn1")
            fold(module, "conv2", "bn2")
            if len(module.shortcut):
                fold(module.shortcut, "0", "1")
        elif isinstance(module, WideBlock):
            fold(module, "conv1", "bn2")
        elif isinstance(module, ResNet18):
            fold(module, "conv1", "bn1")
    return model.to(memory_format=torch.channels_last) if last else model


def normalised(model, by):
    """The model of images that are normalised first."""
    if by is None:
        return model
    mean, deviation = (torch.tensor(by[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    return lambda x: model((x - mean) / deviation)


def layout(x, last):
    return x.contiguous(memory_format=torch.channels_last) if last else x


def gradient(model, x, y):
    x = x.clone().requires_grad_()
    loss = F.cross_entropy(model(x), y, reduction="sum")
    return torch.autograd.grad(loss, x)[0]


def task(name, model, last, x, y, pgd_step):
    """What one repetition does; `pgd_step(gradient, model, x, y)` is the step of the attack."""
    x = layout(x, last)
    if name == "train-step":
        if last:
            model = model.to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-9)

        def train_step():
            moved = pgd_step(gradient, evaluated(model, last), x, y)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model.train()(moved), y).backward()
            optimizer.step()

        return train_step
    model = evaluated(model, last)
    if name == "logits":
        return torch.no_grad()(lambda: model(x))
    if name == "pgd":
        return lambda: pgd_step(gradient, model, x, y)
    sys.exit(f"no task `{name}` here")


def check(model, x, y):
    """Logits in evaluation and in training, and the gradient to the images, in either layout of memory."""
    for last in (False, True):
        network, images = evaluated(model, last), layout(x, last)
        yield "logits", network(images)
        yield "gradient", gradient(network, images, y)
        with torch.no_grad():
            yield "logits in training", copy.deepcopy(model).train()(images)
