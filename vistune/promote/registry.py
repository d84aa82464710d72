"""Model versions and their aliases: `challenger` on registration, `champion` and `previous_champion` by the gate.

MLflow has no compare-and-set, so the champion is read when deciding and again just before moving the alias: if it
moved in between, nothing is changed. The log is written before the alias moves, so that no move is missing from it; a
process that was killed in between completes the move when it is run again. Every version that becomes champion
remembers which one it replaced, so that rolling back twice goes back two steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vistune
from vistune import tracking
from vistune.errors import VistuneError
from vistune.files import atomic, write_text
from vistune.hashing import canonical
from vistune.promote.card import model_card
from vistune.promote.champion import ANSWERS, COMPARED, beside
from vistune.promote.evidence import Evidence, evidence_folder
from vistune.promote.journal import FILE, Journal
from vistune.promote.turn import turn

if TYPE_CHECKING:
    from vistune.promote import Params
    from vistune.stages import Context

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous_champion"
GATE, REASONS, REPLACED, ROLLED_BACK = "gate", "gate.reasons", "champion.replaced", "champion.rolled_back"
CARD = "model_card.md"

MOVES = ("promote", "rollback")
EVENT = "promotion."
"""Tags of a version that hold its events begin with this."""

DESCRIPTION = 5000  # characters of a version's description that every MLflow back end stores


@dataclass(frozen=True)
class Outcome:
    """What a promotion did. `version` is empty when nothing is tracked."""

    name: str
    version: str
    reused: bool  # the version was there already
    champion: str  # version that is champion now; empty: none
    previous: str  # version that was champion before; empty: none
    verdict: str
    reasons: tuple[str, ...]
    event: dict[str, Any]  # the log's entry about this version: who, when
    comparison: dict[str, Any] | None = None  # with the champion that was there before; None: none was

    @property
    def aliases(self) -> list[str]:
        return [CHALLENGER, *([CHAMPION] if self.is_champion else [])] if self.version else []

    @property
    def uri(self) -> str:
        return f"models:/{self.name}@{self.aliases[-1]}" if self.version else ""

    @property
    def is_champion(self) -> bool:
        return self.champion == self.version != ""

    def facts(self) -> dict[str, Any]:
        """The content of promotion.json, the same on every rerun."""
        facts = asdict(self) | {"aliases": self.aliases, "model_uri": self.uri}
        del facts["reused"]
        return facts

    def message(self) -> str:
        if not self.version:
            return f"not registered: MLflow is off (VISTUNE_TRACKING). Gate: {self.verdict}."
        state = "champion" if self.is_champion else f"challenger (champion: {self.champion or 'none yet'})"
        again = ", registered before" if self.reused else ""
        lines = [f"{self.name} version {self.version} is {state}{again}. Gate: {self.verdict}."]
        return "\n".join(lines + [f"  - {reason}" for reason in self.reasons])


def check_name(name: str) -> None:
    """Raises VistuneError for a name that a `models:/NAME@alias` address cannot hold."""
    if not name or name != name.strip() or any(c in "/:@%\"'\\" or not c.isprintable() for c in name):
        raise VistuneError(f"promote.name {name!r} cannot name a model: use letters, digits, '-', '_', '.' and spaces.")


def settle(params: Params, inputs: Mapping[str, Path], evidence: Evidence, output: Path, context: Context) -> Outcome:
    """Registers the model (once for the same model and scorecard) and moves the aliases the evidence allows. Writes
    the model card and the answers to keep into `output`."""
    name = params.name
    with atomic(output / ANSWERS) as temporary:
        temporary.write_bytes(evidence.answers)
    if not tracking.enabled():
        write_text(output / CARD, model_card(name, params.data_statement, evidence, inputs))
        return Outcome(name, "", False, "", "", evidence.verdict, evidence.reasons, {})
    journal = Journal(context.home / FILE)
    with journal.locked():
        journal.check(history(name))
        before = tracking.get_alias(name, CHAMPION)
        found = find(name, evidence)
        evidence = replace(evidence, comparison=beside(before, found, evidence, inputs, context.seed))
        write_text(output / CARD, model_card(name, params.data_statement, evidence, inputs))
        version = found or _register(name, inputs, evidence, output, context.run_id)
        if evidence.comparison:
            _tag(version, COMPARED, json.dumps(evidence.comparison.facts()))
        _once(journal, "register", version, _number(before), evidence)
        _tag(version, GATE, evidence.verdict)
        _tag(version, REASONS, _json(evidence.reasons))
        if _number(tracking.get_alias(name, CHALLENGER)) != version.version:
            tracking.set_alias(name, CHALLENGER, version.version)
        reasons = list(evidence.said)
        held = "" if evidence.verdict != "pass" else held_back(params, evidence, version, before)
        if held:
            reasons.append(f"held back: {held}.")
        elif evidence.verdict == "pass":
            with turn(name):
                promote(journal, version, _number(before), evidence)
        champion = _number(tracking.get_alias(name, CHAMPION))
        previous = _number(tracking.get_alias(name, PREVIOUS))
        own = [e for e in journal.events(name) if e["version"] == version.version]
        _keep(version, own)
    compared = evidence.comparison.facts() if evidence.comparison else None
    verdict, was_there = evidence.verdict, found is not None
    return Outcome(name, version.version, was_there, champion, previous, verdict, tuple(reasons), own[-1], compared)


def held_back(params: Params, evidence: Evidence, version: tracking.Version, champion: tracking.Version | None) -> str:
    """Why a version that passed the gate does not become champion; empty when it does."""
    if ROLLED_BACK in version.tags:
        return f"it was rolled back {version.tags[ROLLED_BACK]}; tune or evaluate anew"
    if evidence.hold or champion is None or champion.version == version.version:
        return evidence.hold
    if evidence.comparison and evidence.comparison.worse:
        return f"it is worse than champion version {champion.version} on what its gate declares as target"
    if params.allow_new_evaluation:
        return ""
    key = "evaluation.sha256"
    before, now = champion.tags.get(key, ""), evidence.lineage[key]
    if before == now:
        return ""
    return (
        f"the evaluation set changed: champion version {champion.version} was measured on questions "
        f"{before[:12] or '(not recorded)'}, this version on {now[:12]}, so the two scores cannot be compared. "
        "Evaluate on the same questions, or allow it with promote.allow_new_evaluation=true"
    )


def history(name: str) -> list[dict[str, Any]]:
    """The events that the registry has kept of all versions of `name`, oldest first."""
    kept = [
        json.loads(value) for v in tracking.search_versions(name) for k, value in v.tags.items() if k.startswith(EVENT)
    ]
    return sorted(kept, key=lambda e: (e["when"], int(e["version"]), e["event"] != "register"))


def find(name: str, evidence: Evidence) -> tracking.Version | None:
    """The newest version of `name` with the same model and scorecard."""
    wanted = {key: evidence.lineage[key] for key in ("model.sha256", "scorecard.sha256")}
    versions = tracking.search_versions(name)
    return next((v for v in versions if wanted.items() <= v.tags.items()), None)


def _register(
    name: str, inputs: Mapping[str, Path], evidence: Evidence, output: Path, own_run: str
) -> tracking.Version:
    """A version made from the run that tuned the model, or from this run where MLflow does not know that one."""
    trained = evidence.runs.get("tune", "")
    run = trained if trained and tracking.run_exists(trained) else own_run
    if not run:
        raise VistuneError("no MLflow run to register the model from. Run `vistune promote`, which opens one.")
    code = Path(__file__).with_name("serving.py")
    requirement = f"vistune[train,track]=={vistune.__version__}"
    model = Path(inputs["tune"]) / "model"
    uri = tracking.log_vlm(model, code, run, name="model", requirements=[requirement], metadata=evidence.lineage)
    card, scores = output / CARD, Path(inputs["evaluate"])
    for file in (card, output / ANSWERS, scores / "scorecard.json", scores / "verdict.json"):
        tracking.log_file(run, file, evidence_folder(evidence.scorecard))
    tags = {**evidence.lineage, GATE: evidence.verdict, REASONS: _json(evidence.reasons)}
    version = tracking.register_version(uri, name, run, tags)
    tracking.describe_version(name, version.version, _description(card.read_text(encoding="utf-8")))
    return version


def promote(journal: Journal, version: tracking.Version, expected: str, evidence: Evidence) -> None:
    """Makes `version` the champion if the champion still is `expected` ("": none), logging it first. Raises
    VistuneError, with nothing changed, when another one is champion."""
    name, current = version.name, _number(tracking.get_alias(version.name, CHAMPION))
    if current != expected:
        raise VistuneError(
            f"the champion of {name} changed from version {expected or 'none'} to {current or 'none'} while version "
            f"{version.version} was being decided; nothing was moved. Look at the new champion, then run "
            "`vistune promote` again."
        )
    replaced = version.tags.get(REPLACED, "") if current == version.version else current
    _once(journal, "promote", version, replaced, evidence)
    if current == version.version:
        return
    if current:
        tracking.set_alias(name, PREVIOUS, current)
    tracking.set_version_tag(name, version.version, REPLACED, current)
    tracking.set_alias(name, CHAMPION, version.version)


def rollback(name: str, home: Path) -> str:
    """Makes the previous champion the champion again, marks the one it replaces, and says so in a sentence."""
    check_name(name)
    if not tracking.enabled():
        raise VistuneError("rollback needs MLflow: unset VISTUNE_TRACKING.")
    journal = Journal(home / FILE)
    if tracking.get_alias(name, CHAMPION) is None:
        raise VistuneError(f"{name} has no champion to roll back. Check the name, and MLFLOW_TRACKING_URI.")
    with journal.locked(), turn(name):
        journal.check(history(name))
        current = tracking.get_alias(name, CHAMPION)
        if current is None or not current.tags.get(REPLACED):
            raise VistuneError(
                f"{name} version {_number(current)} is its first champion: there is no previous one to roll back to."
            )
        previous = tracking.get_version(name, current.tags[REPLACED])
        logged = [e for e in journal.events(name) if e["event"] in MOVES][-1:]
        event = logged[0] if logged else {}
        wanted = {"event": "rollback", "version": previous.version, "previous": current.version}
        if not wanted.items() <= event.items():  # else: one that was killed before it moved the alias
            reasons = (f"rolled back from version {current.version}",)
            event = _event("rollback", previous, current.version, previous.tags.get(GATE, ""), reasons, previous.tags)
            event = journal.append(event)
        tracking.set_version_tag(name, current.version, ROLLED_BACK, f"on {event['when']} by {event['who']}")
        _keep(previous, [event])
        older = previous.tags.get(REPLACED, "")
        if older:
            tracking.set_alias(name, PREVIOUS, older)
        elif tracking.get_alias(name, PREVIOUS):
            tracking.delete_alias(name, PREVIOUS)
        tracking.set_alias(name, CHAMPION, previous.version)
    return f"{name}: version {previous.version} is champion again; version {current.version} was rolled back."


def _event(
    kind: str, version: tracking.Version, previous: str, verdict: str, reasons: Any, tags: Mapping[str, str]
) -> dict[str, Any]:
    evidence = {k: tags[k] for k in ("model.sha256", "scorecard.sha256", "release.sha256", "git.sha") if k in tags}
    compared = {"comparison": json.loads(tags[COMPARED])} if tags.get(COMPARED) else {}
    return {
        "event": kind,
        "name": version.name,
        "version": version.version,
        "previous": previous,
        "verdict": verdict,
        "reasons": list(reasons),
        "evidence": evidence,
        **compared,
    }


def _once(journal: Journal, kind: str, version: tracking.Version, previous: str, evidence: Evidence) -> None:
    """Logs an event unless it is what the log says already: a rerun adds nothing."""
    events = journal.events(version.name)
    there = events if kind == "register" else [e for e in events if e["event"] in MOVES][-1:]
    if not any(e["version"] == version.version for e in there):
        compared = {COMPARED: json.dumps(evidence.comparison.facts())} if evidence.comparison else {}
        tags = {**evidence.lineage, **compared}
        journal.append(_event(kind, version, previous, evidence.verdict, evidence.reasons, tags))


def _keep(version: tracking.Version, events: Iterable[Mapping[str, Any]]) -> None:
    """Keeps the log's events in the registry too, each under its own name: never overwritten."""
    there = tracking.get_version(version.name, version.version).tags
    for event in events:
        key = f"{EVENT}{event['when']}.{event['event']}"
        if key not in there:
            tracking.set_version_tag(version.name, version.version, key, canonical(event).decode())


def _description(card: str) -> str:
    """The model card, cut at a line to what every MLflow back end stores."""
    note = "\n\n(Cut here; the whole card is `model_card.md` among the evidence of the version's run.)"
    if len(card) <= DESCRIPTION:
        return card
    return card[: card.rindex("\n", 0, DESCRIPTION - len(note))] + note


def _tag(version: tracking.Version, key: str, value: str) -> None:
    if version.tags.get(key) != value[:5000]:
        tracking.set_version_tag(version.name, version.version, key, value)


def _json(reasons: tuple[str, ...]) -> str:
    return json.dumps(list(reasons), ensure_ascii=False)


def _number(version: tracking.Version | None) -> str:
    return version.version if version else ""
