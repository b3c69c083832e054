"""Progress bars."""

from __future__ import annotations

from typing import Any


def tqdm() -> Any:
    """What draws bars, and knows terminals and notebooks."""
    try:
        from tqdm.auto import tqdm as bar
    except ImportError as error:
        raise ImportError("verbose=True draws progress bars and needs tqdm: pip install tqdm") from error
    return bar


class Bars:
    """A bar for each stage of an evaluation, by tqdm, which knows terminals and notebooks."""

    def __init__(self) -> None:
        self._new = tqdm()
        self._bar: Any = None

    def stage(self, label: str, total: int) -> None:
        self.close()
        self._bar = self._new(total=total, desc=label, unit="image")

    def advance(self, examples: int, met: int, broken: int) -> None:
        word = "misclassified" if self._bar.desc.startswith("clean") else "broken"
        self._bar.set_postfix_str(f"{broken} of {met} {word}", refresh=False)
        self._bar.update(examples)

    def beat(self, done: int, total: int, standing: int) -> None:
        self._bar.set_postfix_str(f"step {done} of {total}, {standing} standing")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
