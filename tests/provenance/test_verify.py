"""Each link of the chain is broken in turn, and it is that link which is named."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from vistune import lineage, tracking
from vistune.errors import VistuneError
from vistune.pins import Tracked
from vistune.provenance import verify
from vistune.provenance.verify import walk
from vistune.stages import EXECUTION

WHOLE = "models:/vistune-demo@champion"


def broken(target: str = WHOLE) -> tuple[str, str]:
    """The last link that was looked at, which must be the broken one."""
    found = list(walk(target))
    assert [link.state for link in found[:-1]].count("broken") == 0
    assert found[-1].state == "broken", found
    return found[-1].name, found[-1].detail


def test_a_whole_chain_holds(chain):
    found = {link.name: link for link in walk(WHOLE)}
    assert [name for name, link in found.items() if link.state == "broken"] == []
    skipped = {name for name, link in found.items() if link.state == "skipped"}
    assert skipped == {"code", "DVC remote", "image", "Kubeflow run"}  # this repository holds no code, nor a remote
    assert found["model version"].detail == "vistune-demo version 2 (challenger, champion)"
    assert found["MLflow run of tune"].detail.endswith(" read validate")
    assert found["git commit"].detail == lineage.git()[0]
    assert found["promotion log"].detail.startswith("2 of 4 events are about this version; 4 of them")


def test_a_version_has_several_names(chain):
    card = chain.folders["evaluate"] / "scorecard.json"
    for target in ("vistune-demo@champion", "models:/vistune-demo/2", str(card), str(card.parent)):
        first = next(iter(walk(target)))
        assert first.detail.startswith("vistune-demo version 2"), target
    first = next(iter(walk("models:/vistune-demo/1")))
    assert first.detail == "vistune-demo version 1 (previous_champion)"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "models:/vistune-demo@best",
            "vistune-demo has no alias 'best'; it has challenger, champion, previous_champion",
        ),
        ("models:/other@champion", "there is no such model"),
        ("models:/vistune-demo/9", "refused"),
        ("vistune-demo", "names no model version"),
    ],
)
def test_what_names_nothing_is_an_error(chain, target, message):
    with pytest.raises(VistuneError, match=message):
        list(walk(target))


def test_first_model_is_whole_but_its_output_was_replaced(chain):
    """The folder ./outputs/tune holds the second model; the first is known by its registry copy."""
    states = {link.name: link.state for link in walk("models:/vistune-demo/1")}
    assert (states["model weights"], states["output of tune"]) == ("holds", "skipped")
    assert "broken" not in states.values()


@pytest.mark.parametrize(
    ("file", "link", "message"),
    [
        ("validate/samples-00000.parquet", "output of validate", "samples-00000.parquet was changed"),
        ("validate/attribution.json", "output of validate", "tag validate.digest says"),
        ("validate/release.json", "output of validate", "tag release.sha256 says"),
        ("sources/sources.json", "output of sources", "tag sources.digest says"),
        ("tune/model/model.safetensors", "output of tune", "tag tune.digest says"),
        ("evaluate/answers.jsonl", "output of evaluate", "tag evaluate.digest says"),
        ("evaluate/scorecard.json", "output of evaluate", "tag evaluate.digest says"),
    ],
)
def test_a_changed_file_is_found(chain, change, file, link, message):
    path = chain.root / "outputs" / file
    data = path.read_bytes()
    other = json.dumps(json.loads(data) | {"digest": "0" * 64}).encode() if path.name == "release.json" else b"x" + data
    with change(path, other):
        name, detail = broken()
    assert (name, message in detail, "run `vistune" in detail or "Restore" in detail) == (link, True, True), detail


def test_a_changed_image_is_found(chain, change):
    path = next(iter(sorted((chain.folders["validate"] / "images").rglob("*.png"))))
    with change(path, b"another picture"):
        name, detail = broken()
    assert name == "output of validate" and path.name[:12] in detail


def test_a_release_that_was_made_from_other_sources(chain, change):
    path = chain.folders["validate"] / EXECUTION
    made = json.loads(path.read_text())
    with change(path, json.dumps(made | {"inputs": {"sources": "0" * 64}}).encode()):
        name, detail = broken()
    assert name == "output of validate" and "the sources that" in detail and "sources.digest" in detail


def test_changed_weights_and_metadata_of_the_registered_model(chain, change):
    folder = tracking.model_folder(WHOLE)
    with change(folder / "artifacts/model/model.safetensors", b"other weights"):
        name, detail = broken()
    assert name == "model weights" and "the registered model gives" in detail
    text = (folder / "MLmodel").read_bytes()
    with change(folder / "MLmodel", text.replace(b"seed: '7'", b"seed: '8'")):
        assert broken()[0] == "tags"


def test_a_model_whose_files_are_gone(chain):
    folder = tracking.model_folder(WHOLE)
    folder.rename(folder.with_name("away"))
    try:
        name, detail = broken()
    finally:
        folder.with_name("away").rename(folder)
    assert name == "model version" and "were deleted from the artefact store" in detail


def other(data: bytes) -> bytes:
    for word, instead in (
        (b"demo", b"Demo"),
        (b'"verdict": "pass"', b'"verdict": "fail"'),
        (b'"item":"a"', b'"item":"b"'),
    ):
        data = data.replace(word, instead)
    return data


def test_a_changed_scorecard(chain, change):
    folder = verify.evidence_folder(chain.champion.tags["scorecard.sha256"])
    kept = chain.root / ".vistune/mlartifacts" / chain.champion.run_id / "artifacts" / folder
    for file, message in [
        ("scorecard.json", "tag scorecard.sha256 says"),
        ("verdict.json", "the kept verdict is fail"),
        ("answers.jsonl", "tag answers.sha256 says"),
    ]:
        data = (kept / file).read_bytes()
        with change(kept / file, other(data)):
            name, detail = broken()
        assert (name, message in detail) == ("scorecard", True), detail
    path = chain.folders["evaluate"] / "scorecard.json"
    with change(path, b"{}"), pytest.raises(VistuneError, match="it was changed since, or never promoted"):
        list(walk(str(path)))


@pytest.mark.parametrize("key", ["release.sha256", "git.sha", "tune.digest", "tune.run_id", "seed"])
def test_a_changed_tag(chain, retag, key):
    with retag(chain.champion, key, "0" * 40):
        name, detail = broken()
    assert name == "tags" and f"tag {key} is 000000000000" in detail and "set it back" in detail


def test_a_deleted_tag(chain, retag):
    with retag(chain.champion, "evaluation.sha256", ""):
        assert broken() == ("tags", broken()[1]) and "has no tag evaluation.sha256" in broken()[1]


def test_an_alias_that_was_moved_by_hand(chain):
    tracking.set_alias("vistune-demo", "champion", "1")
    try:
        name, detail = broken("models:/vistune-demo/1")
    finally:
        tracking.set_alias("vistune-demo", "champion", "2")
    assert name == "promotion log" and "the log's last champion is version 2" in detail


def test_a_log_with_a_line_less(chain, change):
    log = chain.root / ".vistune/promotions.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    with change(log, b"".join(lines[:-1])):
        assert broken()[0] == "promotion log"
    with change(log, b"".join(lines[:1] + lines[2:])):
        name, detail = broken()
    assert name == "promotion log" and "was edited: line 2" in detail


@pytest.mark.parametrize("stage", ["sources", "validate", "tune", "evaluate"])
def test_a_missing_run(chain, stage):
    run = chain.champion.tags[f"{stage}.run_id"]
    client = tracking.runs.connect()
    client.delete_run(run)
    try:
        name, detail = broken()
    finally:
        client.restore_run(run)
    assert name == f"MLflow run of {stage}" and f"does not know run {run}" in detail


def test_a_run_that_made_something_else(chain):
    run, client = chain.champion.tags["tune.run_id"], tracking.runs.connect()
    digest = chain.champion.tags["tune.digest"]
    client.set_tag(run, "vistune.digest", "0" * 64)
    try:
        assert broken()[0] == "MLflow run of tune"
    finally:
        client.set_tag(run, "vistune.digest", digest)


def test_a_commit_that_is_not_here(chain, monkeypatch):
    monkeypatch.setattr(lineage, "commit_exists", lambda sha: False)
    name, detail = broken()
    assert name == "git commit" and "this repository has no commit" in detail and "git fetch" in detail


def test_code_of_another_commit(chain, monkeypatch):
    told = {stage: f"code-{stage}" for stage in verify.STAGES}
    monkeypatch.setattr(lineage, "code_at", lambda sha, stages: told)
    assert {link.name: link.state for link in walk(WHOLE)}["code"] == "holds"
    monkeypatch.setattr(lineage, "code_at", lambda sha, stages: told | {"tune": "0" * 64})
    name, detail = broken()
    assert name == "code" and "the code that ran stage tune" in detail


def test_a_remote_an_image_and_a_kubeflow_run(chain, monkeypatch):
    """What only some versions have, on one that has them all."""
    tags = chain.champion.tags | {"dvc.remote": "s3://bucket", "image": "registry/vistune@sha256:1"}
    tags |= {"kfp.run_id": "r-1", "kfp.pipeline_version_id": "v-1"}
    link = verify._Chain(chain.champion, Path("outputs"), None, contextlib.ExitStack())
    link.tags = tags
    monkeypatch.setattr(lineage, "missing_in_remote", lambda md5: [])
    monkeypatch.setattr(verify, "run_of", lambda run: {"pipeline_version_reference": {"pipeline_version_id": "v-1"}})
    assert [link.remote(), link.image(), link.kubeflow()][0] == "s3://bucket holds the sources"
    monkeypatch.setattr(lineage, "missing_in_remote", lambda md5: ["a.jpg"])
    monkeypatch.setattr(verify, "run_of", lambda run: {"pipeline_version_reference": {"pipeline_version_id": "v-2"}})
    link.tags = tags | {"image": "registry/vistune:latest"}
    for check, message in [
        (link.remote, "s3://bucket lacks a.jpg of the sources"),
        (link.image, "is named by a tag, which can move"),
        (link.kubeflow, "is of pipeline version v-2, and the tag says v-1"),
    ]:
        with pytest.raises(verify._Broken, match=message):
            check()


def test_data_under_dvc_has_the_recorded_md5(chain, monkeypatch):
    data = Tracked("https://git.example/shelf.git", "data", "a" * 40, "b" * 32 + ".dir")
    there = {"data": data}
    version = replace(chain.champion, tags={**chain.champion.tags, "pin.sources.datasets.0.images": str(data)})
    monkeypatch.setattr(lineage, "pin", lambda asked: there[asked.path])
    monkeypatch.setattr(verify, "version_of", lambda _: version)
    assert {link.name: link.state for link in walk(WHOLE)}["data under DVC"] == "holds"
    there["data"] = replace(data, md5="c" * 32 + ".dir")
    name, detail = broken()
    assert name == "data under DVC" and f"has md5 {'c' * 32}.dir, and tag pin.sources.datasets.0.images" in detail
