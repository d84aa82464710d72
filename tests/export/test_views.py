"""Every view, read back as its consumers read it, has the ids, messages, image bytes and triples of the release."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from vistune.export import VIEWS

MARKER = "<image>"
ROLES = {"human": "user", "gpt": "assistant"}

Said = tuple[str, str, tuple[tuple[int, str], ...]]
"""Role, text, and place and digest of each image."""


def images_of(folder: Path, paths: list[str]) -> list[bytes]:
    return [(folder / path).read_bytes() for path in paths]


def unmarked(role: str, text: str, images: Iterator[bytes], after: str = "") -> Said:
    """The text without its markers, as a reader of the format takes them out."""
    found = []
    while after and text.startswith(MARKER + after):
        text = text.removeprefix(MARKER + after)
        found.append((0, hashlib.sha256(next(images)).hexdigest()))
    while MARKER in text:
        place = text.index(MARKER)
        text = text.replace(MARKER, "", 1)
        found.append((place, hashlib.sha256(next(images)).hexdigest()))
    return role, text, tuple(found)


def from_blocks(messages: list[dict[str, Any]], images: Iterator[bytes]) -> list[Said]:
    said = []
    for message in messages:
        text, found = "", []
        for block in message["content"]:
            if block["type"] == "image":
                found.append((len(text), hashlib.sha256(next(images)).hexdigest()))
            else:
                text += block["text"]
        said.append((message["role"], text, tuple(found)))
    return said


def with_system(row: dict[str, Any], said: list[Said]) -> list[Said]:
    return [("system", row["system"], ()), *said] if row.get("system") else said


def triple(about: dict[str, Any]) -> tuple[str, str, str]:
    return about["instruction"], about["input"], about["response"]


def read_llava(folder: Path) -> Iterator[tuple[Any, ...]]:
    for split in ("train", "validation"):
        yield from llava_rows(folder, json.loads((folder / f"{split}.json").read_text()), split)


def llava_rows(folder: Path, rows: list[dict[str, Any]], split: str) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        paths = row.get("image", [])
        images = iter(images_of(folder, [paths] if isinstance(paths, str) else paths))
        said = [unmarked(ROLES[t["from"]], t["value"], images, "\n") for t in row["conversations"]]
        assert not list(images), "as many markers as images"
        yield split, row["id"], with_system(row, said), triple(row["vistune"])


def read_internvl(folder: Path) -> Iterator[tuple[Any, ...]]:
    for split in ("train", "validation"):
        (name, meta), *rest = json.loads((folder / f"{split}_meta.json").read_text()).items()
        assert name == f"vistune_{split}" and not rest
        assert (meta["root"], meta["data_augment"], meta["repeat_time"]) == ("./", False, 1)
        rows = [json.loads(line) for line in (folder / meta["annotation"]).read_text().split("\n")[:-1]]
        assert len(rows) == meta["length"]
        for row in rows:
            if isinstance(row.get("image"), str):
                with Image.open(folder / row["image"]) as image:
                    assert image.size == (row["width"], row["height"])
            elif "image" in row:
                assert len(row["image"]) == len(row["width_list"]) == len(row["height_list"])
        yield from llava_rows(folder, rows, split)


def entries(folder: Path) -> Iterator[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    for name, entry in json.loads((folder / "dataset_info.json").read_text()).items():
        yield name.removeprefix("vistune_"), entry, json.loads((folder / entry["file_name"]).read_text())


def read_sharegpt(folder: Path) -> Iterator[tuple[Any, ...]]:
    for split, entry, rows in entries(folder):
        assert entry["formatting"] == "sharegpt"
        columns, tags = entry["columns"], entry["tags"]
        roles = {tags["user_tag"]: "user", tags["assistant_tag"]: "assistant"}
        for row in rows:
            images = iter(images_of(folder, row[columns["images"]]))
            turns = [(roles[t[tags["role_tag"]]], t[tags["content_tag"]]) for t in row[columns["messages"]]]
            said = [unmarked(role, text, images) for role, text in turns]
            assert not list(images), "LLaMA-Factory refuses rows with more images than markers"
            yield split, row["id"], with_system(row, said), triple(row["vistune"])


def read_alpaca(folder: Path) -> Iterator[tuple[Any, ...]]:
    for split, entry, rows in entries(folder):
        columns = entry["columns"]
        for row in rows:
            images = iter(images_of(folder, row[columns["images"]]))
            said = []
            for question, answer in row[columns["history"]]:
                said += [unmarked("user", question, images), unmarked("assistant", answer, images)]
            prompt, query = row[columns["prompt"]], row[columns["query"]]
            asked = unmarked("user", "\n".join(part for part in (prompt, query) if part), images)
            if "user" in row["vistune"]:
                asked = (asked[0], row["vistune"]["user"], asked[2])
            said += [asked, unmarked("assistant", row[columns["response"]], images)]
            assert not list(images)
            yield split, row["id"], with_system(row, said), triple(row["vistune"])


def read_messages(folder: Path) -> Iterator[tuple[Any, ...]]:
    for split in ("train", "validation"):
        for line in (folder / f"{split}.jsonl").read_text().split("\n")[:-1]:
            row = json.loads(line)
            images = iter(images_of(folder, row["images"]))
            yield split, row["id"], from_blocks(row["messages"], images), triple(row["vistune"])
            assert not list(images)


def read_hf(folder: Path) -> Iterator[tuple[Any, ...]]:
    for split in ("train", "validation"):
        for row in pq.read_table(folder / f"{split}-00000-of-00001.parquet").to_pylist():
            images = iter([image["bytes"] for image in row["images"]])
            yield split, row["id"], from_blocks(row["messages"], images), triple(row)
            assert not list(images)


def read_webdataset(folder: Path) -> Iterator[tuple[Any, ...]]:
    for split in ("train", "validation"):
        groups: dict[str, dict[str, bytes]] = {}
        with tarfile.open(folder / f"{split}-000000.tar") as tar:
            for member in tar:
                stem, _, suffix = member.name.partition(".")
                assert not groups or stem == [*groups][-1] or stem not in groups, "members of a sample lie together"
                groups.setdefault(stem, {})[suffix] = tar.extractfile(member).read()
        for members in groups.values():
            row = json.loads(members.pop("json"))
            images = iter(members.values())
            yield split, row["id"], from_blocks(row["messages"], images), triple(row["vistune"])
            assert not list(images)


READERS = {
    "llava": read_llava,
    "sharegpt": read_sharegpt,
    "alpaca": read_alpaca,
    "messages": read_messages,
    "hf": read_hf,
    "webdataset": read_webdataset,
    "internvl": read_internvl,
}


def upright(tiny, digest: str) -> bytes:
    """The pixels of an image as people see it."""
    image = next(i for i in tiny.images.values() if i.sha256 == digest)
    with Image.open(tiny.folder / image.path) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB").tobytes()


def expected(tiny) -> dict[str, tuple[Any, ...]]:
    found = {}
    for s in tiny.samples.values():
        said = []
        for m in s.messages:
            shown = sorted(zip(m.places or [0] * len(m.images), m.images, strict=True), key=lambda pair: pair[0])
            said.append((m.role, m.text, tuple((place, s.images[n].sha256) for place, n in shown)))
        found[s.id] = (s.split, said, (s.instruction, s.input, s.response))
    return found


def test_every_view_has_a_reader():
    assert list(READERS) == list(VIEWS)


@pytest.mark.parametrize("view", READERS)
def test_nothing_is_lost(tiny, exported, view):
    folder = exported(view)
    turned = tiny.images["turned.jpeg"].sha256
    wanted = expected(tiny)
    for split, id, said, parts in READERS[view](folder):
        wanted_split, wanted_said, wanted_parts = wanted.pop(id)
        assert (split, parts) == (wanted_split, wanted_parts)
        for (role, text, shown), (wanted_role, wanted_text, wanted_shown) in zip(said, wanted_said, strict=True):
            assert (role, text) == (wanted_role, wanted_text)
            if turned not in str(wanted_shown):
                assert shown == wanted_shown
    assert not wanted


@pytest.mark.parametrize("view", ["llava", "hf", "webdataset"])
def test_an_image_that_exif_turns_is_written_upright(tiny, exported, view):
    """LLaVA, InternVL and WebDataset loaders open images without looking at their orientation."""
    folder = exported(view)
    if view == "llava":
        rows = json.loads((folder / "train.json").read_text())
        content = (folder / next(r for r in rows if r["vistune"]["task"] == "zh")["image"]).read_bytes()
    elif view == "hf":
        rows = pq.read_table(folder / "train-00000-of-00001.parquet").to_pylist()
        content = next(r for r in rows if r["task"] == "zh")["images"][0]["bytes"]
    else:
        with tarfile.open(folder / "train-000000.tar") as tar:
            id = tiny.samples["zh"].id
            content = tar.extractfile(f"{id.replace(':', '%3a')}.png").read()
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (80, 60) and 0x0112 not in image.getexif()
        assert image.convert("RGB").tobytes() == upright(tiny, tiny.images["turned.jpeg"].sha256)
    assert json.loads((folder / "export.json").read_text())["images_turned_upright"] == 1


def test_hugging_face_datasets_opens_the_parquet_view(tiny, exported):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features.from_arrow_schema(pq.read_schema(exported("hf") / "train-00000-of-00001.parquet"))
    assert features["images"] == datasets.List(datasets.Image())
    assert features["messages"].feature["content"].feature["text"] == datasets.Value("string")
    table = datasets.Dataset.from_parquet(
        str(exported("hf") / "train-00000-of-00001.parquet"), cache_dir=str(tiny.folder / "cache")
    )
    row = next(r for r in table if r["task"] == "zh")
    assert row["images"][0].size == (80, 60)


def test_row_groups_and_files_are_cut_by_size(tiny, exported, monkeypatch):
    largest = max((tiny.folder / image.path).stat().st_size for image in tiny.images.values())
    monkeypatch.setattr("vistune.export.hf.GROUP_BYTES", largest)
    monkeypatch.setattr("vistune.export.hf.SHARD_BYTES", largest + 1)
    folder = exported("hf")
    files = sorted(p.name for p in folder.glob("train-*.parquet"))
    assert len(files) > 1 and files == [f"train-{n:05d}-of-{len(files):05d}.parquet" for n in range(len(files))]
    ids: list[str] = []
    for name in files:
        file = pq.ParquetFile(folder / name)
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group).to_pylist()
            assert len(rows) == 1 or sum(len(i["bytes"]) for row in rows for i in row["images"]) <= largest
            ids += [row["id"] for row in rows]
    assert ids == sorted(ids) and len(ids) == 5


def test_tar_files_are_cut_by_size_between_samples(tiny, exported, monkeypatch):
    monkeypatch.setattr("vistune.export.webdataset.SHARD_BYTES", 4_000)
    names: list[str] = []
    tars = sorted(exported("webdataset").glob("train-*.tar"))
    assert len(tars) > 1
    for path in tars:
        with tarfile.open(path) as tar:
            names += [n for n in tar.getnames() if n.endswith(".json")]
            assert tar.getmembers()[0].mtime == 0 and tar.getmembers()[0].uname == ""
    assert names == sorted(names) and len(set(names)) == 5


@pytest.mark.parametrize("view", VIEWS)
def test_equal_releases_give_equal_bytes(exported, view):
    first, second = exported(view, "first"), exported(view, "second")
    names = sorted(p.relative_to(first).as_posix() for p in first.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(second).as_posix() for p in second.rglob("*") if p.is_file())
    assert all((first / n).read_bytes() == (second / n).read_bytes() for n in names)
    assert "LICENSES.tsv" in names and "export.json" in names


@pytest.mark.parametrize("view", VIEWS)
def test_licences_go_along(tiny, exported, view):
    folder = exported(view)
    lines = [line.split("\t") for line in (folder / "LICENSES.tsv").read_text().splitlines()]
    named = {tiny.images[n].sha256: n for n in tiny.images}
    assert lines[0] == ["image_sha256", "licence", "attribution"]
    assert {named[sha]: (licence, credit) for sha, licence, credit in lines[1:]} == {
        "wide.png": ("CC BY 4.0", "Ann"),
        "tall.jpeg": ("CC0 1.0", ""),
        "turned.jpeg": ("CC BY 4.0", "Bob B."),
    }


def test_rows_name_licence_and_attribution(tiny, exported):
    rows = json.loads((exported("llava") / "train.json").read_text())
    found = {row["vistune"]["task"]: (row["vistune"]["licence"], row["vistune"]["attribution"]) for row in rows}
    assert found["locate"] == ("CC BY 4.0", "Ann")
    assert found["text"] == ("CC BY 4.0", "")


def test_llava_rows_are_what_llava_reads(tiny, exported):
    rows = {row["vistune"]["task"]: row for row in json.loads((exported("llava") / "train.json").read_text())}
    locate = rows["locate"]
    assert [turn["from"] for turn in locate["conversations"]] == ["human", "gpt"]
    assert locate["conversations"][0]["value"].startswith("<image>\nWhere is the cat?")
    assert "image" not in rows["text"], "LLaVA takes the key as the sign of an image"
    assert rows["several"]["conversations"][0]["value"] == "Is <image> like <image>? Or not?"
    assert [path.rpartition(".")[2] for path in rows["several"]["image"]] == ["jpeg", "png", "png"]


def test_alpaca_keeps_instruction_and_input_apart(tiny, exported):
    rows = json.loads((exported("alpaca") / "validation.json").read_text())
    (row,) = rows
    assert row["instruction"] == "<image>Name the thing. Coordinates are [x1, y1, x2, y2] in integers from 0 to 999."
    assert row["input"] == "Region: [0, 0, 999, 999]" and row["output"] == "cat"
    assert row["vistune"]["user"].startswith("Name the thing.\nRegion: ")
    train = {r["vistune"]["task"]: r for r in json.loads((exported("alpaca") / "train.json").read_text())}
    assert "user" not in train["locate"]["vistune"]
    assert train["talk"]["history"] == [['<image>Is it "big"?\nSay so.', "Yes <b>, it is.\u2028"]]
    assert (train["talk"]["instruction"], train["talk"]["input"]) == ("And now?", "")
