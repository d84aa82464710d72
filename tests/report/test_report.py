"""The page as a whole: what is on it, what must not be, and that it is one small file."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vistune import report
from vistune.errors import VistuneError
from vistune.report import page
from vistune.stages import Context

PLANTED = "<script>alert(1)</script>"

SECTIONS = ["evidence", "flow", "images", "dialogues", "training", "answers", "scorecard", "promotion", "lineage"]
SECTIONS += ["licences"]


def write(inputs, output: Path, **params) -> str:
    output.mkdir(exist_ok=True)
    report.run(report.Params(**params), inputs, output, Context(7, output, output))
    return (output / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(passed, tmp_path_factory) -> str:
    return write(passed, tmp_path_factory.mktemp("page"))


class Elements(HTMLParser):
    """Tags with their attributes, and whether they nest."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_every_section_is_there_and_every_tag_is_closed(html):
    elements = Elements(html)
    assert elements.open == []
    assert [a["id"] for a in elements.all("section")] == SECTIONS
    linked = {a["href"] for a in elements.all("a")}
    assert linked == {f"#{s}" for s in SECTIONS}


def test_text_from_data_and_models_is_escaped(html):
    assert PLANTED not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20  # samples, answers, a reject reason, an attribution
    assert Elements(html).all("script") == []
    assert not re.search(r"\son\w+=", re.sub(r"data:image[^\"]*", "", html))


def test_the_page_loads_nothing(html):
    elements = Elements(html)
    assert not re.search(r"https?:|\"//|ftp:", re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]+", "", html))
    assert "url(" not in html
    assert "@import" not in html
    assert elements.all("link") == []
    assert all(a["src"].startswith("data:image/webp;base64,") for a in elements.all("img"))
    assert len(elements.all("img")) == 12 + 4 + 8


def test_it_is_small_and_the_same_for_the_same_inputs(html, passed, tmp_path):
    assert len(html.encode()) < 300_000
    assert write(passed, tmp_path / "again") == html


@pytest.mark.parametrize(
    "text",
    [
        "gate: pass",
        "models:/vistune-demo@champion",
        "2026-11-22 19:40:12 UTC by root",
        "+24.0 [+19.0, +29.0]",
        "41,220",
        "<b>801</b> too_crowded",
        "<b>700</b> duplicate",
        "4 min 48 s",
        "reused",
        "grammar@1",
        "New layouts of trained concepts",
        "tuned, shuffled images",
        "majority answer",
        "d0c5" * 8 + ".dir",
        "ab12" * 8,
        "models:/vistune-demo/3",
        "CC BY-SA 4.0",
        "图中有",
    ],
)
def test_what_a_reader_looks_for_is_there(html, text):
    assert text in html


def test_boxes_are_drawn_over_their_pictures(html, passed):
    drawn = Elements(html).all("rect")
    assert len(drawn) > 12
    for box in drawn:
        x, y, w, h = (float(box[k].rstrip("%")) for k in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= 100.01
        assert 0 <= y <= y + h <= 100.01
    assert "light blue" not in html  # the background's box is the picture


def test_a_verdict_that_is_not_a_pass(undecided, tmp_path):
    html = write(undecided, tmp_path)
    assert "gate: inconclusive" in html
    assert "models:/vistune-demo@challenger" in html
    assert "The champion stays version 2." in html
    assert "makes version 2 the champion again" not in html


def test_what_only_some_runs_have_may_be_absent(undecided, tmp_path):
    inputs = {stage: shutil.copytree(folder, tmp_path / stage) for stage, folder in undecided.items()}
    (inputs["tune"] / "history.jsonl").unlink()
    (inputs["evaluate"] / "answers.jsonl").unlink()
    nothing = {"name": "m", "version": "", "aliases": [], "verdict": "fail", "reasons": []}
    (inputs["promote"] / "promotion.json").write_text(json.dumps(nothing))
    (inputs["evaluate"] / "verdict.json").write_text('{"verdict": "fail", "reasons": []}')
    (inputs["evaluate"] / "scorecard.json").write_text('{"benchmarks": [], "groups": []}')
    html = write(inputs, tmp_path / "out")
    assert "gate: fail" in html
    assert "Nothing was registered" in html
    assert [a["id"] for a in Elements(html).all("section")] == [
        "flow", "images", "dialogues", "scorecard", "promotion", "lineage", "licences",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("validate", "receipt.json"),
        ("validate", "release.json"),
        ("evaluate", "scorecard.json"),
        ("evaluate", "verdict.json"),
        ("promote", "promotion.json"),
        ("sources", "sources.json"),
    ],
)
def test_a_missing_input_is_a_clear_error(undecided, tmp_path, stage, file):
    inputs = {s: shutil.copytree(folder, tmp_path / s) for s, folder in undecided.items()}
    (inputs[stage] / file).unlink()
    with pytest.raises(VistuneError, match=r"does not exist|no finished stage output"):
        write(inputs, tmp_path / "out")


def test_a_release_without_samples_and_a_torn_line_are_clear_errors(undecided, tmp_path):
    inputs = {s: shutil.copytree(folder, tmp_path / s) for s, folder in undecided.items()}
    with open(inputs["tune"] / "history.jsonl", "a") as f:
        f.write('{"stage": "instr')
    with pytest.raises(VistuneError, match="line 301 is not JSON"):
        write(inputs, tmp_path / "out")
    for shard in inputs["validate"].glob("samples-*.parquet"):
        shard.unlink()
    with pytest.raises(VistuneError, match=r"samples-00000\.parquet is missing"):
        write(inputs, tmp_path / "out")


def test_a_picture_that_is_gone_leaves_a_note(undecided, tmp_path):
    inputs = {s: shutil.copytree(folder, tmp_path / s) for s, folder in undecided.items()}
    shutil.rmtree(inputs["validate"] / "images")
    assert write(inputs, tmp_path / "out").count("picture not readable") == 6 + 4


def test_a_page_that_would_be_too_large_loses_pictures_first(undecided, tmp_path, monkeypatch):
    whole = len(write(undecided, tmp_path / "whole").encode())
    monkeypatch.setattr(page, "MAX_BYTES", whole - 1)
    html = write(undecided, tmp_path / "less")
    assert len(html.encode()) < whole
    assert 0 < html.count("<img") < 6 + 4 + 8
    assert "picture not readable" in html


def test_the_numbers_of_cards_are_parameters(passed, tmp_path):
    html = write(passed, tmp_path, images=3, dialogues=0, questions=1)
    assert html.count("<img") == 4
    assert 'id="dialogues"' not in html
