"""What the Kubeflow UI shows of a stage's output: pages that load nothing, the model card, a confusion matrix."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.files import read_lines, write_text
from vistune.pages import STYLE, render

if TYPE_CHECKING:
    from vistune.component import Artifact

IMAGES = 12
"""On the sheet of a release."""

CLASSES = ("yes", "no", "neither")


def show(name: str, output: Path, artefact: Any) -> None:
    """Fills `artefact` with what `SHOWN` has under `name`, from the stage's folder `output`."""
    Path(artefact.path).parent.mkdir(parents=True, exist_ok=True)
    SHOWN[name](output, artefact)


def copied(file: str) -> Callable[[Path, Artifact], None]:
    """Shows a file of the output as it is."""

    def copy(output: Path, artefact: Artifact) -> None:
        shutil.copyfile(output / file, artefact.path)

    return copy


def curves(output: Path, artefact: Artifact) -> None:
    """The loss of every training stage over its steps."""
    from vistune.report.sections import curves

    _curves(artefact, curves(read_lines(output / "history.jsonl")))


def sheet(output: Path, artefact: Artifact) -> None:
    """Pictures of the release with their boxes as its texts name them."""
    from vistune.boxcodec import find
    from vistune.sheet import page
    from vistune.sheet.cards import cards

    codecs = [find("vistune")]
    try:
        drawn = page.render(cards(output, codecs, IMAGES), codecs, output)
    except VistuneError as error:  # a release without boxes is none the worse for it
        _curves(artefact, [], str(error))
    else:
        write_text(Path(artefact.path), drawn)


def confusion(output: Path, artefact: Any) -> None:
    """Questions of yes or no (POPE, presence): what the tuned model said of the true image, by the right answer."""
    found = confusion_of(output / "answers.jsonl")
    if found:
        artefact.log_confusion_matrix(list(CLASSES), found)


def confusion_of(answers: Path) -> list[list[int]]:
    """Rows: the right answer, as `CLASSES`; columns: what was said. Empty when no question asks for yes or no."""
    from vistune.evaluate.scorecard import says_yes

    items: dict[str, Mapping[str, Any]] = {}
    for row in read_lines(answers):
        if (row["model"], row["condition"]) != ("tuned", "image") or row["gold"].strip().lower() not in ("yes", "no"):
            continue
        if row["item"] not in items or row["kind"] < items[row["item"]]["kind"]:  # ranked before free text
            items[row["item"]] = row
    said = {True: "yes", False: "no", None: "neither"}
    pairs = Counter((row["gold"].strip().lower(), said[says_yes(row["answer"])]) for row in items.values())
    return [[pairs[right, answer] for answer in CLASSES] for right in CLASSES] if pairs else []


SHOWN: dict[str, Callable[[Path, Any], None]] = {
    "curves": curves,
    "sheet": sheet,
    "scorecard": copied("scorecard.html"),
    "confusion": confusion,
    "card": copied("model_card.md"),
    "report": copied("report.html"),
}


def _curves(artefact: Artifact, charts: Sequence[Any], said: str = "") -> None:
    write_text(Path(artefact.path), render(STYLE / "curves.html", {"charts": charts, "said": said}))
