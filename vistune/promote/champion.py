"""A candidate beside the champion, from the answers that were kept with it when it was registered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from vistune import tracking
from vistune.comparison import Comparison, compare
from vistune.errors import VistuneError
from vistune.files import read_json
from vistune.promote.evidence import Evidence, evidence_folder

COMPARED = "champion.compared"
"""Tag of a version: how it stood beside the champion of its time, as JSON."""

ANSWERS = "answers.jsonl"
"""Among the evidence of a version: what later candidates are compared with."""


def beside(
    champion: tracking.Version | None,
    own: tracking.Version | None,
    evidence: Evidence,
    inputs: Mapping[str, Path],
    seed: int,
) -> Comparison | None:
    """How the candidate stands beside the champion; None where there is none. own: the candidate's version, if it is
    registered: once it is the champion itself, what was found before it became so. Nothing is answered again."""
    if champion is None:
        return None
    if own is not None and own.version == champion.version:
        return Comparison.read(json.loads(own.tags[COMPARED])) if own.tags.get(COMPARED) else None
    if champion.tags.get("evaluation.sha256") != evidence.lineage["evaluation.sha256"]:
        return Comparison(champion.version, missing="it was measured on other questions")
    kept = champion.tags.get("answers.sha256")
    if not kept:
        return Comparison(champion.version, missing="no answers are kept with it")
    try:
        path = f"{evidence_folder(champion.tags['scorecard.sha256'])}/{ANSWERS}"
        held = tracking.run_file(champion.run_id, path)
    except VistuneError as error:
        return Comparison(champion.version, missing=str(error).rstrip("."))
    if hashlib.sha256(held).hexdigest() != kept:
        raise VistuneError(
            f"the answers kept with champion version {champion.version} ({path} of run {champion.run_id}) are not "
            "those it was registered with. Restore the file; `vistune verify-lineage` names what else was changed."
        )
    ours, theirs = ([json.loads(line) for line in text.splitlines()] for text in (evidence.answers, held))
    return compare(champion.version, ours, theirs, read_json(Path(inputs["evaluate"]) / "verdict.json"), seed)
