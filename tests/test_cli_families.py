"""`vistune families`, and docs/families.md, which shows what it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat
from typer.testing import CliRunner

from vistune import cli
from vistune.errors import VistuneError
from vistune.models import FAMILIES, catalogue, family
from vistune.models.figure import draw
from vistune.stages import repository

PAGE = (repository() / "docs/families.md").read_text(encoding="utf-8")


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, ["families", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_every_family_has_a_row() -> None:
    text = run()
    for name in FAMILIES:
        assert f"\n  {name} " in text
    rows = {row.family: row for row in catalogue.rows()}
    assert rows["llava"].tokens == "576 (llava-1.5-13b)"
    assert rows["qwen2_vl"].tokens.startswith("609 "), "29 x 21 patches of 28 pixels"
    assert rows["qwen2_vl"].model_class == "Qwen2VLForConditionalGeneration"
    assert (rows["monkey"].model_class, rows["monkey"].exports_to) == ("vistune", "vistune")
    assert rows["llava"].stages == "align → instruct"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_shows_presets_and_sources(name: str) -> None:
    text = " ".join(run(name).split())
    known = family(name)
    for preset in known.presets:
        assert preset in text
    for stage in catalogue.shown(known)[1].stages:
        assert stage.name in text
        assert " ".join(stage.source.split())[:20] in text


def test_figures_are_spelled_out() -> None:
    stage = catalogue.shown(family("llava"))[1].stages[0]
    found = dict(catalogue.recipe(stage))
    assert found["trains"] == "connector 0.001"
    assert (found["samples"], found["batch"], found["length"]) == ("558,000", "256", "1 epoch")
    assert "LoRA" not in found
    unknown = dict(catalogue.recipe(catalogue.shown(family("qwen2_vl"))[1].stages[0]))
    assert unknown["batch"] == "not published"
    assert "vision (rate not published)" in unknown["trains"]


def test_an_unknown_family_is_named_with_the_known() -> None:
    with pytest.raises(VistuneError, match="unknown model family 'lava'; known: small, llava"):
        run("lava")


def test_the_page_shows_the_table() -> None:
    shown = re.search(r"<!-- table: vistune families --markdown -->\n(.*?)<!-- end -->", PAGE, re.S)
    assert shown
    assert shown[1] == run("--markdown"), "run `vistune families --markdown` and put it into docs/families.md"


def test_the_page_shows_the_figure(tmp_path: Path) -> None:
    draw(tmp_path / "families.png")
    made, kept = (Image.open(p) for p in (tmp_path / "families.png", repository() / "docs/img/families.png"))
    assert made.size == kept.size, "run `vistune families --figure docs/img/families.png`"
    difference = ImageStat.Stat(ImageChops.difference(made, kept)).mean
    assert max(difference) < 0.5, "run `vistune families --figure docs/img/families.png`"


def test_the_page_runs() -> None:
    first, second = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names: dict[str, object] = {}
    exec(first, names)
    exec(second, names)
