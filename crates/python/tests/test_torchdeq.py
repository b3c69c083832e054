"""TorchDEQ models, taken apart without their author's help."""

import pytest
import torch
from torch.nn import functional as F

import equipoise as eq

torchdeq = pytest.importorskip("torchdeq")


class Net(torch.nn.Module):
    """z = tanh(W z + stem(x)), and a head; TorchDEQ solves."""

    def __init__(self, listed=False, skip=False, start=0.0, twice=False, kept=False, **settings):
        super().__init__()
        torch.manual_seed(0)
        self.stem = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.w = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.out = torch.nn.Linear(4, 5)
        with torch.no_grad():
            self.w.weight.mul_(0.9)
        self.deq = torchdeq.get_deq(**settings)
        self.listed, self.skip, self.start, self.twice, self.kept = listed, skip, start, twice, kept

    def f(self, z, u):
        return torch.tanh(self.w(z) + u)

    def forward(self, x):
        u = self.stem(x)
        z0 = torch.full_like(u, self.start)
        self.u = u if self.kept else None
        if self.listed:
            states, _ = self.deq(lambda a, b: [self.f(a, u), 0.5 * b + a], [z0, z0])
            z = states[-1][0] + 0.1 * states[-1][1]
        else:
            states, _ = self.deq(lambda z: self.f(z, self.u if self.kept else u), z0)
            z = states[-1]
        if self.twice:
            z = self.deq(lambda z: self.f(z, u), z0)[0][-1]
        return 10 * self.out((z + u if self.skip else z).mean((2, 3)))


def images(count=8):
    return torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(3))


SETTINGS = [
    dict(f_solver="broyden", f_max_iter=8, f_tol=0.0, f_stop_mode="rel", ift=True, b_solver="broyden"),
    dict(f_solver="anderson", f_max_iter=12, f_tol=0.0, f_stop_mode="rel", ift=True, b_solver="anderson"),
    dict(f_solver="anderson", f_max_iter=12, f_tol=0.0, f_stop_mode="rel", grad=3, tau=0.6, listed=True),
    dict(f_solver="fixed_point_iter", f_max_iter=9, f_tol=0.0, f_stop_mode="rel", grad=5, tau=0.8),
    dict(f_solver="fixed_point_iter", f_max_iter=5, eval_f_max_iter=7, f_tol=0.0, n_states=2, core="indexing"),
    dict(f_solver="simple_fixed_point_iter", f_max_iter=7, listed=True),
]


@pytest.mark.parametrize("states", ["memory", "model"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_logits_are_those_of_the_network(settings, states):
    net = Net(**settings).eval()
    model = eq.from_torchdeq(net, net.deq, example=images(3), states=states)
    x = images()
    with torch.no_grad():
        expected = net(x)
    assert torch.allclose(model(x), expected, atol=2e-5 * expected.abs().max())
    assert "forward" not in net.deq.__dict__, "the module is left as it was"


@pytest.mark.parametrize("states", ["memory", "model"])
def test_the_gradient_is_the_networks(states):
    """simple_fixed_point_iter is autograd's own loop."""
    net = Net(f_solver="simple_fixed_point_iter", f_max_iter=4).eval()
    model = eq.from_torchdeq(net, net.deq, example=images(3), states=states)
    x, y = images().requires_grad_(True), torch.arange(8) % 5
    u = net.stem(x)
    z = torch.zeros_like(u)
    for _ in range(4):
        z = net.f(z, u)
    (expected,) = torch.autograd.grad(F.cross_entropy(10 * net.out(z.mean((2, 3))), y, reduction="sum"), x)
    assert torch.allclose(model.gradient(x, y, "through-solver"), expected, atol=1e-5)


def test_a_held_out_model_with_anderson_is_assessed(tmp_path):
    net = Net(f_solver="anderson", f_max_iter=10, f_tol=1e-4, f_stop_mode="rel", ift=True).eval()
    model = eq.from_torchdeq(net, net.deq, example=images(3))
    assert "Anderson, 10 evaluations" in repr(model) and "each image by itself" in repr(model)
    x = images(20)
    y = model(x).argmax(1)
    result = eq.evaluate(model, x, y, eps=8 / 255, attacks="pgd-3", gradients="through-solver,adjoint",
                         readouts="final,early(3)", out=tmp_path / "run", checks=4)
    assert result.readouts == ["final", "early(3)"] and 0 <= result.robust_accuracy <= 1
    found = model(result.adversarial()).argmax(1).numpy()
    assert (found == result.predictions()).all()
    with torch.no_grad():
        assert (net(result.adversarial()).argmax(1).numpy() == found).mean() >= 0.95
    diagnosis = eq.diagnose(model, x[:4], y[:4], sections="residual,spectrum")
    assert diagnosis["spectrum"]["dim"] == 4 * 36
    x_adv = eq.adversary(model, x, y, eps=8 / 255, steps=2, gradient="through-solver")
    assert (x_adv - x).abs().max() <= 8 / 255 + 1e-6


BROYDEN = dict(f_solver="broyden", f_max_iter=6)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(skip=True), "the head sees the images past the state"),
        (dict(start=0.5), "a first state that is not 0"),
        (dict(twice=True), "calls deq 2 times"),
        (dict(kept=True), "keeps its injection where the next pass overwrites it"),
    ],
)
def test_what_it_cannot_see_is_refused_by_name(settings, message):
    net = Net(**BROYDEN, **settings).eval()
    with pytest.raises(ValueError, match=message):
        eq.from_torchdeq(net, net.deq, example=images(3))


def test_other_misuse_is_refused():
    net = Net(**BROYDEN)
    with pytest.raises(ValueError, match="net is in training mode"):
        eq.from_torchdeq(net, net.deq, example=images(3))
    net.eval()
    with pytest.raises(ValueError, match="deq is no part of net"):
        eq.from_torchdeq(net, torchdeq.get_deq(), example=images(3))
    plain = Plain(net.deq).eval()
    with pytest.raises(ValueError, match="net\\(x\\) calls deq 0 times"):
        eq.from_torchdeq(plain, plain.deq, example=images(3))
    with pytest.raises(ValueError, match="two images that differ"):
        eq.from_torchdeq(net, net.deq, example=images(1))


class Plain(torch.nn.Module):
    """Has a TorchDEQ module, and does not use it."""

    def __init__(self, deq):
        super().__init__()
        self.deq = deq

    def forward(self, x):
        return x.flatten(1)[:, :5]
