"""docs/lineage.md and docs/promotion.md: their commands run, and what they say of the code is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vistune import cli, promote, store
from vistune.imagefile import MAX_IMAGE_PIXELS
from vistune.promote import address, answerer, turn
from vistune.promote.registry import CHALLENGER, CHAMPION, PREVIOUS
from vistune.provenance import figure
from vistune.provenance.verify import Link, walk

ROOT = Path(__file__).parents[2]
PROMOTION, LINEAGE = ((ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in ("promotion", "lineage"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def commands(text: str, program: str) -> list[list[str]]:
    blocks = [block for kind, block in BLOCK.findall(text) if not kind]
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [line[1:] for line in lines if line and line[0] == program]


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def expectations(monkeypatch):
    monkeypatch.setattr("vistune.validate.suite.expect", lambda *_: [])


def test_the_worked_example_runs(chain, expectations, monkeypatch):
    first = next(store.read_samples(chain.folders["validate"])).id
    found = commands(LINEAGE, "vistune")
    assert [c[0] for c in found] == [
        *("verify-lineage", "explain", "explain", "explain", "explain", "purge", "purge", "tune"),
    ]
    monkeypatch.setattr("vistune.tune.forecast.show", lambda *given: print(f"plan of {given[1]}"))
    (chain.root / "params.yaml").write_text("seed: 0\n")
    said = [run(*(first if word == "vt1:" else word for word in command)) for command in found]
    assert said[0].endswith("holds; 4 links were not looked at\n")
    assert "models:/vistune-demo/2 · challenger, champion" in said[5]
    assert "purged: 12 samples removed, 12 kept" in said[6] and "vistune rollback" in said[6]
    assert said[7] == "plan of outputs/clean\n"
    assert (chain.root / "lineage.svg").read_text().count("<g>") == 18


def test_the_figure_of_the_page_is_drawn_by_the_code(chain, tmp_path):
    """Ids differ from chain to chain; what stands where does not."""
    figure.draw(tmp_path / "new.svg", "Lineage of models:/vistune-demo@champion", walk("vistune-demo@champion"))
    new, kept = ((p.read_text(encoding="utf-8")) for p in (tmp_path / "new.svg", ROOT / "docs/img/lineage.svg"))

    def plain(text: str) -> str:
        return re.sub(r"[0-9a-f]{12,40}|[\d,.]+ MB", "-", re.sub(r"<title>.*?</title>|in /.*?<", "", text))

    assert re.findall(r"<(?:rect|line)[^>]*>", plain(new)) == re.findall(r"<(?:rect|line)[^>]*>", plain(kept))
    names = [link.name for link in walk("vistune-demo@champion")]
    assert sorted(names) == sorted(name for row in figure.GRID for name in row if name)


def test_a_broken_link_is_drawn_as_one(tmp_path):
    links = [Link("tags", "broken", "tag <seed> & more"), Link("code", "skipped", "no git")]
    figure.draw(tmp_path / "x.svg", "x", links)
    text = (tmp_path / "x.svg").read_text()
    assert text.count(f'width="6" height="66" fill="{figure.STATES["broken"]}"') == 1
    assert "tag &lt;seed&gt; &amp; more" in text


def test_the_commands_of_the_promotion_page(chain, monkeypatch):
    found = commands(PROMOTION, "vistune")
    assert [c[0] for c in found] == ["promote", "promote", "promotions", "rollback"]
    for name in re.findall(r"`promote\.(\w+)", PROMOTION):
        assert name in promote.Params.__dataclass_fields__, name
    assert "promote version 2" in run(*found[2])
    rolled: list[str] = []
    monkeypatch.setattr(promote, "rollback", lambda name: rolled.append(name) or "rolled back")
    run(*found[3])
    assert rolled == ["vistune-demo"]


def test_numbers_and_names_of_the_promotion_page():
    assert all(f"`{alias}`" in PROMOTION for alias in (CHALLENGER, CHAMPION, PREVIOUS))
    assert f"above {answerer.MAX_IMAGE_BYTES >> 20} MB or {MAX_IMAGE_PIXELS // 10**6} megapixels" in PROMOTION
    assert f"questions above {answerer.MAX_QUESTION:,} characters" in PROMOTION
    assert address.ORIGINS in PROMOTION and turn.LAPSES == 600.0
    assert f"more than {store.LOOSE:,} images" in LINEAGE
    compile(next(block for kind, block in BLOCK.findall(PROMOTION) if kind == "python"), "promotion.md", "exec")


def test_every_remote_is_one_that_dvc_knows():
    from dvc.config_schema import REMOTE_SCHEMAS

    kinds = {re.match(r"\w+(?=://)", line[-1]) for line in commands(LINEAGE, "dvc") if line[:2] == ["remote", "add"]}
    assert {kind[0] for kind in kinds if kind} == {"s3", "gs", "azure"} <= set(REMOTE_SCHEMAS)
