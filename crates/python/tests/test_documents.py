"""What the documents say runs: their Python, page by page, with fewer iterations."""

import re
import sys
from pathlib import Path

import equipoise
import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("page", ["README.md", "crates/python/README.md", "docs/guide/python.md"])
def test_examples_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("autoattack", "autoattack.state"):
        # Put back afterwards, whatever an example does.
        monkeypatch.setitem(sys.modules, name, None)
    whole = equipoise.AutoAttack.set_version

    def shortened(self, version="standard"):
        whole(self, version)
        self.apgd.n_iter = self.apgd_targeted.n_iter = self.fab.n_iter = 3
        self.square.n_queries = 20

    monkeypatch.setattr(equipoise.AutoAttack, "set_version", shortened)
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    names = {"__name__": "example"}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert "robust accuracy" in capsys.readouterr().out
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
