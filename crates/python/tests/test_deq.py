"""DEQs of three callables, and model files: logits, gradients, assessments, diagnoses."""

import json
import signal
import threading
import time

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import equipoise as eq
from mdeq import MODELS, Mdeq, read

SMALL = MODELS / "cifar10-mdeq-small-pgd-at-exact-14-epochs.safetensors"
ESTIMATORS = [
    "exact",
    "through-solver",
    "adjoint:state=4",
    "adjoint",
    "unrolled:state=2,lead=1,steps=4",
    "unrolled:state=best,lead=1,steps=9,damping=0.5",
    "ensemble(unrolled:state=1..8,lead=1,steps=0)",
    "aimed(exact)",
]
READOUTS = ["final", "early(2)", "ensemble-states", "ensemble-logits"]


class Tanh(torch.nn.Module):
    """z = tanh(W z + stem(x)) on 6 by 6 maps."""

    def __init__(self, scale=0.9, seed=1):
        super().__init__()
        torch.manual_seed(seed)
        self.inner = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.w = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.out = torch.nn.Linear(4, 5)
        with torch.no_grad():
            self.w.weight.mul_(scale)

    def stem(self, x):
        return self.inner(x)

    def f(self, z, u):
        return torch.tanh(self.w(z) + u)

    def head(self, z):
        return 10 * self.out(z.mean((2, 3)))

    def unrolled(self, x, steps):
        u = self.stem(x)
        z = torch.zeros_like(u)
        for _ in range(steps):
            z = self.f(z, u)
        return self.head(z)


@pytest.fixture(params=["memory", "model"])
def states(request):
    """Where states are between two calls of the cell."""
    return request.param


def tanh(**settings):
    net = Tanh().eval()
    return net, eq.Deq(net.stem, net.f, net.head, state=(4, 6, 6), **settings)


def images(count, shape=(3, 6, 6), seed=0):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def cosines(a, b):
    return F.cosine_similarity(a.flatten(1).double(), b.flatten(1).double())


def test_a_model_in_pytorch_is_the_imported_one(states):
    weights, metadata = read(SMALL)
    net, native = Mdeq(weights, metadata["architecture"]).eval(), eq.load(SMALL)
    own = eq.Deq(
        net.stem,
        lambda z, u: net.f(eq.scales(z, net.shapes), u),
        lambda z: net.head(eq.scales(z, net.shapes)),
        state=net.shapes,
        solver=eq.Broyden(8, tolerance=1e-3),
        backward=eq.Broyden(7, tolerance=1e-3),
        tail=eq.Tail.exact(),
        states=states,
    )
    assert json.loads(own.deployment) == json.loads(native.deployment)
    x = images(6, (3, 32, 32))
    for readout in READOUTS:
        assert torch.allclose(own(x, readout), native(x, readout), atol=2e-4), readout
    y = native(x).argmax(1)
    for readout in READOUTS:
        for estimator in ESTIMATORS:
            found, expected = (model.gradient(x, y, estimator, readout) for model in (own, native))
            assert cosines(found, expected).min() > 0.9999, (readout, estimator)


def test_gradients_meet_autograd_through_a_long_iteration(states):
    net, model = tanh(solver=eq.Broyden(20, tolerance=0), states=states)
    x = images(6).requires_grad_(True)
    y = torch.arange(6) % 5
    logits = net.unrolled(x, 300)
    assert torch.allclose(model(x), logits, atol=1e-4)
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), x)
    for estimator in ["exact", "through-solver"]:
        assert cosines(model.gradient(x, y, estimator), expected).min() > 0.9999, estimator


def test_the_true_gradient_is_that_of_a_few_steps(states):
    """Picard's iterates are autograd's own loop."""
    net, model = tanh(solver=eq.Picard(3, tolerance=0), tail=eq.Tail.none(), readout="early(3)", states=states)
    x = images(5).requires_grad_(True)
    y = torch.arange(5) % 5
    logits = net.unrolled(x, 3)
    assert torch.allclose(model(x), logits, atol=1e-5)
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), x)
    found = model.gradient(x, y, "through-solver")
    assert torch.allclose(found, expected, atol=1e-5)
    other = model.gradient(x, y, "through-solver", "early(1)")
    (expected,) = torch.autograd.grad(F.cross_entropy(net.unrolled(x, 1), y, reduction="sum"), x)
    assert torch.allclose(other, expected, atol=1e-5) and not torch.allclose(other, found, atol=1e-3)


@pytest.mark.parametrize("solver", [eq.Anderson(12), eq.Picard(30), eq.Broyden(12)])
def test_images_leave_a_solve_one_by_one(states, solver):
    """Some stop early: what is left is asked for its rows alone, and nobody's answer depends on the others."""
    _, model = tanh(solver=solver, states=states)
    x = torch.cat([images(3) * 0.01, images(3)])
    together = model(x)
    for row in range(6):
        assert torch.allclose(model(x[row : row + 1]), together[row : row + 1], atol=1e-4)
    y = together.argmax(1)
    for estimator in ["exact", "through-solver", "adjoint", "ensemble(unrolled:state=1..8,lead=1,steps=0)"]:
        alone = torch.cat([model.gradient(x[row : row + 1], y[row : row + 1], estimator) for row in range(6)])
        assert cosines(model.gradient(x, y, estimator), alone).min() > 0.999, estimator


@pytest.mark.parametrize("solver", [eq.Anderson(12, tolerance=0), eq.Picard(12, tolerance=0), eq.Broyden(12, tolerance=0)])
def test_a_model_in_float64_is_solved_in_it(solver):
    """Its states stay its own, so that differences of its logits meet the true gradient far below what float32 resolves."""
    net = Tanh().double().eval()
    model = eq.Deq(net.stem, net.f, net.head, state=(4, 6, 6), solver=solver, readout="early(3)", tail=eq.Tail.none())
    x = images(1).double()
    y = torch.tensor([2])
    gradient = model.gradient(x, y, "through-solver")
    seen = []
    inner = net.w.register_forward_hook(lambda _, given, answer: seen.append((given[0].dtype, given[0].detach().clone())))
    model(x)
    inner.remove()
    assert {dtype for dtype, _ in seen} == {torch.float64}
    # z_2 and z_3 as f saw them are numbers that float32 does not hold.
    assert not torch.equal(seen[-1][1], seen[-1][1].float().double())
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).sign() * 2.0**-12
    pushed = [F.cross_entropy(model(x + sign * direction).double(), y).item() for sign in (1, -1)]
    expected = (gradient.double() * direction).sum().item()
    assert abs((pushed[0] - pushed[1]) / 2 - expected) < 2e-3 * abs(expected) + 2e-7


@pytest.mark.parametrize("solver", [eq.Anderson(8), eq.Picard(8), eq.Broyden(8)])
def test_no_state_comes_to_the_host(solver, monkeypatch):
    """Of states that stay with the model, norms and inner products alone become numbers in memory."""
    _, model = tanh(solver=solver, states="model")
    x = images(4)
    y = model(x).argmax(1)
    sizes = []

    def counted(function):
        def call(*given, **named):
            answer = function(*given, **named)
            sizes.extend(part.numel() for part in (*given, answer) if isinstance(part, torch.Tensor))
            return answer

        return call

    for name in ["numpy", "tolist", "item", "__array__"]:
        monkeypatch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name)))
    monkeypatch.setattr(torch, "from_numpy", counted(torch.from_numpy))
    for readout in READOUTS:
        for estimator in ESTIMATORS[:-2]:
            model.gradient(x, y, estimator, readout)
    eq.evaluate(model, x, y, eps=1 / 255, attacks="pgd-2", gradients="through-solver", readouts="early(2)", checks=None)
    # An image has 108 numbers, a state and an injection 144.
    assert max(sizes) == x.numel() == 4 * 108


def test_where_states_are_is_said():
    net = Tanh().eval()
    with pytest.raises(ValueError, match="states 'gpu': use 'auto', 'memory'"):
        eq.Deq(net.stem, net.f, net.head, state=(4, 6, 6), states="gpu")


def test_both_ways_come_to_the_same():
    """And inside of inference mode, in which a caller may be."""
    models = [tanh(states=states, solver=eq.Broyden(6, tolerance=1e-2))[1] for states in ["memory", "model"]]
    x = torch.cat([images(3) * 0.01, images(3)])
    y = models[0](x).argmax(1)
    for readout in READOUTS:
        assert torch.allclose(models[0](x, readout), models[1](x, readout), atol=1e-5), readout
        for estimator in ESTIMATORS[:-2]:
            with torch.inference_mode():
                found = models[1].gradient(x, y, estimator, readout)
            assert cosines(models[0].gradient(x, y, estimator, readout), found).min() > 0.9999, (readout, estimator)


def test_an_injection_of_several_tensors_and_states_of_several_scales(states):
    net = Tanh().eval()

    def stem(x):
        u = net.stem(x)
        return u, u.mean((1, 2, 3)) * 0.1

    def f(z, injection):
        fine, coarse = eq.scales(z, [(4, 6, 6), (4,)])
        u, level = injection
        return [net.f(fine, u) + level.reshape(-1, 1, 1, 1), 0.5 * coarse + fine.mean((2, 3))]

    def head(z):
        fine, coarse = eq.scales(z, [(4, 6, 6), (4,)])
        return net.head(fine) + 0.1 * torch.cat([coarse, coarse.sum(1, keepdim=True)], dim=1)

    model = eq.Deq(stem, f, head, state=[(4, 6, 6), 4], solver=eq.Picard(40, tolerance=0), states=states)
    x = images(4).requires_grad_(True)
    z, injection = torch.zeros(4, 4 * 36 + 4), stem(x)
    for _ in range(100):
        z = torch.cat([part.reshape(4, -1) for part in f(z, injection)], dim=1)
    logits = head(z)
    y = torch.arange(4)
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), x)
    assert torch.allclose(model(x), logits, atol=1e-4)
    assert cosines(model.gradient(x, y, "through-solver"), expected).min() > 0.9999


def test_nothing_of_the_model_is_touched():
    net, model = tanh()
    net.train(False)
    before = {name: (p.clone(), p.requires_grad, p.grad) for name, p in net.named_parameters()}
    x = images(4)
    eq.evaluate(model, x, model(x).argmax(1), eps=8 / 255, attacks="pgd-2", gradients="through-solver", checks=None)
    for name, parameter in net.named_parameters():
        value, wanted, grad = before[name]
        assert torch.equal(parameter, value) and parameter.requires_grad == wanted and parameter.grad is grad is None
    assert not net.training


def test_an_assessment_has_arms_readouts_and_radii(states, tmp_path):
    _, model = tanh(states=states)
    x = images(24)
    y = model(x).argmax(1)
    y[:3] = (y[:3] + 1) % 5
    result = eq.evaluate(
        model, x, y, eps=[4 / 255, 16 / 255], attacks="pgd-3,square-20", gradients=["through-solver", "adjoint:state=4"],
        readouts=["final", "early(2)"], out=tmp_path / "run", dataset="noise", verbose=True,
    )
    assert result.readouts == ["final", "early(2)"] and result.clean_accuracy == 21 / 24
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert record == result.record and (tmp_path / "run" / "report.html").read_text().startswith("<!DOCTYPE html>")
    for name in result.readouts:
        of = result[name]
        broken = np.array([example["broken_by"] is not None for example in of.examples])
        found = model(of.adversarial(), name).argmax(1).numpy()
        assert (found[broken] != y.numpy()[broken]).all() and np.array_equal(of.predictions()[broken], found[broken])
        assert torch.equal(of.adversarial()[~broken], x[~broken])
        assert (of.adversarial() - x).abs().max() <= 16 / 255 + 1e-6
        assert of.verdict.finding in {"obfuscated", "not-obfuscated", "undecided", "no-robustness-left"}
        assert {entry["estimator"] for entry in of.attacks} >= {"exact", "through-solver", "adjoint:state=4,beta=1"}
    assert [radius["eps"] for radius in result.record["models"][0]["readouts"][0]["radii"]] == [4 / 255, 16 / 255]
    assert "early(2)" in str(result) and "<h4>early(2)</h4>" in result._repr_html_()
    with pytest.raises(KeyError, match="early\\(3\\) was not evaluated; there are final, early\\(2\\)"):
        result["early(3)"]
    again = eq.evaluate(
        model, x, y, eps=[4 / 255, 16 / 255], attacks="pgd-3,square-20", gradients=["through-solver", "adjoint:state=4"],
        readouts=["final", "early(2)"], out=tmp_path / "run", dataset="noise",
    )
    assert torch.equal(again.adversarial("early(2)"), result.adversarial("early(2)"))
    net = Tanh(seed=2).eval()
    other = eq.Deq(net.stem, net.f, net.head, state=(4, 6, 6), states=states)
    with pytest.raises(ValueError, match="another"):
        eq.evaluate(other, x, y, eps=[4 / 255, 16 / 255], attacks="pgd-3,square-20",
                    gradients=["through-solver", "adjoint:state=4"], readouts=["final", "early(2)"], out=tmp_path / "run")


def test_models_that_draw_are_judged_by_a_protocol():
    _, deq = tanh()
    x = images(12)
    y = deq(x).argmax(1)
    counts = []
    for more in ({"readouts": "random-states", "protocol": "one-shot"}, {"readouts": "random-states", "protocol": "any-of-20"}):
        found = eq.evaluate(
            deq, x, y, eps=0.1, attacks="pgd-3", gradients="through-solver", checks=None, **more
        )
        readout = found.record["models"][0]["readouts"][0]
        drawn = readout["randomness"]
        assert (drawn["protocol"], drawn["exact"]) == (more["protocol"], True)
        assert drawn["every"]["value"] <= drawn["expected"]["value"] <= drawn["clean_expected"]["value"]
        counts.append(readout["white_box_accuracy"])
    assert counts[1] <= counts[0]
    noisy = eq.evaluate(deq, x, y, eps=0.1, attacks="pgd-2", gradients="none", checks=None, noise=0.05)
    assert noisy.record["models"][0]["readouts"][0]["randomness"]["noise"] == 0.05
    for wrong, message in (
        ({"protocol": "any-of-10"}, "nothing is drawn"),
        ({"protocol": "twice", "noise": 0.1}, "one-shot"),
        ({"noise": -1.0}, "above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            eq.evaluate(deq, x, y, eps=0.1, attacks="pgd-2", **wrong)
    with pytest.raises(ValueError, match="noise: the model is a callable"):
        eq.evaluate(lambda x: x.flatten(1), x, y, attacks="pgd-2", noise=0.1)


def test_the_white_box_plan_and_a_chosen_t():
    _, model = tanh(solver=eq.Broyden(4))
    x, held_out = images(10), images(8, seed=9)
    y = model(x).argmax(1)
    result = eq.evaluate(
        model, x, y, eps=2 / 255, readouts="early", development=(held_out, model(held_out).argmax(1)), time_limit="2s", checks=8,
    )
    assert result.readouts[0].startswith("early(") and result.record["models"][0]["configuration"]["early"]["t"] >= 1
    with pytest.raises(ValueError, match="development split"):
        eq.evaluate(model, x, y, eps=2 / 255, readouts="early")


def test_a_model_file_and_its_callables_come_to_the_same():
    weights, metadata = read(SMALL)
    net, native = Mdeq(weights, metadata["architecture"]).eval(), eq.load(SMALL)
    own = eq.Deq(
        net.stem, lambda z, u: net.f(eq.scales(z, net.shapes), u), lambda z: net.head(eq.scales(z, net.shapes)),
        state=net.shapes, solver=eq.Broyden(8), tail=eq.Tail.exact(),
    )
    x = images(6, (3, 32, 32), seed=4)
    y = native(x).argmax(1)
    results = [
        eq.evaluate(model, x, y, eps=1 / 255, attacks="pgd-2", gradients="through-solver", checks=None) for model in (own, native)
    ]
    assert abs(results[0].robust_accuracy - results[1].robust_accuracy) <= 1 / 6
    start = (eq.adversary(model, x, y, eps=8 / 255, steps=1, step_size=1e-6, seed=5) for model in (own, native))
    assert torch.allclose(*start, atol=3e-6)


def test_a_diagnosis(states, tmp_path):
    _, model = tanh(states=states)
    x = images(6)
    y = model(x).argmax(1)
    diagnosis = eq.diagnose(model, x, y, sections="residual,alignment,spectrum,gallery", dataset="noise")
    assert diagnosis["residual"]["views"] and diagnosis["spectrum"]["dim"] == 4 * 36
    assert diagnosis["gallery"] is not None and "relative residual" in str(diagnosis)
    result = eq.evaluate(model, x, y, eps=2 / 255, attacks="pgd-2", gradients="through-solver", checks=None)
    page = eq.report([result, diagnosis], tmp_path / "page.html", title="Both").read_text()
    assert "<title>Both</title>" in page and "spectral radius" in page.lower()
    with pytest.raises(ValueError, match="no records"):
        eq.report([], tmp_path / "page.html")
    with pytest.raises(ValueError, match="unknown section `spectra`"):
        eq.diagnose(model, x, y, sections="spectra")


def test_a_training_loop_of_ones_own():
    """Adversarial training through the true gradient: parameters are torch's, the attack is ours."""
    net, model = tanh(solver=eq.Picard(8))
    x = images(16)
    y = (x.mean((1, 2, 3)) > 0.5).long()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for step in range(15):
        x_adv = eq.adversary(model, x, y, eps=2 / 255, steps=2, gradient="through-solver", seed=step)
        assert (x_adv - x).abs().max() <= 2 / 255 + 1e-6 and not x_adv.requires_grad
        loss = F.cross_entropy(net.unrolled(x_adv, 8), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert not torch.equal(
        eq.adversary(model, x, y, eps=2 / 255, steps=1, seed=1), eq.adversary(model, x, y, eps=2 / 255, steps=1, seed=2)
    )
    alone = eq.adversary(model, x[3:4], y[3:4], eps=2 / 255, steps=1, seed=1, indices=[3])
    assert torch.allclose(alone, eq.adversary(model, x, y, eps=2 / 255, steps=1, seed=1)[3:4], atol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(state=(4, 6, 6), f=lambda z, u: u[:, :2]), "f returned \\[3, 2, 6, 6\\] and must return"),
        (dict(state=[(4, 6, 6), 4], f=lambda z, u: [u, u]), "f returned tensors of shapes"),
        (dict(state=0), "state 0: give a number, a shape"),
        (dict(solver="broyden"), "'broyden' is no solver: give a Broyden"),
        (dict(solver=eq.Broyden(0)), "steps must be at least 1"),
        (dict(readout="early(9)"), "early\\(9\\)"),
        (dict(training_gradient="exactly"), "exactly"),
        (dict(head=lambda z: z), "head must return logits \\[N, K\\]"),
        (dict(head=lambda z: (z, z)), "wrap it"),
        (dict(stem=lambda x: x.mean()), "its rows must be theirs"),
        (dict(f=lambda z, u: z[:1]), "and must return \\[3, 4, 6, 6\\], like z"),
        (dict(f=lambda z, u: z + torch.randn_like(z)), "it is randomised"),
        (dict(f=3), "f must be callable"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    net = Tanh().eval()
    parts = {"stem": net.stem, "f": net.f, "head": net.head, "state": (4, 6, 6), **change}
    stem, f, head = (parts.pop(name) for name in ["stem", "f", "head"])
    with pytest.raises((ValueError, RuntimeError), match=message):
        eq.Deq(stem, f, head, **parts)(images(3))


def test_arguments_that_do_not_fit_are_refused():
    net, model = tanh()
    x = images(3)
    y = torch.zeros(3, dtype=torch.long)
    for arguments, message in [
        (dict(readouts="early(99)"), "early\\(99\\)"),
        (dict(gradients="through-solve"), "through-solve"),
        (dict(gradients="adjoint:state=99"), "8 steps"),
        (dict(attacks=["pgd-2", object()]), "is no attack"),
        (dict(attacks=[]), "no attacks"),
        (dict(eps=[]), "empty list"),
        (dict(time_limit="soon"), "time_limit 'soon'"),
        (dict(class_names=["a"]), "class_names has 1 names"),
    ]:
        with pytest.raises(ValueError, match=message):
            eq.evaluate(model, x, y, **{"attacks": "pgd-2", **arguments})
    for call in [eq.evaluate, eq.diagnose, eq.adversary, lambda *given, **more: eq.certify(*given, sigma=0.1, **more)]:
        with pytest.raises(ValueError, match="2 indices for 3 images: give one for each"):
            call(model, x, y, indices=[0, 1])
    with pytest.raises(ValueError, match="image 0 has the label 7, and the model has 5 classes"):
        eq.evaluate(model, x, y + 7, attacks="pgd-2")
    with pytest.raises(ValueError, match="readouts: the model is a callable"):
        eq.evaluate(lambda x: net.unrolled(x, 4), x, y, attacks="pgd-2", readouts="final")
    with pytest.raises(ValueError, match="use equipoise.evaluate\\(model, x, y, attacks='autoattack'\\)"):
        eq.AutoAttack(model, eps=2 / 255, verbose=False).run_standard_evaluation(x, y)

    class Output(dict):
        logits = torch.zeros(3, 5)

    with pytest.raises(ValueError, match="lambda x: model\\(x\\).logits"):
        eq.evaluate(lambda x: Output(), x, y, attacks="pgd-2")
    with pytest.raises(ValueError, match="takes images of shape \\[3, 32, 32\\]"):
        eq.load(SMALL)(x)
    with pytest.raises(ValueError, match="no such|cannot read|No such"):
        eq.load("nothing.safetensors")


def test_training_mode_is_said():
    net, model = tanh()
    net.train()
    with pytest.warns(UserWarning, match="training mode"):
        model(images(2))


def test_a_detached_cell_is_found_out():
    net = Tanh().eval()
    model = eq.Deq(net.stem, lambda z, u: net.f(z, u).detach(), net.head, state=(4, 6, 6))
    x = images(2)
    with pytest.raises(RuntimeError, match="f's value does not depend on its inputs as far as autograd sees"):
        model.gradient(x, model(x).argmax(1))


class Failing:
    """A cell that fails at its so-manieth call."""

    def __init__(self, net, at):
        self.net, self.at, self.calls = net, at, 0

    def __call__(self, z, u):
        self.calls += 1
        if self.calls == self.at:
            raise MemoryError("no more")
        return self.net.f(z, u)


@pytest.mark.parametrize("at", [3, 40, 90, 150, 400, 700])
def test_an_error_of_the_cell_is_the_users_and_leaves_nothing_wrong_behind(states, at, tmp_path):
    net = Tanh().eval()
    x = images(8)
    settings = dict(eps=4 / 255, attacks="pgd-2", gradients="through-solver", checks=4, batch_size=4)
    whole = eq.Deq(net.stem, net.f, net.head, state=(4, 6, 6), module=net, solver=eq.Picard(6, tolerance=0), states=states)
    y = whole(x).argmax(1)
    expected = eq.evaluate(whole, x, y, **settings)
    cell = Failing(net, at)
    model = eq.Deq(net.stem, cell, net.head, state=(4, 6, 6), module=net, solver=eq.Picard(6, tolerance=0), states=states)
    try:
        eq.evaluate(model, x, y, out=tmp_path / "run", **settings)
        assert cell.calls < at
    except MemoryError as error:
        assert str(error) == "no more"
    result = eq.evaluate(whole, x, y, out=tmp_path / "run", **settings)
    assert torch.equal(result.adversarial(), expected.adversarial())
    clocks = ("seconds",)

    def timeless(tree):
        if isinstance(tree, dict):
            return {key: timeless(value) for key, value in tree.items() if key not in clocks and key != "configuration"}
        return [timeless(value) for value in tree] if isinstance(tree, list) else tree

    assert timeless(result.record) == timeless(expected.record)


def test_ctrl_c_ends_a_long_assessment_at_once():
    net, model = tanh(solver=eq.Picard(50, tolerance=0))
    x = images(64)
    y = model(x).argmax(1)
    sent = []

    def interrupt():
        sent.append(time.perf_counter())
        signal.raise_signal(signal.SIGINT)

    timer = threading.Timer(0.7, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        eq.evaluate(model, x, y, eps=1 / 255, attacks="pgd-10000")
    timer.join()


def test_certificates_of_a_vote_under_noise(tmp_path):
    """A linear classifier of two classes: the vote of x is the class of x, out to its distance from the plane."""
    torch.manual_seed(0)
    w = torch.randn(3 * 36)

    def linear(x):
        margin = x.flatten(1) @ w - w.sum() / 2
        return torch.stack([torch.zeros_like(margin), margin], dim=1)

    x = images(6)
    y = linear(x).argmax(1)
    truth = ((x.flatten(1) @ w - w.sum() / 2).abs() / w.norm()).numpy()
    found = eq.certify(linear, x, y, sigma=0.25, samples=2000, eps=[0, 0.05, 0.1])
    shown = ~np.isnan(found.radii)
    assert shown.any() and (found.radii[shown] <= truth[shown]).all() and (found.classes[shown] == y.numpy()[shown]).all()
    assert found.accuracy(0.05) == ((truth > 0.05) & shown & (np.nan_to_num(found.radii) >= 0.05)).mean()
    assert "l2 radius" in str(found) and found.report(tmp_path / "c.html").exists()
    again = eq.certify(linear, x[3:], y[3:], sigma=0.25, samples=2000, indices=[3, 4, 5], batch_size=100)
    assert np.array_equal(again.radii, found.radii[3:], equal_nan=True)
    # A model file whose solver stops on a whole batch: an image's draws would hang together.
    content = SMALL.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].replace(b'scope\\":\\"example', b'scope\\":\\"batch')
    (tmp_path / "batch.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    with pytest.raises(ValueError, match="ties an image's draws together"):
        eq.certify(eq.load(tmp_path / "batch.safetensors"), images(2, (3, 32, 32)), torch.tensor([0, 1]), sigma=0.1)
    _, model = tanh()
    labels = model(x).argmax(1)
    linf = eq.certify(model, x, labels, sigma=0.1, samples=200, norm="Linf", readout="early(2)")
    l2 = eq.certify(model, x, labels, sigma=0.1, samples=200, readout="early(2)")
    assert np.allclose(linf.radii * np.sqrt(3 * 36), l2.radii, equal_nan=True)
    for arguments, message in [(dict(sigma=0), "sigma: 0 must be above 0"), (dict(sigma=1, samples=3), "samples: 3 draws"),
                               (dict(sigma=1, norm="L1"), "use L2"), (dict(sigma=1, readout="final"), "one readout")]:
        with pytest.raises(ValueError, match=message):
            eq.certify(linear, x, y, **arguments)
