"""Results and diagnoses on one page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Sequence, Union

from . import _equipoise
from ._diagnose import Diagnosis
from ._result import Result


def report(
    records: Sequence[Union[Result, Diagnosis]], path: Union[str, "os.PathLike[str]"], title: str = "Robustness"
) -> Path:
    """Writes one page of several results and diagnoses to a file whose ending says how: ``.html`` (a single page, no scripts),
    ``.md``, ``.json``, ``.csv`` or ``.tex``.

    Raises
    ------
    ValueError
        If there is nothing to write, or the ending is another one.
    OSError
        If the file cannot be written.
    """
    if not records:
        raise ValueError("no records: give at least one result or diagnosis")
    path = Path(path)
    text = _equipoise.render([record.to_json() for record in records], path.suffix.lstrip("."), title)
    path.write_text(text, encoding="utf-8")
    return path
