"""Certificates: by proof of model files, by fast votes of DEQs, and the smoothed classifier's own answers."""

import json

import equipoise as eq
import numpy as np
import pytest
import torch

from test_deq import SMALL, images, tanh

MONOTONE = {"kind": "monotone", "hidden": 16, "monotonicity": 8.0, "step": 0.08, "image": [1, 8, 8]}
PICARD = {"method": {"picard": {"damping": 1.0}}, "steps": 30, "tolerance": 1e-5}


def squares(count=80, classes=3):
    """Bright squares, whose place is their class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=count)
    pixels = rng.uniform(0, 0.4, size=(count, 1, 8, 8)).astype(np.float32)
    for image, label in zip(pixels, labels):
        image[0, 2 * label : 2 * label + 3, 2 * label : 2 * label + 3] += 0.6
    return pixels, labels


@pytest.fixture(scope="module")
def monotone(tmp_path_factory):
    x, y = squares()
    train = {"epochs": 6, "batch_size": 16, "development": 0, "optimizer": {"kind": "adam", "learning_rate": 0.01}}
    out = tmp_path_factory.mktemp("monotone")
    trained = eq.train(x, y, out, model=MONOTONE, deployment={"solver": PICARD, "backward": PICARD}, train=train)
    return trained.load(), torch.from_numpy(x[:8]), torch.from_numpy(y[:8])


def test_a_monotone_deq_is_certified_by_proof(monotone, tmp_path):
    model, x, y = monotone
    found = eq.certify(model, x, y, norm="Linf")
    assert [(bound.method, bound.network) for bound in found.bounds] == [
        (method, network) for method in eq.METHODS if any(b.method == method for b in found.bounds) for network in ("ideal", "deployed")
    ]
    assert {"lipschitz", "affine"} <= {bound.method for bound in found.bounds}
    answers = model(x).argmax(1).numpy()
    for method in {bound.method for bound in found.bounds}:
        ideal, deployed = found[method, "ideal"], found[method, "deployed"]
        shown = ~np.isnan(deployed.radii)
        assert shown.sum() > 4 and (deployed.radii[shown] <= ideal.radii[shown]).all()
        assert (deployed.classes[shown] == answers[shown]).all()
        assert deployed.certificate["confidence"] is None
        # Corners of the boxes that are proved, within [0, 1].
        generator = torch.Generator().manual_seed(1)
        radii = torch.from_numpy(np.nan_to_num(deployed.radii)).float()[:, None, None, None]
        for _ in range(200):
            moved = (x + 0.999999 * radii * torch.randn(x.shape, generator=generator).sign()).clamp(0, 1)
            assert (model(moved).argmax(1).numpy()[shown] == deployed.classes[shown]).all()
    with pytest.raises(ValueError, match="several bounds: choose one"):
        found.radii
    with pytest.raises(KeyError, match="2 bounds"):
        found["affine"]
    assert "affine, deployed: linf radius" in str(found) and found.report(tmp_path / "c.html").exists()
    one = eq.certify(model, x, y, method="affine", network="deployed", norm="Linf", eps=[0.01, 0.1], indices=range(10, 18))
    assert np.array_equal(one.radii, found["affine", "deployed"].radii, equal_nan=True)
    assert [radius["eps"] for radius in one.certificate["radii"]] == [0.01, 0.1] and one["deployed"] is one.bounds[0]
    assert one.accuracy(0.01) == ((one.classes == y.numpy()) & (np.nan_to_num(one.radii) >= 0.01)).mean()
    example = json.loads(one.to_json(tmp_path / "one.json"))["models"][0]["readouts"][0]["certificates"][0]["examples"][0]
    assert example["index"] == 10
    at = eq.certify(model, x, y, method="affine", network="deployed", norm="Linf", eps=[0.1, 0.01], at_eps=True, indices=range(10, 18))
    assert set(np.nan_to_num(at.radii)) <= {0, 0.01, 0.1}
    assert [at.accuracy(eps) for eps in (0.01, 0.1)] == [one.accuracy(eps) for eps in (0.01, 0.1)]


def test_the_ideal_network_alone_is_certified_where_nothing_is_known_of_the_deployed_one(monotone):
    model, x, y = monotone
    with pytest.warns(UserWarning, match="the ideal network, not the deployed one: readout early\\(2\\)"):
        found = eq.certify(model, x, y, method="lipschitz", readout="early(2)")
    assert [bound.network for bound in found.bounds] == ["ideal"] and len(found.notes) == 1
    with pytest.raises(ValueError, match="network deployed: readout early\\(2\\)"):
        eq.certify(model, x, y, method="lipschitz", network="deployed", readout="early(2)")


def test_what_is_not_proved_is_refused(monotone):
    model, x, y = monotone
    for arguments, message in [
        (dict(method="sdp"), "unknown method `sdp`.*or smoothing"),
        (dict(method="boxes"), "boxes: in l2 they show next to nothing; use linf"),
        (dict(method="affine", sigma=0.1), "they belong to smoothing"),
        (dict(serialized=1), "they belong to smoothing"),
        (dict(method=["smoothing", "affine"], sigma=0.1), "smoothing stands alone"),
        (dict(method="smoothing"), "0.25 is usual"),
        (dict(sigma=0.1, network="ideal"), "the vote over all noise"),
        (dict(network="other"), "use ideal or deployed"),
        (dict(norm="L1"), "use L2"),
        (dict(at_eps=True), "the radii are missing"),
        (dict(sigma=0.1, at_eps=True, eps=[0.1]), "finds its radius at once"),
    ]:
        with pytest.raises(ValueError, match=message):
            eq.certify(model, x, y, **arguments)
    with pytest.raises(ValueError, match="only a monotone DEQ"):
        eq.certify(eq.load(SMALL), images(2, (3, 32, 32)), torch.tensor([0, 1]))
    _, deq = tanh()
    with pytest.raises(ValueError, match="only a monotone DEQ of a model file"):
        eq.certify(deq, images(2), torch.tensor([0, 1]))


@pytest.mark.parametrize("states", ["memory", "model"])
def test_fast_votes_are_checked(states):
    _, model = tanh(solver=eq.Broyden(8, tolerance=0.0), states=states)
    x = images(3)
    y = model(x).argmax(1)
    settings = dict(sigma=0.1, samples=300, selection=20, serialized=1, chains=32, checks=150)
    found = eq.certify(model, x, y, **settings)
    votes = found.certificate["confidence"]["serialized"]
    assert found.certificate["method"] == "serialized-smoothing" and votes["steps"] == 1 and votes["checks"] == 150
    assert 0 < votes["confirmed"] <= votes["checked"] <= 3 * 150 and not np.isnan(found.radii).all()
    plain = eq.certify(model, x, y, **{**settings, "serialized": None})
    assert (np.nan_to_num(found.radii) < np.nan_to_num(plain.radii)).any()
    assert found.certificate["cell_evaluations"] < 0.8 * plain.certificate["cell_evaluations"]


def test_fast_votes_of_what_has_none_are_refused():
    _, model = tanh()
    x = images(2)
    y = model(x).argmax(1)
    for asked, arguments, message in [
        (model, dict(readout="early(2)"), "serialized: only a DEQ behind the readout `final`"),
        (model, dict(serialized=8), "serialized: 8 solver steps are not fast"),
        (model, dict(checks=201), "checks: 201 of 200 draws"),
        (lambda x: model(x), {}, "serialized: only a DEQ"),
    ]:
        with pytest.raises(ValueError, match=message):
            eq.certify(asked, x, y, **{"sigma": 0.1, "samples": 200, "serialized": 1, "checks": 100, **arguments})


def test_the_smoothed_classifier_answers_or_abstains():
    """A linear classifier of two classes: far from the plane its vote is its class, and on the plane there is none."""
    torch.manual_seed(0)
    w = torch.randn(3 * 36)

    def linear(x):
        margin = x.flatten(1) @ w - w.sum() / 2
        return torch.stack([torch.zeros_like(margin), margin], dim=1)

    x = images(6)
    even = torch.full_like(x[:1], 0.5)
    truth = ((x.flatten(1) @ w - w.sum() / 2).abs() / w.norm()).numpy()
    found = eq.predict(linear, torch.cat([x, even]), sigma=0.25, samples=400)
    answered = found[:6] >= 0
    assert found.dtype == np.int64 and found[6] == -1 and answered[truth > 0.1].all()
    assert (found[:6][answered] == linear(x).argmax(1).numpy()[answered]).all()
    assert np.array_equal(eq.predict(linear, x[3:], sigma=0.25, samples=400, indices=[3, 4, 5], batch_size=30), found[3:6])
    _, model = tanh()
    assert eq.predict(model, x, sigma=0.05, samples=50, readout="early(2)").shape == (6,)
    with pytest.raises(ValueError, match="samples: 3 draws"):
        eq.predict(linear, x, sigma=0.25, samples=3)
