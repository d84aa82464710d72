"""Forward: everything that made a sample. Backward: every sample that something made."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from vistune import cli, shards, store
from vistune.errors import VistuneError
from vistune.explain import explain, find
from vistune.imageshards import ShardedImages
from vistune.records import ImageRef, Lineage, Message, Region, Reject, Sample, SourceFile, conversation
from vistune.search import Query, names, search

SHA = "ab" * 32


def sample(n: int, **changes) -> Sample:
    """Number n of forty: two data sets, four templates, ids spread over the alphabet."""
    dataset = ("coco", "gqa")[n % 2]
    template = f"presence.en.0{1 + n % 4}@1+{('plain', 'yes_no')[n % 3 == 0]}@1"
    lineage = Lineage(f"{dataset}/{n // 2}", (str(100 + n), "7"), (SourceFile("boxes.json", "cd" * 32),), template)
    known = {
        "id": f"vt1:{chr(97 + n % 26)}{n:02d}xyz",
        "dataset": dataset,
        "split": "train",
        "task": ("presence", "locate")[n % 5 == 0],
        "method": "adapt",
        "instruction": "Is there a dog?",
        "input": "",
        "response": "yes",
        "messages": conversation([("Is there a dog?", "yes")]),
        "images": (ImageRef(SHA, 640, 480, "jpeg", f"images/ab/{SHA}.jpeg"),),
        "lineage": lineage,
        "licence": "CC-BY-4.0",
        "group": SHA,
        "choices": ("yes", "no"),
        "regions": (Region((1, 2, 30.5, 4), "dog", str(100 + n)),),
    }
    return Sample(**{**known, **changes})


@pytest.fixture
def small(monkeypatch):
    """Several shards of several row groups."""
    monkeypatch.setattr(shards, "SHARD_ROWS", 9)
    monkeypatch.setattr(shards, "GROUP_ROWS", 2)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # of many small files


@pytest.fixture
def release(tmp_path, small) -> Path:
    folder = tmp_path / "outputs/validate"
    store.write_samples(folder, [sample(n) for n in range(40)])
    store.write_rejects(folder, [])
    checks = [
        {"name": "box_outside", "level": "hard", "ids": []},
        {"name": "words", "level": "warning", "ids": [sample(3).id]},
    ]
    (folder / "checks.json").write_text(json.dumps({"checks": checks}))
    credit = {sample(0).images[0].path: {"licence": "CC BY 2.0", "attribution": "Ada, example.org"}}
    (folder / "attribution.json").write_text(json.dumps(credit))
    listed = {"datasets": [{"name": "gqa"}, {"name": "coco", "annotation_licence": "CC BY 4.0"}]}
    (folder.parent / "sources").mkdir()
    (folder.parent / "sources/sources.json").write_text(json.dumps(listed))
    return folder


def test_a_sample_is_explained_to_the_last_word(release):
    path = release / sample(8).images[0].path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"jpeg")
    text = explain(release, sample(8).id)
    lines = text.splitlines()
    assert lines[0] == f"sample      {sample(8).id} · presence · en · train · by adapt"
    assert lines[1] == f"kept        in {release} · passed box_outside"
    assert lines[2] == f"image       {path} · 640x480 jpeg"
    for said in (
        f"sha256 {SHA}",
        "licence CC BY 2.0 · attribution Ada, example.org",
        "licence     CC-BY-4.0 · attribution\n            annotations CC BY 4.0\n            sentences of",
        "source      coco/4",
        f"boxes.json · sha256 {'cd' * 32}",
        "annotations 108, 7",
        "template    presence.en.01@1: '{Is} there {a_name} in the picture?'",
        "plain@1: answered 'yes' or 'no'",
        "user        [image 0] Is there a dog?",
        "assistant   yes",
        "choice      yes\n            no",
        "region      dog · x 1 to 30.5, y 2 to 4 px · annotation 108",
    ):
        assert said in text, said


def test_warnings_of_the_release_are_told(release):
    assert "warned of words" in explain(release, sample(3).id)
    assert "warned" not in explain(release, sample(4).id)


def test_a_rejected_sample_is_explained_from_the_stage_that_made_it(release):
    gone = sample(77)
    store.write_samples(release.parent / "adapt", [sample(n) for n in range(40)] + [gone])
    store.write_rejects(release.parent / "adapt", [])
    store.write_rejects(release, [Reject("validate", gone.id, "duplicate_exact", "the same as another.")])
    text = explain(release, gone.id)
    assert "rejected    by validate: duplicate_exact, the same as another." in text and "kept" not in text
    assert f"kept        in {release}" in explain(release, sample(1).id)


def test_a_dialogue_of_a_teacher(release):
    line = Lineage("coco/1", ("1",), (), prompt="conversation@1", prompt_sha256="ef", teacher="grammar@1", request="r9")
    spoken = sample(
        90, lineage=line, method="self_instruct", messages=(Message("user", "One\ntwo"), Message("assistant", "3"))
    )
    store.write_samples(release, [spoken])
    text = explain(release, spoken.id)
    assert "prompt      conversation@1 · sha256 ef · teacher grammar@1 · request r9" in text
    assert "user        One\n            two" in text
    assert "template" not in text


def test_a_template_of_another_version_is_said_to_be_gone(release):
    store.write_samples(release, [sample(1, lineage=replace(sample(1).lineage, template="presence.en.01@99+plain@98"))])
    text = explain(release, sample(1).id)
    assert "presence.en.01@99: this version of its text is not installed" in text
    assert "plain@98: this version" in text


def test_every_turn_of_a_merged_conversation_names_its_template(release):
    both = "presence.en.01@1+plain@1 locate.en.01@1+plain@1+frame.en.01@1"
    store.write_samples(release, [sample(1, lineage=replace(sample(1).lineage, template=both))])
    lines = explain(release, sample(1).id).splitlines()
    assert [line[:36] for line in lines if line.startswith("template")] == [
        "template    presence.en.01@1: '{Is} ",
        "template    locate.en.01@1: " + next(x for x in lines if "locate.en.01@1" in x)[28:36],
    ]
    assert any(line.strip().startswith("frame.en.01@1: '") for line in lines)


def test_images_in_shards_are_found(release, tmp_path):
    data = tmp_path / "x"
    data.write_bytes(b"jpeg")
    digest = hashlib.sha256(b"jpeg").hexdigest()
    image = ImageRef(digest, 6, 4, "jpeg", f"images/{digest[:2]}/{digest}.jpeg")
    store.write_samples(release, [sample(1, images=(image,))])
    assert f"{image.path} (missing)" in explain(release, sample(1).id)
    ShardedImages(release).add([(image, data)])
    assert f"{image.path} in the shards of {release}" in explain(release, sample(1).id)


def test_every_id_is_found_and_by_every_unique_start(release):
    everything = {s.id: s for s in store.read_samples(release)}
    assert len(everything) == 40
    for id, s in everything.items():
        assert find(release, id) == [s]
    for id in [*list(everything)[::6], "vt1:v21xyz"]:
        for end in range(5, len(id)):
            fitting = [other for other in everything.values() if other.id.startswith(id[:end])]
            assert find(release, id[:end]) == fitting[:11]
            assert find(release, id[4:end]) == fitting[:11]


def test_only_the_shard_that_can_hold_it_is_opened(release):
    wanted = store.shards(release, "samples")[2]
    for shard in store.shards(release, "samples"):
        if shard.name != wanted.name:
            (release / shard.name).write_bytes(b"not parquet")
    assert [s.id for s in find(release, wanted.last)] == [wanted.last]


def test_an_ambiguous_start_and_an_unknown_id(release):
    with pytest.raises(
        VistuneError, match=r"a0 is the start of several ids in .*: vt1:a00xyz.*Give more of it"
    ) as error:
        store.write_samples(release, [sample(0), sample(0, id="vt1:a01xyz")])
        explain(release, "a0")
    assert "vt1:a01xyz" in str(error.value)
    with pytest.raises(VistuneError, match=r"no sample in .*validate has the id zz.* Ids start with vt1:"):
        explain(release, "zz")
    with pytest.raises(VistuneError, match=r"holds no records \(records\.json is missing\)"):
        explain(release.parent / "nowhere/at all", "vt1:a")


QUERIES = [
    Query(source="coco"),
    Query(template="presence.en.02"),
    Query(template="presence.en.02@1"),
    Query(template="yes_no"),
    Query(annotation="7"),
    Query(annotation="123"),
    Query(source="gqa", template="plain"),
    Query(source="coco", annotation="108"),
    Query(source="coco", template="presence.en.01", annotation="7"),
]


def fits(s: Sample, query: Query) -> bool:
    return (
        (not query.source or s.dataset == query.source)
        and (not query.annotation or query.annotation in s.lineage.annotation_ids)
        and (
            not query.template or any(query.template in (p, p.partition("@")[0]) for p in s.lineage.template.split("+"))
        )
    )


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_the_way_back_finds_what_a_look_at_every_row_finds(release, query):
    expected = [(s.id, s.task) for s in store.read_samples(release) if fits(s, query)]
    assert expected
    assert list(search(release, query)) == expected


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), min_size=1, max_size=12), st.sampled_from("abcdef"))
def test_annotations_of_any_rows_are_found(tmp_path_factory, rows, wanted):
    """Empty lists, repeated ids, and lists that end at a row group's end."""
    folder = tmp_path_factory.mktemp("records")
    samples = [sample(n, lineage=replace(sample(n).lineage, annotation_ids=tuple(ids))) for n, ids in enumerate(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "GROUP_ROWS", 3)
        patch.setattr(shards, "SHARD_ROWS", 5)
        patch.setattr("os.fsync", lambda descriptor: None)
        store.write_samples(folder, samples)
    expected = sorted(s.id for s in samples if wanted in s.lineage.annotation_ids)
    if expected:
        assert [id for id, _ in search(folder, Query(annotation=wanted))] == expected
    else:
        with pytest.raises(VistuneError, match=f"no sample in .* rests on annotation {wanted}"):
            list(search(folder, Query(annotation=wanted)))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (Query(source="coc"), "is of data set 'coc'; did you mean 'coco'"),
        (Query(source="quite other"), "is of data set 'quite other'; it has coco, gqa"),
        (Query(template="presence.en.9"), "has template 'presence.en.9'; did you mean 'presence.en.04'"),
        (Query(template="presence.en.01@2"), "has template 'presence.en.01@2'; did you mean 'presence.en.01@1'"),
        (Query(annotation="nothing"), "rests on annotation nothing"),
        (Query(source="gqa", annotation="100"), "rests on annotation 100 and source gqa"),
    ],
)
def test_a_query_without_an_answer_says_why(release, query, said):
    with pytest.raises(VistuneError) as error:
        list(search(release, query))
    assert said in str(error.value)


def test_names_of_templates():
    assert names("a@1+b@2", "b") and names("a@1+b@2", "b@2") and names("a@1+b@2 c@1+d@1", "c")
    assert not names("a@1+b@2", "b@1") and not names("ab@1", "a") and not names("", "a")


def test_the_command(release):
    where = ("--release", str(release))
    shown = CliRunner().invoke(cli.app, ["explain", sample(5).id, *where])
    assert (shown.exit_code, shown.output) == (0, explain(release, sample(5).id) + "\n")
    listed = CliRunner().invoke(cli.app, ["explain", "--source", "coco", "--annotation", "108", *where])
    assert listed.output == f"{sample(8).id}\tpresence\n"
    for wrong in ([], [sample(5).id, "--source", "coco"]):
        with pytest.raises(VistuneError, match="either an id, or some of --annotation"):
            CliRunner().invoke(cli.app, ["explain", *wrong, *where], catch_exceptions=False)


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    store.write_samples(tmp_path, [sample(n % 40, id=f"vt1:{n:020d}") for n in range(5000)])  # more than a pipe holds
    command = f"{sys.executable} -m vistune.cli explain --annotation 7 --release {tmp_path} | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"vt1:{0:020d}\tlocate\n")
