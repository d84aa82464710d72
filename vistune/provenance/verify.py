"""`vistune verify-lineage`: walks from a model version back to its sources, reads everything again, and names the first
link that does not hold.

    model version - its tags - weights - scorecard - promotion log - outputs of tune, validate and sources - what DVC
    records of them, and its remote - MLflow runs with their inputs - git commit and its code - image, Kubeflow run

A link is broken when what is found is not what was recorded; it is skipped when there is nothing here to compare with,
which is said.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from vistune import lineage, tracking
from vistune.errors import VistuneError
from vistune.files import read_json, tree_digest
from vistune.hashing import file_digest
from vistune.pins import DVC, Tracked
from vistune.promote.champion import ANSWERS
from vistune.promote.evidence import STAGES, evaluation_digest, evidence_folder
from vistune.promote.journal import FILE, Journal
from vistune.promote.registry import GATE, MOVES, history
from vistune.provenance.kubeflow import run_of
from vistune.provenance.places import executed, outputs_of, scorecard_file, version_of
from vistune.stages import EXECUTION, RECEIPT, home
from vistune.store import open_store, verify

REQUIRED = ("model.sha256", "scorecard.sha256", "release.sha256", "evaluation.sha256", "git.sha", "git.dirty")
"""Tags of every version that `promote` has registered from a git checkout or an image."""


@dataclass(frozen=True)
class Link:
    """One thing that was looked at."""

    name: str
    state: Literal["holds", "broken", "skipped"]
    detail: str  # what was compared; of a broken link, what differs and what to do


class _Broken(Exception):
    """What differs, and what to do."""


class _Skipped(Exception):
    """Why there is nothing to compare."""


def walk(target: str, beside: Path = Path("outputs")) -> Iterator[Link]:
    """The links of a version (see `places.version_of`), up to the first that is broken. `beside`: the folder of stage
    outputs, looked at beside the store of finished stages."""
    with contextlib.ExitStack() as held:
        chain = _Chain(version_of(target), beside, scorecard_file(target), held)
        for name, check in chain.links():
            try:
                yield Link(name, "holds", check())
            except _Skipped as skipped:
                yield Link(name, "skipped", str(skipped))
            except (_Broken, VistuneError, OSError, ValueError, KeyError) as problem:
                yield Link(name, "broken", str(problem))
                return


class _Chain:
    def __init__(self, version: tracking.Version, beside: Path, card: Path | None, held: contextlib.ExitStack) -> None:
        self.version, self.tags, self.beside, self.card = version, version.tags, beside, card
        self.held, self.model = held, Path()

    def links(self) -> Iterator[tuple[str, Callable[[], str]]]:
        yield "model version", self.registered
        yield "tags", self.recorded
        yield "model weights", self.weights
        yield "scorecard", self.scorecard
        yield "promotion log", self.log
        for stage in reversed(STAGES):
            yield f"output of {stage}", partial(self.output, stage)
        for stage in reversed(STAGES):
            if f"{stage}.run_id" in self.tags:
                yield f"MLflow run of {stage}", partial(self.run, stage)
        if any(text.startswith(DVC) for text in self.pins().values()):
            yield "data under DVC", self.under_dvc
        yield "git commit", self.commit
        yield "code", self.code
        yield "DVC remote", self.remote
        yield "image", self.image
        yield "Kubeflow run", self.kubeflow

    def registered(self) -> str:
        v = self.version
        try:
            self.model = self.held.enter_context(tracking.model_files(v))
        except VistuneError as error:
            raise _Broken(
                f"the files of {v.name} version {v.version} cannot be had: they were deleted from the artefact store, "
                f"or lie on another machine. Restore them, or promote the model again. ({error})"
            ) from None
        aliases = f" ({', '.join(v.aliases)})" if v.aliases else ""
        return f"{v.name} version {v.version}{aliases}"

    def recorded(self) -> str:
        """The tags say all that is needed, and what the model's own files say."""
        missing = [key for key in REQUIRED if not self.tags.get(key)]
        if missing:
            raise _Broken(
                f"version {self.version.version} has no tag {missing[0]}: it was not registered by `vistune promote` "
                "from committed code, or the tag was deleted. Promote it again."
            )
        said = tracking.model_metadata(self.model)
        for key, value in said.items():
            if self.tags.get(key) != str(value)[:5000]:
                raise _Broken(
                    f"tag {key} is {_short(self.tags.get(key, ''))}, and the model's own metadata says "
                    f"{_short(str(value))}. Somebody changed the tag: set it back, or register the model again."
                )
        return f"{len(said)} ids, as in the model's own metadata"

    def weights(self) -> str:
        folder = self.model / "artifacts" / "model"
        self.same("the registered model", tree_digest(folder), "model.sha256", "register the model again")
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        return f"{size / 1e6:,.1f} MB give {_short(self.tags['model.sha256'])}"

    def scorecard(self) -> str:
        """The copy that the registry keeps, and the file that was asked about."""
        again, kept = "evaluate and promote again", evidence_folder(self.tags["scorecard.sha256"])
        card, verdict = (tracking.run_file(self.version.run_id, f"{kept}/{n}.json") for n in ("scorecard", "verdict"))
        self.same("the kept scorecard", hashlib.sha256(card).hexdigest(), "scorecard.sha256", again)
        if "answers.sha256" in self.tags:
            held = hashlib.sha256(tracking.run_file(self.version.run_id, f"{kept}/{ANSWERS}")).hexdigest()
            self.same("the kept answers", held, "answers.sha256", again)
        if self.card is not None:
            self.same(str(self.card), file_digest(self.card), "scorecard.sha256", again)
        self.same(
            "the model that the scorecard is about", json.loads(card)["models"].get("tuned"), "model.sha256", again
        )
        said = json.loads(verdict)["verdict"]
        if said != self.tags.get(GATE):
            raise _Broken(f"the kept verdict is {said}, and tag {GATE} says {self.tags.get(GATE)}. Set the tag back.")
        return f"{_short(self.tags['scorecard.sha256'])}, verdict {said}"

    def log(self) -> str:
        v = self.version
        events = history(v.name)
        journal = Journal(home() / FILE)
        journal.check(events)
        own = [e for e in events if e["version"] == v.version]
        if not own:
            raise _Broken(f"no event of version {v.version} is in the registry: its tags promotion.* were deleted.")
        for event in own:
            changed = [k for k, value in event["evidence"].items() if self.tags.get(k) != value]
            if changed:
                raise _Broken(
                    f"the {event['event']} of {event['when']} was about another {changed[0]} than the tag says."
                )
        moves = [e for e in events if e["event"] in MOVES]
        if "champion" in v.aliases and (not moves or moves[-1]["version"] != v.version):
            last = f"version {moves[-1]['version']}" if moves else "none"
            raise _Broken(
                f"version {v.version} is champion, and the log's last champion is {last}: the alias was moved by hand. "
                "Move it back, then promote or roll back with vistune."
            )
        here = len(journal.events(v.name))
        return f"{len(own)} of {len(events)} events are about this version; {here} of them in {journal.path.name} here"

    def output(self, stage: str) -> str:
        """A stage's output is the one recorded, was made from the recorded inputs, and DVC would name it the same."""
        places = list(outputs_of(stage, self.tags, self.beside))
        if not places:
            raise _Skipped(f"not on this machine. `dvc pull outputs/{stage}` brings it, if it was pushed")
        for folder, done in places:
            what, again = f"{folder}", f"restore it (`dvc checkout`) or run `vistune {stage}` again"
            if stage == "validate":
                verify(folder)
                open_store(folder).verify()
                self.same(
                    f"{folder}/release.json", read_json(folder / "release.json")["digest"], "release.sha256", again
                )
            self.same(what, tree_digest(folder, (RECEIPT, EXECUTION)), f"{stage}.digest", again)
            if stage == "evaluate":
                self.same(f"what {folder} asked", evaluation_digest(folder), "evaluation.sha256", again)
                self.same(f"{folder}/scorecard.json", file_digest(folder / "scorecard.json"), "scorecard.sha256", again)
            if stage == "tune":
                self.same(f"{folder}/model", tree_digest(folder / "model"), "model.sha256", again)
            if md5 := self.tags.get(f"dvc.{stage}.md5"):
                self.same(f"DVC's md5 of {folder}", lineage.dvc_md5(folder), f"dvc.{stage}.md5", again)
            for upstream, digest in done.inputs.items() if executed(folder) else ():
                if upstream in STAGES:
                    self.same(f"the {upstream} that {folder} was made from", digest, f"{upstream}.digest", again)
        return f"{_short(self.tags[f'{stage}.digest'])}{f', DVC md5 {md5}' if md5 else ''}, in {places[0][0]}"

    def run(self, stage: str) -> str:
        run = self.tags[f"{stage}.run_id"]
        facts = tracking.run_facts(run)
        if facts is None:
            raise _Broken(
                f"MLflow does not know run {run}: it was deleted, or lies on another server. Restore it (`mlflow gc` "
                "keeps deleted runs for a while), or set MLFLOW_TRACKING_URI."
            )
        self.same(
            f"tag vistune.digest of run {run}", facts.tags.get("vistune.digest"), f"{stage}.digest", "run it again"
        )
        wrong = self.misread(facts.inputs)
        if wrong:
            raise _Broken(f"run {run} read {wrong[0]} {_short(wrong[1])}, and the version was made from another.")
        return f"{run}{' read ' + ', '.join(sorted(facts.inputs)) if facts.inputs else ''}"

    def misread(self, inputs: Mapping[str, str]) -> tuple[str, str] | None:
        for name, digest in inputs.items():
            if name in STAGES and digest != self.tags.get(f"{name}.digest"):
                return name, digest
        return None

    def pins(self) -> dict[str, str]:
        return {key: text for key, text in self.tags.items() if key.startswith("pin.")}

    def under_dvc(self) -> str:
        """What the parameters named under DVC still has, at that commit, the recorded md5."""
        recorded = {key: Tracked.read(text) for key, text in self.pins().items() if text.startswith(DVC)}
        for key, data in recorded.items():
            try:
                found = lineage.pin(replace(data, md5=""))
            except VistuneError as error:
                raise _Skipped(str(error)) from None
            if found != data:
                raise _Broken(
                    f"{data.path} at commit {data.revision[:12]} has md5 {found.md5}, and tag {key} says {data.md5}: "
                    "the tag or the repository's history was changed. Restore it."
                )
        return ", ".join(f"{data.path} {_short(data.md5)}" for data in recorded.values())

    def commit(self) -> str:
        if self.tags["git.dirty"] != "false":
            raise _Broken(
                f"it was promoted from commit {_short(self.tags['git.sha'])} with uncommitted changes, which nobody "
                "can look up. Commit them, and run the pipeline again."
            )
        if not lineage.git()[0]:
            raise _Skipped("no git repository here")
        for key, sha in sorted(self.shas().items()):
            if not lineage.commit_exists(sha):
                raise _Broken(f"{key}: this repository has no commit {sha}. Fetch it (`git fetch`), or look elsewhere.")
        return ", ".join(sorted({_short(sha) for sha in self.shas().values()}))

    def shas(self) -> dict[str, str]:
        return {key: value for key, value in self.tags.items() if key == "git.sha" or key.endswith(".git.sha")}

    def code(self) -> str:
        """Each stage's code, as its commit has it, is the code that ran."""
        if not lineage.git()[0]:
            raise _Skipped("no git repository here")
        ran = {stage: self.tags[f"{stage}.code"] for stage in STAGES if self.tags.get(f"{stage}.code")}
        for sha in {self.tags.get(f"{stage}.git.sha", "") for stage in ran}:
            stages = [stage for stage in ran if self.tags.get(f"{stage}.git.sha", "") == sha]
            if not sha:
                raise _Broken(
                    f"the code that ran stage {stages[0]} is of no recorded commit. Run it again and promote."
                )
            there = lineage.code_at(sha, stages)
            if not there:
                raise _Skipped(f"the code of commit {_short(sha)} cannot be hashed here")
            for stage in stages:
                if there[stage] != ran[stage]:
                    raise _Broken(
                        f"the code that ran stage {stage} (digest {_short(ran[stage])}) is not that of commit "
                        f"{_short(sha)} (digest {_short(there[stage])}). Run the stage again from that commit."
                    )
        return f"of {', '.join(ran)}, hashed again"

    def remote(self) -> str:
        if "dvc.remote" not in self.tags:
            raise _Skipped("none was configured when it was promoted")
        md5 = self.tags["dvc.sources.md5"]
        missing = lineage.missing_in_remote(md5)
        if missing:
            raise _Broken(f"{self.tags['dvc.remote']} lacks {missing[0]} of the sources ({md5}). Run `dvc push`.")
        return f"{self.tags['dvc.remote']} holds the sources"

    def image(self) -> str:
        image = self.tags.get("image", "")
        if not image:
            raise _Skipped("it ran without a container")
        if "@sha256:" not in image:
            raise _Broken(
                f"image {image} is named by a tag, which can move. Run the pipeline with VISTUNE_IMAGE=...@sha256:..."
            )
        return image

    def kubeflow(self) -> str:
        run = self.tags.get("kfp.run_id", "")
        if not run:
            raise _Skipped("it did not run on Kubeflow Pipelines")
        found, wanted = run_of(run), self.tags.get("kfp.pipeline_version_id", "")
        if found is None:
            raise _Skipped(f"run {run}: KFP_ENDPOINT is not set")
        version = (found.get("pipeline_version_reference") or {}).get("pipeline_version_id", "")
        if wanted and version != wanted:
            raise _Broken(f"Kubeflow run {run} is of pipeline version {version}, and the tag says {wanted}.")
        return f"{run} of pipeline version {version}, {str(found.get('state', '')).lower()}"

    def same(self, what: str, found: Any, key: str, do: str) -> None:
        wanted = self.tags.get(key, "")
        if found != wanted:
            raise _Broken(
                f"{what} gives {_short(str(found))}, and the version's tag {key} says {_short(wanted)}. It was changed "
                f"since: {do}."
            )


def _short(text: str) -> str:
    return f"{text[:12]}…" if len(text) > 40 else text or "nothing"
