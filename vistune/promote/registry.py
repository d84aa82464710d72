"""Model versions and their aliases: `challenger` on registration, `champion` and `previous_champion` by the gate.

MLflow has no compare-and-set, so the champion is read when deciding and again just before moving the alias: if it
moved in between, nothing is changed. Every version that becomes champion remembers which one it replaced, so that
rolling back twice goes back two steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vistune
from vistune import tracking
from vistune.errors import VistuneError
from vistune.hashing import canonical
from vistune.promote.evidence import Evidence
from vistune.promote.journal import FILE, Journal

if TYPE_CHECKING:
    from vistune.stages import Context

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous_champion"
GATE, REASONS, REPLACED, ROLLED_BACK = "gate", "gate.reasons", "champion.replaced", "champion.rolled_back"

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


def settle(name: str, model: Path, evidence: Evidence, card: Path, context: Context) -> Outcome:
    """Registers the model (once for the same model and scorecard) and moves the aliases the evidence allows."""
    if not tracking.enabled():
        return Outcome(name, "", False, "", "", evidence.verdict, evidence.reasons, {})
    journal = Journal(context.home / FILE)
    with journal.locked():
        before = _number(tracking.get_alias(name, CHAMPION))
        found = find(name, evidence)
        version = found or _register(name, model, evidence, card, context.run_id)
        _once(journal, "register", version, before, evidence)
        _tag(version, GATE, evidence.verdict)
        _tag(version, REASONS, _json(evidence.reasons))
        if _number(tracking.get_alias(name, CHALLENGER)) != version.version:
            tracking.set_alias(name, CHALLENGER, version.version)
        reasons = list(evidence.reasons)
        if evidence.hold:
            reasons.append(f"held back: {evidence.hold}")
        if evidence.champion and ROLLED_BACK in version.tags:
            reasons.append(f"held back: it was rolled back {version.tags[ROLLED_BACK]}; tune or evaluate anew")
        elif evidence.champion:
            replaced = move(name, version, before)
            _once(journal, "promote", version, replaced, evidence)
        champion = _number(tracking.get_alias(name, CHAMPION))
        previous = _number(tracking.get_alias(name, PREVIOUS))
        own = [e for e in journal.events(name) if e["version"] == version.version]
    return Outcome(
        name, version.version, found is not None, champion, previous, evidence.verdict, tuple(reasons), own[-1]
    )


def find(name: str, evidence: Evidence) -> tracking.Version | None:
    """The newest version of `name` with the same model and scorecard."""
    wanted = {key: evidence.lineage[key] for key in ("model.sha256", "scorecard.sha256")}
    versions = tracking.search_versions(name)
    return next((v for v in versions if wanted.items() <= v.tags.items()), None)


def _register(name: str, model: Path, evidence: Evidence, card: Path, own_run: str) -> tracking.Version:
    """A version made from the run that tuned the model, or from this run where MLflow does not know that one."""
    trained = evidence.runs.get("tune", "")
    run = trained if trained and tracking.run_exists(trained) else own_run
    if not run:
        raise VistuneError("no MLflow run to register the model from. Run `vistune promote`, which opens one.")
    code = Path(__file__).with_name("serving.py")
    requirement = f"vistune[train,track]=={vistune.__version__}"
    uri = tracking.log_vlm(model, code, run, name="model", requirements=[requirement], metadata=evidence.lineage)
    tags = {**evidence.lineage, GATE: evidence.verdict, REASONS: _json(evidence.reasons)}
    version = tracking.register_version(uri, name, run, tags)
    tracking.describe_version(name, version.version, _description(card.read_text(encoding="utf-8")))
    tracking.log_file(run, card)
    return version


def move(name: str, version: tracking.Version, expected: str) -> str:
    """Makes `version` the champion of `name` if the champion still is `expected` ("": none), and returns the one it
    replaces. Raises VistuneError, with nothing changed, when another one is champion."""
    current = _number(tracking.get_alias(name, CHAMPION))
    if current != expected:
        raise VistuneError(
            f"the champion of {name} changed from version {expected or 'none'} to {current or 'none'} while version "
            f"{version.version} was being decided; nothing was moved. Look at the new champion, then run "
            "`vistune promote` again."
        )
    if current == version.version:
        return version.tags.get(REPLACED, "")
    if current:
        tracking.set_alias(name, PREVIOUS, current)
    tracking.set_version_tag(name, version.version, REPLACED, current)
    tracking.set_alias(name, CHAMPION, version.version)
    return current


def rollback(name: str, home: Path) -> str:
    """Makes the previous champion the champion again, marks the one it replaces, and says so in a sentence."""
    check_name(name)
    if not tracking.enabled():
        raise VistuneError("rollback needs MLflow: unset VISTUNE_TRACKING.")
    journal = Journal(home / FILE)
    with journal.locked():
        current, previous = tracking.get_alias(name, CHAMPION), tracking.get_alias(name, PREVIOUS)
        if current is None:
            raise VistuneError(f"{name} has no champion to roll back. Check the name, and MLFLOW_TRACKING_URI.")
        if previous is None or previous.version == current.version:
            raise VistuneError(
                f"{name} version {current.version} is its first champion: there is no previous one to roll back to."
            )
        reasons = (f"rolled back from version {current.version}",)
        event = _event("rollback", previous, current.version, previous.tags.get(GATE, ""), reasons, previous.tags)
        event = journal.append(event)
        tracking.set_version_tag(name, current.version, ROLLED_BACK, f"on {event['when']} by {event['who']}")
        _record(previous, event)
        older = previous.tags.get(REPLACED, "")
        tracking.set_alias(name, CHAMPION, previous.version)
        if older:
            tracking.set_alias(name, PREVIOUS, older)
        else:
            tracking.delete_alias(name, PREVIOUS)
    return f"{name}: version {previous.version} is champion again; version {current.version} was rolled back."


def _event(
    kind: str, version: tracking.Version, previous: str, verdict: str, reasons: Any, tags: Mapping[str, str]
) -> dict[str, Any]:
    evidence = {k: tags[k] for k in ("model.sha256", "scorecard.sha256", "release.sha256", "git.sha") if k in tags}
    return {
        "event": kind,
        "name": version.name,
        "version": version.version,
        "previous": previous,
        "verdict": verdict,
        "reasons": list(reasons),
        "evidence": evidence,
    }


def _once(journal: Journal, kind: str, version: tracking.Version, previous: str, evidence: Evidence) -> None:
    """Logs an event unless it is what the log says already: a rerun adds nothing, and a run that was killed between
    moving an alias and logging it is completed."""
    events = journal.events(version.name)
    if kind == "register":
        there = [e for e in events if e["version"] == version.version]
    else:
        there = [e for e in events if e["event"] in ("promote", "rollback")][-1:]
    if not any(e["version"] == version.version for e in there):
        reasons = evidence.reasons
        _record(version, journal.append(_event(kind, version, previous, evidence.verdict, reasons, evidence.lineage)))


def _record(version: tracking.Version, event: Mapping[str, Any]) -> None:
    """Keeps the event in the registry too, under the digest of the line it follows: never overwritten."""
    key = f"promotion.{event['when']}.{event['event']}"
    tracking.set_version_tag(version.name, version.version, key, canonical(event).decode())


def _description(card: str) -> str:
    """The model card, cut at a line to what every MLflow back end stores."""
    note = "\n\n(Cut here; the whole card is `model_card.md` among the artefacts of the version's run.)"
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
