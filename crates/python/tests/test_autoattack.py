"""AutoAttack in the place of the reference implementation."""

import re
import sys

import equipoise
import numpy as np
import pytest
import torch
from conftest import Counting, distances, points
from equipoise import AutoAttack
from equipoise.autoattack.state import EvaluationState
from mdeq import MODELS

EPS = {"Linf": 0.03, "L2": 0.15, "L1": 1.5}


def short(model, norm="Linf", eps=None, **options):
    """The standard version, but short."""
    attack = AutoAttack(model, norm=norm, eps=EPS[norm] if eps is None else eps, seed=0, **options)
    attack.apgd.n_iter = attack.apgd_targeted.n_iter = 8
    attack.fab.n_iter = 6
    attack.fab.n_target_classes = attack.apgd_targeted.n_target_classes = 3
    attack.square.n_queries = 40
    return attack


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_what_is_counted_is_what_the_images_do(network, norm):
    model, x, y = network
    attack = short(model, norm, verbose=False)
    before = x.clone()
    x_adv, y_adv = attack.run_standard_evaluation(x, y, bs=7, return_labels=True)
    assert torch.equal(x, before)
    assert x_adv.dtype == x.dtype and x_adv.device == x.device and x_adv.shape == x.shape
    assert distances(x, x_adv, norm).max() <= EPS[norm] + 1e-6
    assert 0 <= x_adv.min() and x_adv.max() <= 1
    with torch.no_grad():
        clean, found = model(x).argmax(1), model(x_adv).argmax(1)
    assert torch.equal(y_adv, found) and y_adv.dtype == y.dtype
    result = attack.result
    robust = torch.tensor([example["robust"] for example in result.examples])
    assert torch.equal(robust, (clean == y) & (found == y))
    broken = (clean == y) & ~robust
    assert 2 < broken.sum() < 16, "otherwise nothing is shown"
    assert torch.equal(x_adv[~broken], x[~broken])
    assert result.clean_accuracy == 0.9 and result.robust_accuracy == pytest.approx(robust.double().mean().item())
    assert attack.clean_accuracy(x_adv, y) == pytest.approx(result.robust_accuracy)


def test_the_log_is_worded_as_the_reference_words_it(network, tmp_path, capsys):
    model, x, y = network
    attack = short(model, log_path=tmp_path / "log.txt")
    attack.run_standard_evaluation(x, y, bs=10)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert capsys.readouterr().out.splitlines() == ["setting parameters for standard version", *lines]
    assert lines[:2] == ["using standard version including apgd-ce, apgd-t, fab-t, square.", "initial accuracy: 90.00%"]
    assert re.fullmatch(r"apgd-ce - 1/2 - \d+ out of 10 successfully perturbed", lines[2])
    assert re.fullmatch(r"apgd-ce - 2/2 - \d+ out of 8 successfully perturbed", lines[3])
    assert re.fullmatch(r"robust accuracy after APGD-CE: \d+\.\d\d% \(total time \d+\.\d s\)", lines[4])
    after = [re.match(r"robust accuracy after ([A-Z-]+): ([\d.]+)%", line) for line in lines]
    after = {match[1]: float(match[2]) for match in after if match}
    assert list(after) == ["APGD-CE", "APGD-T", "FAB-T", "SQUARE"]
    for run in attack.result.attacks:
        name = re.sub(r"-\d.*", "", run["name"]).upper()
        assert after[name] == pytest.approx(100 * run["accuracy"], abs=0.006)
    fell = sum(int(re.search(r"- (\d+) out of", line)[1]) for line in lines if "out of" in line)
    assert fell == 18 - round(20 * attack.result.robust_accuracy)
    number = r"-?\d+\.\d{5}"
    assert re.fullmatch(rf"max Linf perturbation: {number}, nan in tensor: 0, max: {number}, min: {number}", lines[-2])
    assert lines[-1] == f"robust accuracy: {attack.result.robust_accuracy:.2%}"


def test_nothing_is_said_unless_asked(network, capsys):
    model, x, y = network
    short(model, verbose=False).run_standard_evaluation(x, y)
    assert capsys.readouterr().out == ""


def test_the_model_is_left_as_it_was(network):
    model, x, y = network
    first, *others = model.parameters()
    first.requires_grad_(False)
    others[0].grad = torch.full_like(others[0], 7.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    required = [p.requires_grad for p in model.parameters()]
    short(model, verbose=False).run_standard_evaluation(x, y)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == required
    for parameter, grad in zip(model.parameters(), grads):
        assert parameter.grad is None if grad is None else torch.equal(parameter.grad, grad)
    assert not model.training and not x.requires_grad


def test_results_do_not_depend_on_the_batch(linear):
    model, x, y = linear
    reference = short(model, verbose=False)
    expected = reference.run_standard_evaluation(x, y, bs=250)
    assert 0.2 < reference.result.robust_accuracy < 0.8, "otherwise nothing is shown"
    for bs in (1, 3, 20):
        assert torch.equal(short(model, verbose=False).run_standard_evaluation(x, y, bs=bs), expected)


def test_seeds(linear):
    model, x, y = linear
    fresh = [AutoAttack(model, eps=0.03, verbose=False, version="custom", attacks_to_run=["apgd-ce"]) for _ in range(2)]
    for attack in fresh:
        attack.apgd.n_iter = 2
        attack.run_standard_evaluation(x, y)
    assert fresh[0].result.seed != fresh[1].result.seed and fresh[0].seed is None
    fresh[1].seed = fresh[0].result.seed
    again = fresh[1].run_standard_evaluation(x, y)
    assert torch.equal(again, fresh[0].result.adversarial())


def custom(model, *names, eps=1e-6, norm="Linf"):
    return AutoAttack(
        model, norm=norm, eps=eps, seed=0, verbose=False, version="custom", attacks_to_run=list(names)
    )


@pytest.mark.parametrize(
    "name, part, settings, gradients",
    [
        ("apgd-ce", "apgd", {"n_iter": 7, "n_restarts": 2}, 14),
        ("apgd-dlr", "apgd", {"n_iter": 5, "n_restarts": 1}, 5),
        ("apgd-t", "apgd_targeted", {"n_iter": 4, "n_target_classes": 3}, 12),
        ("apgd-t", "apgd_targeted", {"n_iter": 4, "n_target_classes": 2, "n_restarts": 2}, 16),
        ("fab-t", "fab", {"n_iter": 5, "n_target_classes": 2}, 10),
        ("fab", "fab", {"n_iter": 3, "n_restarts": 2}, 6 * 4),
        ("square", "square", {"n_queries": 11}, 0),
    ],
)
def test_settings_are_honoured(linear, name, part, settings, gradients):
    model, x, y = linear
    counting = Counting(model)
    attack = custom(counting, name)
    for setting, value in settings.items():
        setattr(getattr(attack, part), setting, value)
    attack.run_standard_evaluation(x, y)
    assert attack.result.robust_accuracy == 0.9, "nothing breaks, so that all is asked"
    assert counting.gradients == gradients
    if name == "square":
        counts = []
        for queries in (11, 31):
            counting.forwards = 0
            attack.square.n_queries = queries
            attack.run_standard_evaluation(x, y)
            counts.append(counting.forwards)
        assert counts[1] - counts[0] == 20


def test_attacks_and_radius_can_be_changed(linear):
    model, x, y = linear
    attack = short(model, verbose=False)
    attack.attacks_to_run = ["apgd-ce"]
    attack.epsilon = 0.0625
    x_adv = attack.run_standard_evaluation(x, y)
    assert [run["name"] for run in attack.result.attacks] == ["apgd-ce-8"]
    assert distances(x, x_adv, "Linf").max() == pytest.approx(0.0625)


def test_versions(linear):
    model = linear[0]
    attack = AutoAttack(model, eps=0.1, verbose=False)
    assert attack.attacks_to_run == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert (attack.apgd.n_restarts, attack.fab.n_restarts, attack.square.n_queries) == (1, 1, 5000)
    attack.set_version("plus")
    assert attack.attacks_to_run == ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]
    assert (attack.apgd.n_restarts, attack.fab.n_restarts, attack.apgd_targeted.n_target_classes) == (5, 5, 9)


def test_what_there_is_not_is_refused_by_name(linear):
    model, x, y = linear
    with pytest.raises(ValueError, match="TensorFlow"):
        AutoAttack(model, is_tf_model=True)
    with pytest.raises(ValueError, match="version is 'fast'"):
        AutoAttack(model, version="fast")
    with pytest.raises(ValueError, match="norm is 'linf'"):
        AutoAttack(model, norm="linf")
    with pytest.raises(ValueError, match="did you mean 8/255"):
        AutoAttack(model, eps=8)
    with pytest.raises(ValueError, match="version='custom'"):
        AutoAttack(model, attacks_to_run=["square"])
    attack = custom(model, "apgd-ce")
    with pytest.raises(AttributeError, match="n_iter"):
        attack.apgd.n_iters = 3
    attack = custom(model, "apgd-ce", "apgd-t")
    attack.apgd.eot_iter = 20
    with pytest.raises(ValueError, match="eot_iter is 20 of apgd and 1 of apgd_targeted"):
        attack.run_standard_evaluation(x, y)
    attack.apgd.eot_iter = attack.apgd_targeted.eot_iter = 0
    with pytest.raises(ValueError, match="draws 0: give a whole number from 1"):
        attack.run_standard_evaluation(x, y)
    attack = custom(model, "square")
    attack.square.resc_schedule = True
    with pytest.raises(ValueError, match="resc_schedule"):
        attack.run_standard_evaluation(x, y)
    for names in (["pgd"], [], ["square", "square"]):
        with pytest.raises(ValueError, match="attacks_to_run"):
            custom(model, *names).run_standard_evaluation(x, y)


def test_a_randomised_model_is_attacked_through_the_mean_of_its_draws(capsys):
    """Noise as large as the gradient: single draws lead nowhere, their mean does."""
    torch.manual_seed(3)
    w = torch.randn(3, 3 * 36)
    calls = []

    def model(x):
        calls.append(len(x))
        # The way back is noise about the true gradient, from draw to draw: what a stochastic defence does to an attack.
        noisy = w + 6 * torch.randn_like(w)
        flat = x.flatten(1) - 0.5
        return flat.detach() @ w.T + (flat - flat.detach()) @ noisy.T

    x = torch.rand(60, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(1)
    top = ((x.flatten(1) - 0.5) @ w.T).topk(2).values
    eps = 4 * float((top[:, 0] - top[:, 1]).median() / (w[0] - w[1]).abs().sum())

    def left(draws):
        torch.manual_seed(0)
        return equipoise.evaluate(model, x, y, eps=eps, attacks="pgd-4", draws=draws).robust_accuracy

    assert left(20) < left(1) - 0.1
    torch.manual_seed(0)
    attack = AutoAttack(model, eps=eps, version="rand", seed=0)
    assert attack.attacks_to_run == ["apgd-ce", "apgd-dlr"] and (attack.apgd.n_restarts, attack.apgd.eot_iter) == (1, 20)
    attack.apgd.n_iter = 5
    calls.clear()
    x_adv = attack.run_standard_evaluation(x, y)
    assert len(calls) > 5 * 20 and attack.result.record["models"][0]["configuration"]["draws"] == 20
    assert distances(x, x_adv, "Linf").max() <= eps + 1e-6 and attack.result.robust_accuracy < left(1)
    assert "using rand version including apgd-ce, apgd-dlr" in capsys.readouterr().out
    attack.set_version("standard")
    assert attack.apgd.eot_iter == 1
    with pytest.raises(ValueError, match="draws 3: a DEQ"):
        equipoise.evaluate(equipoise.load(MODELS / "dose" / "standard.safetensors"), x, y, eps=eps, draws=3)


def test_in_l1_only_apgd_searches(linear):
    model, x, y = linear
    with pytest.raises(ValueError, match="l1"):
        AutoAttack(model, norm="L1", eps=1.5, verbose=False).run_standard_evaluation(x, y)
    attack = custom(model, "apgd-ce", "apgd-t", eps=1.5, norm="L1")
    attack.apgd.n_iter = attack.apgd_targeted.n_iter = 10
    x_adv = attack.run_standard_evaluation(x, y)
    assert attack.result.robust_accuracy < 0.9
    assert distances(x, x_adv, "L1").max() <= 1.5 + 1e-4


def test_each_attack_by_itself(linear, capsys):
    model, x, y = linear
    attack = short(model)
    alone = attack.run_standard_evaluation_individual(x, y, return_labels=True)
    assert list(alone) == attack.attacks_to_run and attack.verbose
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("robust accuracy by")]
    for line, (name, (x_adv, y_adv)) in zip(lines, alone.items()):
        with torch.no_grad():
            assert torch.equal(model(x_adv).argmax(1), y_adv)
        share = (y_adv == y).double().mean().item()
        assert re.fullmatch(rf"robust accuracy by {name.upper()}\s+{share:.2%}\s+\(time attack: \d+\.\d s\)", line)
    together = short(model, verbose=False)
    together.run_standard_evaluation(x, y)
    worst = torch.stack([y_adv == y for _, y_adv in alone.values()]).all(0)
    assert worst.tolist() == [example["robust"] for example in together.result.examples]


def test_precision_is_kept():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(108, 4)).double().eval()
    x, y = points(lambda x: model(x.double()), 12, 1)
    attack = custom(model, "apgd-ce", eps=0.05)
    x_adv = attack.run_standard_evaluation(x.double(), y)
    assert x_adv.dtype == torch.float64 and attack.result.robust_accuracy < 0.9
    with torch.no_grad():
        assert (model(x_adv).argmax(1) == y).double().mean() == pytest.approx(attack.result.robust_accuracy)


def benchmark(model, x, y, state_path, log_path):
    """What RobustBench's `benchmark` does with the package: names, arguments, and what it reads afterwards."""
    from autoattack import AutoAttack
    from autoattack.state import EvaluationState

    device = torch.device("cpu")
    adversary = AutoAttack(model, norm="Linf", eps=0.03, version="standard", device=device, log_path=log_path)
    adversary.fab.n_iter = adversary.apgd.n_iter = adversary.apgd_targeted.n_iter = 4
    adversary.square.n_queries = 10
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = 3
    x_adv = adversary.run_standard_evaluation(x, y, bs=6, state_path=state_path)
    aa_state = EvaluationState.from_disk(state_path)
    assert aa_state.robust_flags is not None
    return x_adv, aa_state.robust_flags.mean().item()


def test_a_benchmark_that_imports_autoattack_can_be_given_this_one(linear, tmp_path, monkeypatch):
    model, x, y = linear
    monkeypatch.setitem(sys.modules, "autoattack", equipoise.autoattack)
    monkeypatch.setitem(sys.modules, "autoattack.state", equipoise.autoattack.state)
    x_adv, accuracy = benchmark(model, x, y, tmp_path / "state.json", tmp_path / "log.txt")
    with torch.no_grad():
        robust = (model(x_adv).argmax(1) == y) & (model(x).argmax(1) == y)
    assert accuracy == pytest.approx(robust.double().mean().item())
    state = EvaluationState.from_disk(tmp_path / "state.json")
    assert state.robust_flags.tolist() == robust.tolist()
    assert len(x[state.robust_flags]) == robust.sum(), "the flags are a mask"
    assert state.robust_accuracy == pytest.approx(accuracy) and state.clean_accuracy == 0.9
    assert state.run_attacks == state.attacks_to_run == {"apgd-ce", "apgd-t", "fab-t", "square"}
    again, same = benchmark(model, x, y, tmp_path / "state.json", tmp_path / "log.txt")
    assert torch.equal(again, x_adv) and same == accuracy


def test_gradient_free_attacks_come_last(linear):
    model, x, y = linear
    attack = custom(model, "square", "apgd-ce", eps=0.05)
    attack.square.n_queries, attack.apgd.n_iter = 20, 4
    attack.run_standard_evaluation(x, y)
    assert [run["arm"] for run in attack.result.attacks] == ["opening", "gradient-free"]


def test_not_a_number_is_misclassified(linear):
    model, x, y = linear

    def sometimes(images):
        logits = model(images)
        return torch.where(images.mean((1, 2, 3), keepdim=True)[:, :, 0, 0] > 0.52, logits * float("nan"), logits)

    attack = custom(sometimes, "apgd-ce", eps=0.05)
    x_adv, y_adv = attack.run_standard_evaluation(x, y, return_labels=True)
    examples = attack.result.examples
    assert any(example["non_finite"] for example in examples)
    for k, example in enumerate(examples):
        with torch.no_grad():
            finite = bool(sometimes(x_adv[k : k + 1]).isfinite().all())
        assert (y_adv[k] == -1) == (not finite)
        assert finite or not example["robust"]
    assert np.isfinite(x_adv.numpy()).all()
