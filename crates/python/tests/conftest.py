"""Small models and images, the same on every machine."""

import signal

import numpy as np
import pytest
import torch

# Small models gain nothing by threads, and on a busy machine threads that wait for each other take long.
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def interrupts():
    """Python leaves SIGINT ignored where its parent did: a shell's background jobs start like that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Linear(torch.nn.Module):
    """Logits that do not depend on the batch: sums in float64, image by image."""

    def __init__(self, classes=5, shape=(3, 6, 6), seed=3):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.nn.Parameter(torch.randn(classes, *shape, generator=generator, dtype=torch.float64))

    def forward(self, x):
        return torch.stack([(self.weight * image.double()).sum((1, 2, 3)) for image in x]).float()


class Network(torch.nn.Module):
    """Two convolutions with batch normalisation."""

    def __init__(self, classes=5, seed=5):
        super().__init__()
        torch.manual_seed(seed)
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.Conv2d(8, 8, 3, stride=2),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(8 * 2 * 2, classes),
        )

    def forward(self, x):
        return self.body(x)


def points(model, count, wrong, seed=0):
    """Images, labelled as the model answers but for the last ``wrong``."""
    x = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        logits = model(x)
    y = logits.argmax(1)
    y[count - wrong :] = (y[count - wrong :] + 1) % logits.shape[1]
    return x, y


@pytest.fixture
def linear():
    model = Linear().eval()
    return (model, *points(model, 20, 2))


@pytest.fixture
def network():
    model = Network().eval()
    return (model, *points(model, 20, 2))


class Counting:
    """Counts what a model is asked, with a graph and without."""

    def __init__(self, model):
        self.model, self.gradients, self.forwards, self.images = model, 0, 0, 0

    def __call__(self, x):
        self.images += len(x)
        if torch.is_grad_enabled():
            self.gradients += 1
        else:
            self.forwards += 1
        return self.model(x)


def distances(a, b, norm):
    change = (a.double() - b.double()).flatten(1)
    return {"Linf": change.abs().amax(1), "L2": change.norm(dim=1), "L1": change.abs().sum(1)}[norm].numpy()


def batches(folder):
    """The content of a journal's batches: the classes and the images in each."""
    import json

    found = []
    for path in sorted(folder.glob("batch-*.safetensors")):
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header, data = json.loads(content[8 : 8 + length]), content[8 + length :]

        def tensor(name, kind):
            first, last = header[name]["data_offsets"]
            return np.frombuffer(data[first:last], dtype=kind)

        found.append((tensor("predictions", "<i8"), tensor("images", "<f4")))
    return found
