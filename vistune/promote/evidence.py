"""The evidence for a promotion: verdict, scorecard, and the chain of digests from the model back to its sources."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune import lineage, tracking
from vistune.errors import VistuneError
from vistune.files import files_under, read_json, tree_digest
from vistune.hashing import digest as digest_of
from vistune.hashing import file_digest
from vistune.stages import Receipt, code_digest, receipt

if TYPE_CHECKING:
    from vistune.comparison import Comparison

VERDICTS = ("pass", "fail", "inconclusive")

STAGES = ("sources", "validate", "tune", "evaluate")

UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
"""Weight formats that can run code when they are read."""


@dataclass(frozen=True)
class Evidence:
    """What a promotion rests on. `lineage` is a flat table of ids, the tags of the model version."""

    verdict: str  # one of VERDICTS
    reasons: tuple[str, ...]  # of the verdict, and of holding the model back
    model: str  # digest of the model folder
    scorecard: str  # sha256 of scorecard.json
    lineage: dict[str, str]
    runs: dict[str, str]  # stage -> MLflow run
    hold: str = ""  # why the model may not become champion although the gate passed
    answers: bytes = b""  # what a later candidate is compared with (`comparison.rows`), as JSON Lines
    comparison: Comparison | None = None  # with the champion; None: there is none yet

    @property
    def champion(self) -> bool:
        return self.verdict == "pass" and not self.hold

    @property
    def said(self) -> tuple[str, ...]:
        """The reasons of the verdict, and how the model stands beside the champion."""
        return (*self.reasons, self.comparison.sentence) if self.comparison else self.reasons


def collect(inputs: Mapping[str, Path], seed: int, require_clean_git: bool = False) -> Evidence:
    """Reads and checks the evidence. Raises VistuneError when any of it is missing, is not a number, or speaks about
    another model or release than the one given: such a model is not registered at all."""
    from vistune.comparison import lines, rows

    receipts = {stage: receipt(Path(inputs[stage])) for stage in STAGES}
    check_chain(receipts)
    folder = Path(inputs["evaluate"])
    verdict, reasons = read_verdict(folder / "verdict.json")
    card = read_json(folder / "scorecard.json")
    check_numbers(card, "scorecard.json")
    release = read_json(Path(inputs["validate"]) / "release.json")
    digest = release.get("digest") if isinstance(release, dict) else None
    if not isinstance(digest, str) or not digest:
        raise _refused("release.json of stage validate has no digest, so nothing says what the model learned from")
    ids = lineage.ids() | lineage.remote(receipts["sources"].dvc_md5)
    model, scorecard = model_digest(Path(inputs["tune"]) / "model"), file_digest(folder / "scorecard.json")
    scored = card.get("models", {}).get("tuned") if isinstance(card, dict) else None
    if scored != model:
        raise _refused(f"the scorecard is about model {str(scored)[:12]}…, and the model given is {model[:12]}…")
    table = {
        "model.sha256": model,
        "scorecard.sha256": scorecard,
        "release.sha256": digest,
        "seed": str(seed),
        "base.models": base_models(receipts["tune"]),
        "evaluation.sha256": evaluation_digest(folder),
        "gate.sha256": digest_of(read_json(folder / "verdict.json").get("gate")),
        **ids,
    }
    for stage, r in receipts.items():
        table |= {f"{stage}.digest": r.digest, f"{stage}.key": r.key, f"{stage}.code": r.code}
        table |= {f"{stage}.run_id": r.run_id, f"dvc.{stage}.md5": r.dvc_md5}
        table |= {f"pin.{stage}.{name}": text for name, text in r.pins.items()}
    commits = {stage: commit_of(r, ids) for stage, r in receipts.items()}
    table |= {f"{stage}.git.sha": sha for stage, sha in commits.items()}
    hold = _unclean(ids, commits) if require_clean_git else ""
    answers = lines(rows(folder))
    table["answers.sha256"] = hashlib.sha256(answers).hexdigest()
    return Evidence(
        verdict,
        reasons,
        model,
        scorecard,
        {k: v for k, v in table.items() if v},
        {stage: r.run_id for stage, r in receipts.items() if r.run_id},
        hold,
        answers,
    )


def commit_of(done: Receipt, ids: Mapping[str, str]) -> str:
    """The commit whose code made an output: this one, when the code is still the same and all of it committed; else
    the one that its MLflow run names, if that tree was clean; empty when no commit holds the code."""
    if ids.get("git.dirty") == "false" and done.code in ("", code_digest(done.stage)):
        return ids["git.sha"]
    tags = tracking.run_tags(done.run_id) if done.run_id and tracking.enabled() else {}
    return tags.get("git.sha", "") if tags.get("git.dirty") == "false" else ""


def _unclean(ids: Mapping[str, str], commits: Mapping[str, str]) -> str:
    """Why the code that made the model cannot be looked up; empty when it can."""
    if not ids.get("git.sha"):
        return (
            "the git commit is not known. Work in a git checkout, set VISTUNE_GIT_SHA in an image, or allow it with "
            "promote.require_clean_git=false"
        )
    if ids.get("git.dirty") == "true":
        return (
            "the git tree has uncommitted changes (`git status` lists them). Commit them, or allow it with "
            "promote.require_clean_git=false"
        )
    lost = [stage for stage, sha in commits.items() if not sha]
    if lost:
        return (
            f"the code that ran stage {lost[0]} is of no known commit: it differs from commit {ids['git.sha'][:12]}, "
            f"and its run names no clean one. Run `vistune {lost[0]}` and the stages after it again"
        )
    return ""


def evaluation_digest(folder: Path) -> str:
    """Digest of what was asked: benchmark, item, image, question and right answer of everything the tuned model was
    asked about the true image. Two scorecards can be compared when it is the same."""
    path = folder / "answers.jsonl"
    if not path.is_file():
        raise _refused("stage evaluate kept no answers (answers.jsonl), so nothing says what the model was asked")
    asked = set()
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                a = json.loads(line)
                if (a["model"], a["condition"]) == ("tuned", "image"):
                    asked.add((a["benchmark"], a["item"], a["image"], a["question"], a["gold"]))
            except (json.JSONDecodeError, KeyError, TypeError):
                raise _refused(f"line {number} of answers.jsonl is no answer") from None
    if not asked:
        raise _refused("answers.jsonl holds no answer of the tuned model about the true image")
    return digest_of(sorted(asked))


def read_verdict(path: Path) -> tuple[str, tuple[str, ...]]:
    """(verdict, reasons) of a gate. Raises VistuneError unless it is one of VERDICTS, with finite numbers."""
    found = read_json(path)
    verdict = found.get("verdict") if isinstance(found, dict) else None
    if verdict not in VERDICTS:
        raise _refused(f"{path.name} says {verdict!r}; a verdict is one of {', '.join(VERDICTS)}")
    check_numbers(found, path.name)
    reasons = found.get("reasons", [])
    if not isinstance(reasons, list) or not all(isinstance(r, str) for r in reasons):
        raise _refused(f"`reasons` in {path.name} is not a list of sentences")
    if verdict == "pass":
        check_pass(found.get("checks"), (found.get("gate") or {}).get("target", {}).get("above", 0.0))
    return verdict, tuple(reasons)


def check_pass(checks: Any, above: float) -> None:
    """Raises VistuneError unless the checks of a gate that says pass bear it out: each passed, and every target's
    interval lies above `above`. A pass without its numbers, or on a point estimate, is no pass."""
    checks = checks if isinstance(checks, list) else []
    if not any(c.get("role") == "target" for c in checks):
        raise _refused("the gate says pass and shows no check of a target")
    for check in checks:
        about = ", ".join(check.get("benchmarks", []))
        name = f"the gate's check of {check.get('role')} {about} ({check.get('comparison')})"
        found = check.get("estimate") or {}
        ends = [found[k] for k in ("mean", "low", "high") if isinstance(found.get(k), float | int)]
        if len(ends) < 3 or not all(map(math.isfinite, ends)):
            raise _refused(f"{name} has no interval, yet the gate says pass")
        if check.get("verdict") != "pass" or (check.get("role") == "target" and ends[1] <= above):
            raise _refused(f"{name} did not pass (low end {ends[1]}), yet the gate says pass")


def check_numbers(value: Any, name: str) -> None:
    """Raises VistuneError naming the first number in `value` that is not finite."""
    for where, number in _numbers(value, ""):
        if not math.isfinite(number):
            raise _refused(f"{name} holds {number} at {where or 'its top'}; a measured number is missing")


def _numbers(value: Any, where: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from _numbers(inner, f"{where}[{n}]")
    elif isinstance(value, float):
        yield where, value


def check_chain(receipts: Mapping[str, Receipt]) -> None:
    """Raises VistuneError unless the scorecard was measured on this model, and the model tuned on this release.

    A stage that lists no inputs at all was not executed here (data that `dvc pull` brought): allowed for the
    data stages, whose own digest says what they are, and refused for tune and evaluate.
    """
    for stage, r in receipts.items():
        if not r.digest:
            raise _refused(f"the receipt of stage {stage} has no digest")
        for upstream in ("sources", "validate", "tune"):
            found, expected = r.inputs.get(upstream), receipts[upstream].digest
            if found is not None and found != expected:
                raise _refused(
                    f"stage {stage} read another output of {upstream} (digest {found[:12]}…) than the one given "
                    f"(digest {expected[:12]}…)"
                )
    for stage, upstream in (("tune", "validate"), ("evaluate", "tune")):
        if upstream not in receipts[stage].inputs:
            raise _refused(f"the receipt of stage {stage} does not say which output of {upstream} it read")


def model_digest(folder: Path) -> str:
    """Digest of the model folder's names and contents. Raises VistuneError unless its weights are safetensors."""
    names = [p.relative_to(folder).as_posix() for p in files_under(folder)] if folder.is_dir() else []
    if not any(n.endswith(".safetensors") for n in names):
        raise _refused(f"{folder.name}/ of stage tune holds no safetensors weights")
    unsafe = [n for n in names if n.endswith(UNSAFE)]
    if unsafe:
        raise _refused(f"the model holds {unsafe[0]}, a format that can run code when it is read")
    return tree_digest(folder)


def evidence_folder(scorecard: str) -> str:
    """Where a version's run keeps card, scorecard and verdict: a model may be measured more than once."""
    return f"evidence/{scorecard[:12]}"


def base_models(tune: Receipt) -> str:
    """The weights that tuning started from (vision, language), as the stage says; empty when it does not."""
    named = tune.summary.get("details", {}).get("base") or {}
    return ", ".join(str(named[k]) for k in ("vision", "language") if named.get(k))


def _refused(problem: str) -> VistuneError:
    return VistuneError(
        f"not promoted, and not registered: {problem}. Run the stages again (`vistune evaluate`, then "
        "`vistune promote`) so that the evidence is whole and about this model."
    )
