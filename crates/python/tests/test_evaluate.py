"""`equipoise.evaluate`: results, verdicts, attacks written in Python, bad input."""

import json
import subprocess
import sys
import threading

import equipoise
import numpy as np
import pytest
import torch
from conftest import Counting, Linear, distances, points

EPS = 0.03


class Fgsm:
    """The sign of the gradient, once."""

    name = "fgsm"

    def attempt(self, model, batch):
        loss = lambda logits: torch.nn.functional.cross_entropy(logits, batch.labels, reduction="none")
        return batch.images + batch.eps * model.gradient(batch.images, loss).sign()


def test_the_battery_and_its_result(network):
    model, x, y = network
    result = equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-5,apgd-ce-5,fab-t-4,square-30", dataset="noise")
    assert [run["name"] for run in result.attacks] == ["pgd-5", "apgd-ce-5", "fab-t-4", "square-30"]
    assert [run["estimator"] for run in result.attacks] == ["autograd"] * 3 + ["none"]
    low, high = result.robust_interval
    assert low < result.robust_accuracy < high and result.clean_accuracy == 0.9
    with torch.no_grad():
        found = model(result.adversarial()).argmax(1)
    broken = torch.tensor([example["broken_by"] is not None for example in result.examples])
    assert (found[broken] != y[broken]).all() and torch.equal(result.adversarial()[~broken], x[~broken])
    assert distances(x, result.adversarial(), "Linf").max() <= EPS + 1e-6
    assert np.array_equal(result.predictions()[broken], found[broken])
    assert "clean" in str(result) and "pgd-5" in str(result)


def test_a_network_with_one_gradient_is_told_what_gradient_free_attacks_broke(linear):
    model, x, y = linear
    verdict = equipoise.evaluate(model, x, y, eps=EPS, attacks="apgd-ce-5,square-50").verdict
    assert verdict.finding == "no-control" and "one gradient only" in verdict.sentence
    assert "attacks without gradients broke" in verdict.sentence

    class Rounds(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return (x * 8).round() / 8

        @staticmethod
        def backward(ctx, gradient):
            return torch.zeros_like(gradient)

    masked = lambda images: model(Rounds.apply(images))
    x, y = points(masked, 20, 0)
    result = equipoise.evaluate(masked, x, y, eps=0.1, attacks="apgd-ce-5,square-50")
    assert result.attacks[0]["broken"] < result.attacks[1]["broken"]
    assert result.verdict.gradient_free_only == result.attacks[1]["broken"] > 5


def test_what_the_battery_leaves_out_is_said():
    model = Linear(classes=3).eval()
    x, y = points(model, 6, 0)
    result = equipoise.evaluate(model, x, y, eps=1e-4)
    assert [entry["attack"] for entry in result.not_tried] == ["apgd-t"]
    assert "4 classes" in result.not_tried[0]["reason"]
    with pytest.raises(ValueError, match="apgd-t needs at least 4 classes"):
        equipoise.evaluate(model, x, y, eps=0.1, attacks="apgd-t")


def test_results_in_other_shapes(linear, tmp_path):
    model, x, y = linear
    result = equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-3,square-20", name="<linear>", class_names="abcde")
    record = json.loads(result.to_json(tmp_path / "results.json"))
    assert record == result.record == json.loads((tmp_path / "results.json").read_text())
    assert record["models"][0]["model"] == "<linear>" and record["models"][0]["classes"] == list("abcde")
    assert record["models"][0]["configuration"]["torch"] == torch.__version__
    page = result.report(tmp_path / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "&lt;linear&gt;" in page
    assert "pgd-3" in result.report(tmp_path / "report.md").read_text()
    with pytest.raises(ValueError, match="docx"):
        result.report(tmp_path / "report.docx")
    fragment = result._repr_html_()
    assert "&lt;linear&gt;" in fragment and "<linear>" not in fragment and "pgd-3" in fragment


def test_a_data_frame(linear):
    pytest.importorskip("pandas")
    model, x, y = linear
    frame = equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-3").to_pandas()
    assert len(frame) == 20 and frame["clean_correct"].sum() == 18
    assert (frame["broken_by"].dropna() == "pgd-3").all()
    assert ((frame["broken_by"].isna() & frame["clean_correct"]) == frame["robust"]).all()


def test_an_attack_in_python(linear):
    model, x, y = linear
    result = equipoise.evaluate(model, x, y, eps=EPS, attacks=[Fgsm(), "square-10"])
    images = x.clone().requires_grad_(True)
    torch.nn.functional.cross_entropy(model(images), y, reduction="sum").backward()
    expected = (x + EPS * images.grad.sign()).clamp(0, 1)
    with torch.no_grad():
        broken = (model(expected).argmax(1) != y) & (model(x).argmax(1) == y)
    assert result.attacks[0]["name"] == "fgsm" and result.attacks[0]["broken"] == broken.sum() > 2
    assert result.attacks[1]["attempted"] == 18 - broken.sum(), "the others meet what stands"


def test_candidates_are_projected_and_judged(linear):
    model, x, y = linear

    class Far:
        gradient_free = True

        def attempt(self, model, batch):
            assert not model.logits(batch.images).requires_grad
            assert batch.norm == "L2" and batch.eps == 0.25 and len(batch.labels) == len(batch.indices)
            noise = [torch.from_numpy(batch.rng(row).normal(size=x.shape[1:])) for row in range(len(batch.images))]
            return batch.images + 100 * torch.stack(noise).float()

    run = lambda bs: equipoise.evaluate(model, x, y, norm="L2", eps=0.25, attacks=["pgd-1", Far()], batch_size=bs)
    result = run(64)
    assert result.attacks[1]["name"] == "Far" and result.attacks[1]["arm"] == "gradient-free"
    assert distances(x, result.adversarial(), "L2").max() <= 0.25 + 1e-6
    assert torch.equal(run(3).adversarial(), result.adversarial())

    class Nan:
        def attempt(self, model, batch):
            return batch.images * float("nan")

    nothing = equipoise.evaluate(model, x, y, eps=EPS, attacks=[Nan()])
    assert nothing.robust_accuracy == 0.9


def test_attacks_that_are_none(linear):
    model, x, y = linear

    class Short:
        def attempt(self, model, batch):
            return batch.images[:1]

    class Listed:
        name = "listed"

        def attempt(self, model, batch):
            return [0.0]

    with pytest.raises(ValueError, match=r"Short: attempt must return a tensor of shape \[18, 3, 6, 6\]"):
        equipoise.evaluate(model, x, y, eps=EPS, attacks=[Short()])
    with pytest.raises(ValueError, match="listed: .*returned list"):
        equipoise.evaluate(model, x, y, eps=EPS, attacks=[Listed()])
    for bad in (object(), Short, 3):
        with pytest.raises(ValueError, match="is no attack"):
            equipoise.evaluate(model, x, y, eps=EPS, attacks=[bad])
    with pytest.raises(ValueError, match="unknown attack `pdg-10`"):
        equipoise.evaluate(model, x, y, eps=EPS, attacks="pdg-10")
    with pytest.raises(ValueError, match="no attacks"):
        equipoise.evaluate(model, x, y, eps=EPS, attacks=[])


BAD_POINTS = [
    (lambda x, y: (x[0], y), r"x must be images \[N, C, H, W\]"),
    (lambda x, y: (x[:0], y[:0]), "at least one"),
    (lambda x, y: ((x * 255).byte(), y), "divide by 255"),
    (lambda x, y: (x.half(), y), "float32 and round within the model"),
    (lambda x, y: (x * 2, y), r"scale images to \[0, 1\]"),
    (lambda x, y: (x * float("nan"), y), "intensity NaN"),
    (lambda x, y: (x, y[:3]), "one class number for each of the 20 images"),
    (lambda x, y: (x, y.float()), "one class number"),
    (lambda x, y: (x, torch.nn.functional.one_hot(y)), "one class number"),
    (lambda x, y: (x, -1 - y), "numbered from 0"),
    (lambda x, y: (x, y + 1), "has label 5, but the model has 5 classes"),
]


@pytest.mark.parametrize("change, message", BAD_POINTS)
def test_points_that_are_none(linear, change, message):
    model, x, y = linear
    x, y = change(x, y)
    with pytest.raises(ValueError, match=message):
        equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-1")
    with pytest.raises(ValueError, match=message):
        equipoise.AutoAttack(model, eps=EPS, verbose=False).run_standard_evaluation(x, y)


BAD_MODELS = [
    (lambda model: 3, ValueError, "must be callable"),
    (lambda model: lambda x: (model(x), 0), ValueError, r"returned a tuple: wrap it, as in `lambda x: model\(x\)\[0\]`"),
    (lambda model: lambda x: model(x)[0], ValueError, r"must return logits \[N, K\]"),
    (lambda model: lambda x: model(x).argmax(1, keepdim=True), ValueError, "int64"),
    (lambda model: lambda x: model(x)[:, :1], ValueError, "single logit"),
    (lambda model: lambda x: model(x)[:3], ValueError, "one row per image"),
    (lambda model: lambda x: model(x).detach(), RuntimeError, "TorchDEQ"),
    (lambda model: lambda x: torch.zeros(len(x), 5, requires_grad=True) + model(x).detach(), RuntimeError, "detaches"),
]


@pytest.mark.parametrize("change, error, message", BAD_MODELS)
def test_models_that_are_none(linear, change, error, message):
    model, x, y = linear
    with pytest.raises(error, match=message):
        equipoise.evaluate(change(model), x, y, eps=0.1, attacks="pgd-2")


def test_a_model_without_a_gradient_can_still_be_attacked(linear):
    model, x, y = linear
    result = equipoise.evaluate(lambda x: model(x).detach(), x, y, eps=0.1, attacks="square-30")
    assert result.robust_accuracy < 0.9


def test_budgets_that_are_hardly_meant(linear):
    model, x, y = linear
    with pytest.raises(ValueError, match="did you mean 8/255"):
        equipoise.evaluate(model, x, y, eps=8, attacks="pgd-1")
    with pytest.raises(ValueError, match="give eps too"):
        equipoise.evaluate(model, x, y, norm="L2", attacks="pgd-1")
    with pytest.raises(ValueError, match="unknown norm"):
        equipoise.evaluate(model, x, y, norm="L0", eps=1, attacks="pgd-1")
    with pytest.raises(ValueError, match="not negative"):
        equipoise.evaluate(model, x, y, eps=-0.1, attacks="pgd-1")
    with pytest.warns(UserWarning, match="eps 0"):
        equipoise.evaluate(model, x, y, eps=0, attacks="pgd-1")
    for setting in ({"seed": -1}, {"seed": 1.5}, {"batch_size": 0}, {"time_limit": 0}, {"indices": [1]}):
        with pytest.raises(ValueError):
            equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-1", **setting)
    with pytest.raises(ValueError, match="given twice"):
        equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-1", indices=[0] * 20)


def test_what_looks_wrong_is_said(network):
    model, x, y = network
    model.train()
    with pytest.warns(UserWarning, match="training mode"):
        equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-1")
    assert model.training
    model.eval()
    with pytest.warns(UserWarning, match="probabilities"):
        equipoise.evaluate(lambda x: model(x).softmax(1), x, y, eps=EPS, attacks="pgd-1")
    generator = torch.Generator().manual_seed(0)
    with pytest.warns(UserWarning, match="randomised"):
        noisy = lambda x: model(x + 0.1 * torch.randn(x.shape, generator=generator))
        equipoise.evaluate(noisy, x, y, eps=EPS, attacks="pgd-1")


def test_a_part_gives_what_the_whole_would(linear):
    model, x, y = linear
    whole = equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-2x2,square-20", seed=4)
    part = equipoise.evaluate(model, x[8:14], y[8:14], eps=EPS, attacks="pgd-2x2,square-20", seed=4, indices=range(8, 14))
    assert torch.equal(part.adversarial(), whole.adversarial()[8:14])
    assert part.examples == whole.examples[8:14]


def test_arrays_and_folders(linear, tmp_path):
    model, x, y = linear
    out = tmp_path / "run"
    first = equipoise.evaluate(model, x.numpy(), y.numpy(), eps=EPS, attacks="pgd-3", out=out)
    assert {"journal", "results.json", "report.html"} <= {path.name for path in out.iterdir()}
    again = equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-3", out=out)
    assert torch.equal(first.adversarial(), again.adversarial()) and first.record == again.record
    with pytest.raises(ValueError, match="another run"):
        equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-4", out=out)


def test_a_time_limit_ends_it(linear):
    model, x, y = linear
    result = equipoise.evaluate(model, x, y, eps=1e-6, attacks="pgd-3,square-100000", time_limit=1.0)
    assert "time limit" in result.not_tried[0]["reason"]


def test_progress(linear, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    model, x, y = linear
    equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-3", verbose=True)
    shown = capsys.readouterr().err
    assert "clean" in shown and "pgd-3" in shown and "20/20" in shown


def test_progress_without_tqdm(linear, monkeypatch):
    model, x, y = linear
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-3", verbose=True)


def test_threads_and_runs_within_runs(linear):
    model, x, y = linear
    expected = equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-3").adversarial()
    found = []
    thread = threading.Thread(
        target=lambda: found.append(equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-3").adversarial())
    )
    thread.start()
    thread.join()
    assert torch.equal(found[0], expected)

    class Within:
        def attempt(self, _, batch):
            return equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-3").adversarial()[: len(batch.images)]

    equipoise.evaluate(model, x, y, eps=EPS, attacks=[Within()])


NUMBER_OF_THREADS = """
import equipoise, sys, torch
torch.set_num_threads(1)
equipoise.set_num_threads(int(sys.argv[1]))
assert equipoise.get_num_threads() == int(sys.argv[1])
weight = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
model = lambda x: torch.stack([(weight * image).double().sum((1, 2, 3)) for image in x]).float()
x = torch.rand(6, 3, 6, 6, generator=torch.Generator().manual_seed(1))
result = equipoise.evaluate(model, x, model(x).argmax(1), eps=0.2, attacks="pgd-3,square-20", seed=1)
print([example["broken_by"] for example in result.examples], result.adversarial().sum().item())
"""


def test_the_number_of_threads_changes_nothing_else():
    run = lambda threads: subprocess.run(
        [sys.executable, "-c", NUMBER_OF_THREADS, str(threads)], capture_output=True, text=True, check=True
    ).stdout
    one = run(1)
    assert one == run(3) and "pgd-3" in one
    with pytest.raises(ValueError, match="at least 1"):
        equipoise.set_num_threads(0)


def test_settings_of_the_thread_hold_within_the_model(linear):
    model, x, y = linear
    main, seen = threading.get_ident(), set()

    def watched(images):
        seen.add((threading.get_ident(), torch.is_autocast_enabled()))
        return model(images)

    equipoise.evaluate(watched, x, y, eps=EPS, attacks="pgd-2")
    assert seen == {(main, False)}
    with torch.inference_mode():
        inference = equipoise.evaluate(model, x, y, eps=EPS, attacks="pgd-2")
    assert inference.robust_accuracy < 0.9


def test_counting(linear):
    model, x, y = linear
    counting = Counting(model)
    equipoise.evaluate(counting, x, y, eps=1e-6, attacks="pgd-4x2")
    assert counting.gradients == 8
