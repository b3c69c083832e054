"""Ctrl-C and errors: what is raised, when, and that nothing of it reaches what is kept."""

import os
import signal
import threading
import time

import equipoise
import numpy as np
import pytest
import torch
from conftest import Counting, Linear, batches
from equipoise import AutoAttack


def short(model, **options):
    attack = AutoAttack(model, eps=0.03, seed=0, verbose=False, **options)
    attack.apgd.n_iter = attack.apgd_targeted.n_iter = 5
    attack.fab.n_iter = 4
    attack.fab.n_target_classes = attack.apgd_targeted.n_target_classes = 2
    attack.square.n_queries = 15
    return attack


class Until:
    """A model that does something when it is asked for the so-manieth time."""

    def __init__(self, model, times, what):
        self.model, self.times, self.what, self.asked = model, times, what, 0

    def __call__(self, x):
        self.asked += 1
        if self.asked == self.times:
            self.what()
        return self.model(x)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def fail():
    raise ZeroDivisionError("in the model")


@pytest.mark.parametrize("what, error", [(interrupt, KeyboardInterrupt), (fail, ZeroDivisionError)])
def test_a_run_that_ended_anywhere_goes_on_to_the_same_end(linear, tmp_path, what, error):
    model, x, y = linear
    counting = Counting(model)
    reference = short(counting)
    expected, labels = reference.run_standard_evaluation(x, y, bs=7, return_labels=True)
    asked = counting.gradients + counting.forwards
    ended = 0
    for times in [*range(3, asked, 17), asked]:
        state = tmp_path / f"{times}.json"
        broken = Until(model, times, what)
        with pytest.raises(error) as raised:
            short(broken).run_standard_evaluation(x, y, bs=7, state_path=state)
        assert broken.asked == times, "the model is not asked again"
        assert error is KeyboardInterrupt or str(raised.value) == "in the model"
        kept = batches(tmp_path / f"{times}.json.journal")
        for classes, images in kept:
            assert (classes >= 0).all() and np.isfinite(images).all()
        ended += len(kept)
        # Another object, as in another process; another batch size too.
        again = short(lambda images: model(images))
        found, classes = again.run_standard_evaluation(x, y, bs=5, return_labels=True, state_path=state)
        assert torch.equal(found, expected) and torch.equal(classes, labels)
        assert again.result.record["models"][0]["readouts"][0]["examples"] == reference.result.examples
    assert ended > 20, "otherwise nothing was kept anywhere"


class CountingLinear(Linear):
    """A module that counts what it is asked, and is told from others by its parameters alone."""

    gradients = images = 0

    def forward(self, x):
        self.images += len(x)
        self.gradients += torch.is_grad_enabled()
        return super().forward(x)


def test_what_is_done_is_not_done_again(linear, tmp_path):
    _, x, y = linear
    state = tmp_path / "state.json"
    short(CountingLinear()).run_standard_evaluation(x, y, state_path=state)
    model = CountingLinear()
    again = short(model)
    again.run_standard_evaluation(x, y, state_path=state)
    fallen = sum(example["broken_by"] is not None for example in again.result.examples)
    # The check of the model asks twice; and there is one look at each image that was kept.
    assert fallen > 2 and model.gradients == 0 and model.images == 2 * len(x) + fallen


def test_the_log_of_a_resumed_run(linear, tmp_path, capsys):
    model, x, y = linear
    state = tmp_path / "state.json"
    counting = Counting(model)
    attack = short(counting, version="custom", attacks_to_run=["apgd-ce"])
    attack.apgd.n_restarts = 1
    attack.run_standard_evaluation(x, y)
    until = counting.gradients + counting.forwards
    with pytest.raises(KeyboardInterrupt):
        attack = short(Until(model, until + 3, interrupt))
        attack.run_standard_evaluation(x, y, state_path=state)
    attack = short(lambda images: model(images))
    attack.verbose = True
    attack.run_standard_evaluation(x, y, state_path=state)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        f"Restored state from {state}",
        "using standard version including apgd-t, fab-t, square.",
        "apgd-ce was/were already run.",
        "initial clean accuracy: 90.00%",
    ]
    assert not any("APGD-CE" in line for line in lines) and any("APGD-T" in line for line in lines)


def test_ctrl_c_is_heard_at_once(linear, tmp_path):
    model, x, y = linear
    state = tmp_path / "state.json"
    attack = AutoAttack(model, eps=1e-6, seed=0, verbose=False, version="custom", attacks_to_run=["square"])
    attack.square.n_queries = 1_000_000
    sent = []

    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.7, send)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            attack.run_standard_evaluation(x, y, state_path=state)
        # One call of the model takes a millisecond; the rest is for a busy machine.
        assert time.perf_counter() - sent[0] < 0.5
    finally:
        timer.cancel()
    assert len(batches(tmp_path / "state.json.journal")) == 1, "the clean pass, and no half batch"


def test_an_error_in_the_backward_pass_is_raised_as_it_is(linear, tmp_path):
    model, x, y = linear

    class Refuses(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return z.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise ZeroDivisionError("in the backward pass")

    with pytest.raises(ZeroDivisionError, match="in the backward pass"):
        equipoise.evaluate(lambda x: Refuses.apply(model(x)), x, y, attacks="pgd-2", eps=0.1, out=tmp_path)
    assert len(batches(tmp_path / "journal")) == 1, "the clean pass"


def test_an_error_of_an_attack_is_raised_as_it_is(linear, tmp_path):
    model, x, y = linear

    class Bad:
        def attempt(self, model, batch):
            raise LookupError("in the attack")

    with pytest.raises(LookupError, match="in the attack"):
        equipoise.evaluate(model, x, y, attacks=["pgd-2", Bad()], eps=0.03, out=tmp_path)
    kept = batches(tmp_path / "journal")
    assert len(kept) == 2, "the clean pass and PGD"
    result = equipoise.evaluate(model, x, y, attacks=["pgd-2"], eps=0.03)
    assert (kept[1][0] != y.numpy()[:18]).sum() == result.attacks[0]["broken"]


def test_an_error_of_the_log_is_raised_too(linear, tmp_path):
    model, x, y = linear
    attack = AutoAttack(model, eps=0.03, seed=0, log_path=tmp_path / "nowhere" / "log.txt")
    with pytest.raises(FileNotFoundError):
        attack.run_standard_evaluation(x, y)


def test_states_that_do_not_belong_here(linear, network, tmp_path):
    model, x, y = linear
    state = tmp_path / "state.json"
    short(model).run_standard_evaluation(x, y, state_path=state)
    with pytest.raises(ValueError, match="different set of attacks"):
        short(model, version="custom", attacks_to_run=["square"]).run_standard_evaluation(x, y, state_path=state)
    other_seed = short(model)
    other_seed.seed = 1
    with pytest.raises(ValueError, match="created with seed 0"):
        other_seed.run_standard_evaluation(x, y, state_path=state)
    with pytest.raises(ValueError, match="another run"):
        short(network[0]).run_standard_evaluation(x, y, state_path=state)
    with pytest.raises(ValueError, match="another run"):
        short(model).run_standard_evaluation(x.flip(0), y.flip(0), state_path=state)
    settings = short(model)
    settings.square.n_queries = 16
    with pytest.raises(ValueError, match="another run"):
        settings.run_standard_evaluation(x, y, state_path=state)
    foreign = tmp_path / "foreign.json"
    foreign.write_text('{"_attacks_to_run": [], "_robust_flags": [true]}')
    with pytest.raises(ValueError, match="not the state"):
        short(model).run_standard_evaluation(x, y, state_path=foreign)
    state.unlink()
    with pytest.raises(ValueError, match="is missing: delete the folder"):
        short(model).run_standard_evaluation(x, y, state_path=state)


def test_a_refused_call_leaves_no_state_behind(linear, tmp_path):
    model, x, y = linear
    for images, labels in [(x + 2, y), (x, y + 100), (x[:3], y)]:
        with pytest.raises(ValueError):
            short(model).run_standard_evaluation(images, labels, state_path=tmp_path / "state.json")
        assert not list(tmp_path.iterdir())


def test_two_runs_do_not_share_a_journal(linear, tmp_path):
    model, x, y = linear
    state = tmp_path / "state.json"
    refused = []

    def within():
        with pytest.raises(OSError, match="another run is writing"):
            short(later).run_standard_evaluation(x, y, state_path=state)
        refused.append(True)

    later = Until(model, 6, within)
    short(later).run_standard_evaluation(x, y, state_path=state)
    assert refused
