"""The whole stage, on COCO files, with both teachers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from vistune.english import plural
from vistune.errors import VistuneError
from vistune.files import tree_digest
from vistune.params import parse
from vistune.records import Category
from vistune.self_instruct import Params, run
from vistune.self_instruct.generate import choose_images, generate
from vistune.self_instruct.prompts import KINDS, load
from vistune.self_instruct.teachers import GrammarTeacher
from vistune.stages import Context
from vistune.store import read_rejects, read_samples

ALL = dict.fromkeys(KINDS, 1.0)
TWO = {"conversation": 1.0, "detail": 1.0}


@pytest.fixture
def write(tmp_path, context):
    """`write(images, seed=0, **params)` runs the grammar teacher and returns output folder and summary."""
    outputs = []

    def run_once(images, rejects=(), seed=0, **params):
        outputs.append(tmp_path / f"grammar{len(outputs)}")
        params = Params(**{"kinds": ALL, **params})
        return outputs[-1], generate(
            images, list(rejects), GrammarTeacher(), params, outputs[-1], replace(context, seed=seed)
        )

    return run_once


def test_a_run_on_coco_files(corpus, tmp_path, context):
    summary = run(Params(images=100, kinds=ALL), {"sources": corpus}, tmp_path / "out", context)
    samples, rejects = list(read_samples(tmp_path / "out")), list(read_rejects(tmp_path / "out"))
    assert {s.lineage.annotated_image for s in samples} == {f"train/{n}" for n in range(8)}  # of 9, one without file
    assert all(s.split == "train" and s.method == "self_instruct" and s.licence == "CC0-1.0" for s in samples)
    assert Counter(r.reason for r in rejects)["image_missing"] >= 1
    counts = summary["counts"]
    assert counts["in"] == counts["out"] + sum(counts["rejected"].values())
    items = sum(len(s.messages) // 2 for s in samples)
    assert counts["out"] == items and sum(counts["rejected"].values()) == len(rejects)
    assert summary["metrics"]["samples"] == len(samples)
    assert summary["details"]["tasks"] == dict(Counter(s.task for s in samples))
    assert {e["task"] for e in summary["details"]["examples"]} == set(KINDS)
    assert len(summary["details"]["examples"]) == 8
    assert json.loads(json.dumps(summary)) == summary


def test_samples_are_whole(write, images):
    output, _ = write(images[:25])
    by_id = {image.id: image for image in images}
    seen = Counter()
    for s in read_samples(output):
        image = by_id[s.lineage.annotated_image]
        assert s.images == (image.image,) and s.group == image.image.sha256
        assert [m.role for m in s.messages] == ["user", "assistant"] * (len(s.messages) // 2)
        assert [m.images for m in s.messages] == [(0,)] + [()] * (len(s.messages) - 1)
        assert s.instruction == s.messages[-2].text and s.response == s.messages[-1].text
        before = [f"{'User' if m.role == 'user' else 'Assistant'}: {m.text}" for m in s.messages[:-2]]
        assert s.input == "\n".join(before)
        assert (s.polarity == "negative") == (s.task == "negative")
        assert s.task == "conversation" or len(s.messages) == 2
        assert s.lineage.prompt == f"{s.task}@1" and s.lineage.prompt_sha256 == load(s.task).sha256
        assert s.lineage.teacher == "grammar@1" and s.lineage.template == ""
        assert set(s.lineage.annotation_ids) == {a.id for a in (*image.objects, *image.captions)}
        boxes = {o.id: (o.box, o.category.label) for o in image.things}
        text = " ".join(m.text.lower() for m in s.messages)
        for region in s.regions:
            assert boxes[region.annotation_id] == (region.box, region.label)
            assert any(form.lower() in text for form in (region.label, plural(region.label)))
        seen[s.task, bool(s.regions)] += 1
    assert all(seen[kind, True] for kind in KINDS)
    requests = [json.loads(line) for line in (output / "requests.jsonl").read_text().splitlines()]
    assert {s.lineage.request for s in read_samples(output)} <= {r["id"] for r in requests}
    assert requests == sorted(requests, key=lambda r: (r["image"], KINDS.index(r["kind"]), r["attempt"]))


def test_regions_are_those_of_what_is_named(write, make):
    image = make(1, [("cat", (0, 0, 60, 60)), ("owl", (200, 0, 260, 60)), ("owl", (200, 100, 260, 160))])
    output, _ = write([image], kinds={"conversation": 1.0, "negative": 1.0})
    for s in read_samples(output):
        text = " ".join(m.text.lower() for m in s.messages)
        labels = Counter(r.label for r in s.regions)
        assert set(labels) == {label for label in ("cat", "owl") if label in text}
        assert labels["owl"] in (0, 2)  # a kind is named with all its instances


def test_two_runs_and_any_order_give_the_same_bytes(write, images):
    first, _ = write(images[:12])
    second, _ = write(images[:12])
    turned = [replace(i, objects=i.objects[::-1], captions=i.captions[::-1]) for i in reversed(images[:12])]
    third, _ = write(turned)
    other, _ = write(images[:12], seed=1)
    assert tree_digest(first) == tree_digest(second) == tree_digest(third) != tree_digest(other)


def test_leftovers_of_a_killed_run_are_replaced(write, images, context):
    clean, _ = write(images[:5])
    dirty = clean.parent / "dirty"
    dirty.mkdir()
    for name in ("samples-00000.parquet", "samples-00007.parquet", "requests.jsonl", ".requests.jsonl.x.tmp"):
        (dirty / name).write_bytes(b"half")
    generate(images[:5], [], GrammarTeacher(), Params(kinds=ALL), dirty, context)
    assert tree_digest(clean) == tree_digest(dirty)


def test_shares_of_kinds(write, images):
    output, summary = write(images, kinds={"conversation": 0.5, "detail": 0.0})
    rows = [json.loads(line) for line in (output / "requests.jsonl").read_text().splitlines()]
    assert {r["kind"] for r in rows} == {"conversation"}
    assert 0.35 * len(images) < len(rows) == summary["metrics"]["requests"] < 0.65 * len(images)
    more, _ = write(images, kinds={"conversation": 0.8})
    larger = {json.loads(line)["image"] for line in (more / "requests.jsonl").read_text().splitlines()}
    assert {r["image"] for r in rows} < larger  # a larger share keeps the images of the smaller one


def test_images_are_drawn_by_key(corpus):
    few, _ = choose_images(corpus, Params(images=3), 0)
    many, rejects = choose_images(corpus, Params(images=6), 0)
    assert [i.id for i in few] == [i.id for i in many][:3] and len(many) == 6
    assert {i.dataset for i in many} == {"train"} and {r.stage for r in rejects} == {"self_instruct"}
    assert [i.id for i in choose_images(corpus, Params(images=3), 1)[0]] != [i.id for i in few]


def test_images_that_cannot_be_used_are_counted(write, make):
    good = make(1, [("cat", (0, 0, 60, 60)), ("owl", (200, 0, 260, 60))])
    bare = make(2, [], background="")
    unlicensed = make(3, [("cat", (0, 0, 60, 60))], licence=" ")
    output, summary = write([good, bare, unlicensed])
    reasons = {r.key: r.reason for r in read_rejects(output)}
    assert reasons["toy/2"] == "nothing_annotated" and reasons["toy/3"] == "licence_missing"
    assert summary["counts"]["rejected"]["licence_missing"] == 1
    assert {s.lineage.annotated_image for s in read_samples(output)} == {"toy/1"}


def test_bare_vocabulary_gives_no_negatives_about_absent_things(write, make):
    """Without a list of what was looked for, nothing is proven absent."""
    image = make(1, [("cat", (0, 0, 60, 60)), ("owl", (200, 0, 260, 60))], vocabulary=())
    output, _ = write([image], kinds={"conversation": 1.0, "negative": 1.0})
    for s in read_samples(output):
        text = " ".join(m.text for m in s.messages)
        assert not any(f" {c.label}" in text for c in make(9, []).vocabulary if c.label not in ("cat", "owl"))


def test_a_teachers_lies_go_to_the_rejects(write, images, monkeypatch):
    """What is wrong is dropped turn by turn; the rest of the dialogue stays."""

    def lying(kind, facts, seed):
        label = next(iter(facts.absent))
        return [("What do you see?", "I see a " + label + "."), ("Is that all?", "Yes."), ("Is there more?", "No.")]

    monkeypatch.setattr("vistune.self_instruct.teachers.compose", lying)
    output, summary = write(images[:5], kinds={"conversation": 1.0})
    assert summary["counts"] == {"in": 15, "out": 10, "rejected": {"ungrounded": 5}}
    assert summary["details"]["rules"]["ungrounded"] == 5 and summary["details"]["rules"]["echo"] == 0
    assert [len(s.messages) for s in read_samples(output)] == [4] * 5
    reject = next(read_rejects(output))
    assert reject.key.endswith("/conversation/0") and "| Q: What do you see? | A: I see a" in reject.detail


def test_nothing_kept_is_an_error(write, images, monkeypatch):
    monkeypatch.setattr("vistune.self_instruct.teachers.compose", lambda *_: [("What?", "As an AI I cannot.")])
    with pytest.raises(VistuneError, match=r"no dialogue of grammar@1 can be used: of 5 replies .*5 meta_leak"):
        write(images[:5], kinds={"conversation": 1.0})


def test_going_without_dialogues(corpus, tmp_path, context):
    for params in (Params(images=0), Params(kinds={}), Params(kinds={"detail": 0.0})):
        summary = run(params, {"sources": corpus}, tmp_path / "out", context)
        assert summary["counts"] == {"in": 0, "out": 0, "rejected": {}}
        assert list(read_samples(tmp_path / "out")) == []


def test_no_eligible_images_is_an_error(corpus, tmp_path, context):
    manifest = json.loads((corpus / "sources.json").read_text())
    manifest["datasets"] = [d for d in manifest["datasets"] if d["name"] != "train"]
    (corpus / "sources.json").write_text(json.dumps(manifest))
    with pytest.raises(VistuneError, match="no image to write dialogues about: of the 2 data sets"):
        run(Params(), {"sources": corpus}, tmp_path / "out", context)


@pytest.mark.parametrize(
    "kinds, message",
    [({"conversations": 1.0}, "did you mean self_instruct.kinds.conversation"), ({"detail": 1.5}, "from 0 to 1")],
)
def test_bad_kinds(corpus, tmp_path, context, kinds, message):
    with pytest.raises(VistuneError, match=message):
        run(Params(kinds=kinds), {"sources": corpus}, tmp_path / "out", context)


def test_params_parse():
    params = parse(Params, {"teacher": "openai", "kinds": {"detail": 1}, "temperature": None, "extra": {"n": 1}}, "x")
    assert params.kinds == {"detail": 1.0} and params.temperature is None
    with pytest.raises(VistuneError, match=r"did you mean x\.api_key_env"):
        parse(Params, {"api_key": "secret"}, "x")
    assert "secret" not in str(params)


def test_import_is_light():
    heavy = ("yaml", "openai", "pyarrow", "PIL", "rapidfuzz")
    code = f"import sys, vistune.self_instruct; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


CHILD = """
import sys
from pathlib import Path
from vistune.self_instruct import Params, run
from vistune.stages import Context

url, sources, output, home = sys.argv[1:]
params = Params(teacher="openai", model="fake-1", base_url=url, images=100, kinds={"conversation": 1.0, "detail": 1.0},
                concurrency=2)
print(run(params, {"sources": Path(sources)}, Path(output), Context(0, Path(home), Path(home)))["counts"])
"""


@pytest.mark.slow
def test_kill_9_and_again_pays_for_the_missing_only(server, corpus, tmp_path, monkeypatch):
    images, _ = choose_images(corpus, Params(images=100), 0)
    server.teach(images)
    server.misbehave = lambda body, n: ("sleep", 0.3 if len(server.answered) >= 7 else 0.0)
    environment = {**os.environ, "OPENAI_API_KEY": "k", "PYTHONPATH": str(Path(__file__).parents[2])}

    def start(output):
        arguments = [server.url, str(corpus), str(tmp_path / output), str(tmp_path / "home")]
        return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], env=environment, stderr=subprocess.PIPE)

    child = start("out")
    for _ in range(1200):
        if len(server.answered) >= 8 or child.poll() is not None:
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, child.stderr.read()
    child.stderr.close()
    (ledger,) = (tmp_path / "home" / "ledger").iterdir()
    recorded = ledger.read_bytes().count(b"\n")
    assert 5 <= recorded < 16
    ledger.write_bytes(ledger.read_bytes() + b'{"id": "torn')  # as a kill in the middle of a write leaves it

    server.misbehave = lambda body, n: None
    server.bodies.clear()
    again = start("out")
    assert again.wait(120) == 0, again.stderr.read()
    again.stderr.close()
    assert len(server.bodies) == 16 - recorded
    times = Counter(json.dumps(b, sort_keys=True) for b in server.answered)
    assert len(times) == 16 and sum(times.values()) <= 16 + 2  # twice at most what was under way: two at a time
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    clean = Params(teacher="openai", model="fake-1", base_url=server.url, images=100, kinds=TWO)
    run(clean, {"sources": corpus}, tmp_path / "clean", Context(0, tmp_path / "home", tmp_path))
    assert len(server.bodies) == 16 - recorded  # all from the ledger
    assert tree_digest(tmp_path / "out") == tree_digest(tmp_path / "clean")


def test_vocabulary_words_in_prompts_do_not_matter(write, make):
    """A vocabulary that holds words of everyday sentences costs turns, never the run."""
    image = make(1, [("cat", (0, 0, 60, 60)), ("owl", (200, 0, 260, 60))])
    image = replace(
        image, vocabulary=(*image.vocabulary, *(Category(w) for w in ("picture", "side", "corner", "order")))
    )
    _, summary = write([image])
    assert summary["counts"]["out"] >= 8
