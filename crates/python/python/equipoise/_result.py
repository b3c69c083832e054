"""What an evaluation found."""

from __future__ import annotations

import html
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Union

from . import _equipoise

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Verdict:
    """The answer to whether measured robustness is real.

    Attributes
    ----------
    finding : str
        ``no-control`` for a network with one gradient: there is no other gradient to compare it with. The other findings
        are the test's, for models with several gradients.
    label, sentence : str
        The finding in a few words, and as a sentence with its numbers.
    reasons, warnings : list of str
        What it rests on; what makes the record doubtful.
    gradient_free_only : int
        Images that fell to attacks without gradients only: the classical sign that gradients are masked.
    """

    finding: str
    label: str
    sentence: str
    reasons: List[str]
    warnings: List[str]
    gradient_free_only: int

    def __str__(self) -> str:
        return self.sentence


class Result:
    """What became of every image.

    A DEQ has several readouts: ``result["early(3)"]`` is the same for one of them, and the result itself speaks of the first.

    Attributes
    ----------
    readouts : list of str
        The readouts, in the order in which they were evaluated; ``["final"]`` for a network with one.
    record : dict
        Everything, in the layout of the command's ``results.json``.
    """

    def __init__(self, record: str, images: Dict[str, Any], predictions: Dict[str, Any], readout: int = 0) -> None:
        self._text = record
        self.record: Dict[str, Any] = json.loads(record)
        self._images, self._predictions, self._number = images, predictions, readout
        self.readouts: List[str] = [found["name"] for found in self._model["readouts"]]

    def __getitem__(self, readout: str) -> "Result":
        """What became of the images behind another readout.

        Raises
        ------
        KeyError
            If it was not evaluated.
        """
        if readout not in self.readouts:
            raise KeyError(f"{readout} was not evaluated; there are {', '.join(self.readouts)}")
        return Result(self._text, self._images, self._predictions, self.readouts.index(readout))

    @property
    def _model(self) -> Dict[str, Any]:
        model: Dict[str, Any] = self.record["models"][0]
        return model

    @property
    def _readout(self) -> Dict[str, Any]:
        readout: Dict[str, Any] = self._model["readouts"][self._number]
        return readout

    def adversarial(self, readout: Optional[str] = None) -> Any:
        """For each image that was broken the image that broke it, verified by a forward pass of its own; ``x`` itself elsewhere.
        A tensor ``[N, C, H, W]`` on the device and in the precision of ``x``."""
        return (self if readout is None else self[readout])._of(self._images)

    def predictions(self, readout: Optional[str] = None) -> Any:
        """The model's class on each of these images, an array ``[N]``; −1 where its logits are not finite."""
        return (self if readout is None else self[readout])._of(self._predictions)

    def _of(self, kept: Dict[str, Any]) -> Any:
        return kept[self.readouts[self._number]]

    @property
    def examples(self) -> List[Dict[str, Any]]:
        """What became of each image, in order."""
        examples: List[Dict[str, Any]] = self._readout["examples"]
        return examples

    @property
    def attacks(self) -> List[Dict[str, Any]]:
        """What each attack met and broke, in the order in which they were run."""
        attacks: List[Dict[str, Any]] = self._readout["attacks"]
        return attacks

    @property
    def not_tried(self) -> List[Dict[str, Any]]:
        """Attacks that were not run, or not on all images, and why."""
        not_tried: List[Dict[str, Any]] = self._readout["plan"]["not_tried"]
        return not_tried

    @property
    def clean_accuracy(self) -> float:
        """Share of images that are classified correctly, in [0, 1]."""
        return float(self._readout["clean_accuracy"])

    @property
    def robust_accuracy(self) -> float:
        """Share of images that stay so whatever was tried, in [0, 1]."""
        return float(self._readout["white_box_accuracy"])

    @property
    def robust_interval(self) -> Tuple[float, float]:
        """95% Wilson interval of :attr:`robust_accuracy`."""
        low, high = self._readout["white_box_accuracy_interval"]
        return float(low), float(high)

    @property
    def seed(self) -> int:
        """The seed that all random numbers were derived from."""
        return int(self._model["seed"])

    @property
    def verdict(self) -> Verdict:
        """The finding, with its words."""
        label, sentence, reasons, warnings = _equipoise.statements(self._text)[self._number]
        verdict = self._readout["verdict"]
        return Verdict(verdict["finding"], label, sentence, reasons, warnings, verdict["gradient_free_only"])

    def to_json(self, path: Optional[Union[str, "os.PathLike[str]"]] = None) -> str:
        """The record as JSON, which ``equipoise report`` reads; written to a file if one is named.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        if path is not None:
            Path(path).write_text(self._text, encoding="utf-8")
        return self._text

    def to_pandas(self) -> "pandas.DataFrame":
        """A row for each readout and image: ``readout``, ``index``, ``label``, ``clean_correct``, ``robust``,
        ``clean_prediction``, ``adversarial_prediction``, ``non_finite``, ``broken_by`` (an attack's name, or None) and
        ``broken_through`` (its gradient).

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        import pandas

        columns = ["index", "label", "clean_correct", "robust", "clean_prediction", "adversarial_prediction", "non_finite"]
        rows = []
        for readout in self._model["readouts"]:
            for example in readout["examples"]:
                by = example["broken_by"] or {}
                row = {column: example[column] for column in columns}
                rows.append({"readout": readout["name"], **row, "broken_by": by.get("attack"),
                             "broken_through": by.get("estimator")})
        frame = pandas.DataFrame(rows, columns=["readout", *columns, "broken_by", "broken_through"])
        return frame.astype({"clean_prediction": "Int64", "adversarial_prediction": "Int64"})

    def report(self, path: Union[str, "os.PathLike[str]"]) -> Path:
        """Writes the report to a file whose ending says how: ``.html`` (a single page, no scripts), ``.md``, ``.json``,
        ``.csv`` or ``.tex``.

        Raises
        ------
        ValueError
            If the ending is another one.
        OSError
            If the file cannot be written.
        """
        path = Path(path)
        text = _equipoise.render([self._text], path.suffix.lstrip("."), f"Robustness of {self._model['model']}")
        path.write_text(text, encoding="utf-8")
        return path

    def _table(self) -> List[Tuple[str, str, str]]:
        def percent(share: float) -> str:
            return f"{share:.1%}"

        rows = [("clean", f"{self._model['count']}", percent(self.clean_accuracy))]
        for attack in self.attacks:
            through = attack["estimator"]
            name = attack["name"] if through in ("autograd", "none") else f"{attack['name']} through {through}"
            rows.append((name, f"{attack['broken']} of {attack['attempted']} broken", percent(attack["accuracy"])))
        return rows

    def _each(self) -> List["Result"]:
        return [self[readout] for readout in self.readouts]

    def __str__(self) -> str:
        parts = []
        for result in self._each():
            table = result._table()
            widths = [max(map(len, column)) for column in zip(*table)]
            lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
            head = [] if len(self.readouts) == 1 else [result.readouts[result._number]]
            parts.append("\n".join([*head, result.verdict.sentence, *lines]))
        return "\n\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(result._fragment() for result in self._each())

    def _fragment(self) -> str:
        verdict = self.verdict
        cells = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self._table()
        )
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in [*verdict.reasons, *verdict.warnings])
        head = "" if len(self.readouts) == 1 else f"<h4>{html.escape(self.readouts[self._number])}</h4>"
        return (
            f"<div>{head}<p><b>{html.escape(verdict.label)}</b>: {html.escape(verdict.sentence)}</p>"
            f"<table><thead><tr><th>attack</th><th>images</th><th>accuracy after it</th></tr></thead>"
            f"<tbody>{cells}</tbody></table><ul>{notes}</ul></div>"
        )
