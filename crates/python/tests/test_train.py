"""Training of Equipoise's own architectures: alone, and in processes of torch.distributed."""

import json
import pathlib
import signal
import subprocess
import sys
import textwrap

import equipoise
import numpy as np
import pytest

MODEL = {
    "kind": "mdeq", "channels": [4], "head_channels": [2], "final_channels": 8, "groups": 2, "expansion": 1,
}
TRAIN = {
    "epochs": 3, "batch_size": 16, "micro_batch": 4, "development": 16, "checkpoint_steps": 1,
    "optimizer": {"kind": "adam", "learning_rate": 0.02}, "adversary": {"eps": 0.1, "steps": 2},
}


def points(count=80, classes=3):
    """Bright squares, whose place is their class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=count)
    images = rng.uniform(0, 0.4, size=(count, 1, 8, 8)).astype(np.float32)
    for image, label in zip(images, labels):
        image[0, 2 * label : 2 * label + 3, 2 * label : 2 * label + 3] += 0.6
    return images, labels


def content(path):
    return pathlib.Path(path).read_bytes()


def run(out, **settings):
    x, y = points()
    return equipoise.train(x, y, out, model=MODEL, deployment={"solver": {"steps": 4}}, **{"train": TRAIN, **settings})


def test_a_model_is_trained_and_used(tmp_path):
    trained = run(tmp_path / "a", train={**TRAIN, "epochs": 12, "adversary": None}, name="squares")
    assert trained.complete and len(trained.history) == 12 and trained.best_epoch is not None
    assert trained.history[-1]["loss"] < 0.5 * trained.history[0]["loss"]
    model = trained.load()
    assert model.name == "squares" and model.classes == 3
    x, y = points()
    assert equipoise.evaluate(model, x[:10], y[:10], eps=0.05, attacks="pgd-2", gradients="none").clean_accuracy >= 0.9
    # The same again is the same file.
    again = run(tmp_path / "b", train={**TRAIN, "epochs": 12, "adversary": None}, name="squares")
    assert content(trained.path) == content(again.path)


def test_what_is_wrong_is_said(tmp_path):
    for settings, problem in [
        ({"train": {**TRAIN, "micro_batch": 5}}, "micro_batch 5 must divide batch_size, which is 16"),
        ({"train": {"epoch": 3}}, "unknown field `epoch`"),
        ({"classes": 2}, "2"),
    ]:
        with pytest.raises(ValueError, match=problem):
            run(tmp_path / "refused", **settings)
    x, y = points()
    with pytest.raises(ValueError, match="unknown model mdeq-tiny: use .*mdeq-digits"):
        equipoise.train(x, y, tmp_path / "refused", model="mdeq-tiny", train=TRAIN)
    with pytest.raises(ValueError, match="init_process_group"):
        equipoise.TorchRanks()
    assert not (tmp_path / "refused").exists()


class Odd:
    """Ranks that fail."""

    def __init__(self, rank=0, size=2, after=0, error=None):
        self.rank, self.size, self.after, self.error = rank, size, after, error

    def all_gather(self, own):
        self.after -= 1
        if self.after < 0:
            if self.error is not None:
                raise self.error
            return [own]
        return [own] * self.size

    def all_to_all(self, parts):
        raise NotImplementedError


def test_ranks_that_fail_end_the_training(tmp_path):
    with pytest.raises(ValueError, match="ranks.all_gather answered with 1 parts instead of 2"):
        run(tmp_path / "odd", ranks=Odd())
    with pytest.raises(ConnectionError, match="gone"):
        run(tmp_path / "gone", ranks=Odd(error=ConnectionError("gone"), after=2))
    with pytest.raises(ValueError, match="ranks count from 0"):
        run(tmp_path / "odd", ranks=Odd(rank=2))


def test_ctrl_c_leaves_a_run_to_go_on_with(tmp_path):
    class Interrupting:
        rank, size, exchanges = 0, 1, 0

        def all_gather(self, own):
            return [own]

        def all_to_all(self, parts):
            self.exchanges += 1
            if self.exchanges == 6:
                signal.raise_signal(signal.SIGINT)
            return parts

    expected = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", ranks=Interrupting())
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "steps.jsonl").read_text().splitlines()]
    assert 0 < len(steps) < 12
    resumed = run(tmp_path / "cut", resume=True)
    assert content(resumed.path) == content(expected.path)


WORKER = """
    import sys
    sys.path.insert(0, {tests!r})
    import torch, torch.distributed as distributed
    import equipoise, test_train
    torch.set_num_threads(1)
    equipoise.set_num_threads(1)
    distributed.init_process_group("gloo", init_method="file://{rendezvous}", rank=int(sys.argv[1]), world_size={size})
    ranks = equipoise.TorchRanks()
    assert ranks.all_gather(b"ab" * ranks.rank) == [b"ab" * rank for rank in range({size})]
    parts = [bytes([ranks.rank, other]) * other for other in range({size})]
    assert ranks.all_to_all(parts) == [bytes([other, ranks.rank]) * ranks.rank for other in range({size})]
    test_train.run({out!r}, ranks=ranks)
"""


@pytest.mark.parametrize("size", [2, 3])
def test_processes_of_torch_distributed_come_to_the_same_file(tmp_path, size):
    out, tests = str(tmp_path / "together"), __file__.rsplit("/", 1)[0]
    script = textwrap.dedent(WORKER).format(tests=tests, rendezvous=tmp_path / "meet", size=size, out=out)
    workers = [
        subprocess.Popen([sys.executable, "-c", script, str(rank)], stderr=subprocess.PIPE, text=True) for rank in range(size)
    ]
    for worker in workers:
        _, said = worker.communicate(timeout=120)
        assert worker.returncode == 0, said
    alone = run(tmp_path / "alone")
    assert content(f"{out}/model.safetensors") == content(alone.path)
