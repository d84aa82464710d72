"""`vistune evaluate --list` and `--suite`: what the files say."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vistune import cli
from vistune.evaluate.listing import listed

EVAL = Path(__file__).resolve().parents[2] / "eval"
ASKED_FOR = """
vqav2 gqa vizwiz textvqa scienceqa_img okvqa aokvqa_choices aokvqa_direct pope_random pope_popular
pope_adversarial mme mmbench_en_dev seed_image mmmu_val chartqa_human chartqa_augmented docvqa infovqa
ocrbench coco_caption nocaps refcoco_testa refcoco_plus_testa refcocog_test hallusionbench chair mm_vet
llava_bench gavie gavie_original
"""


def test_every_benchmark_is_listed_with_its_suites() -> None:
    rows = {row.name: row for row in listed(EVAL)}
    assert set(ASKED_FOR.split()) <= set(rows)
    assert rows["gqa"].items == "12,578" and rows["gqa"].suites == ("llava15", "quick", "wordings")
    assert rows["pope_random"].suites == ("hallucination", "llava15"), "a group's members are in its suites"
    assert rows["demo_which_of_two"].source == "vistune sources" and rows["demo_which_of_two"].suites == ("demo",)
    assert rows["mmmu_val"].source == "mmmu-benchmark.github.io, hub: MMMU/MMMU"
    for row in rows.values():
        assert all((row.title, row.split, row.items, row.licence, row.metric, row.files, row.source))
        assert row.source == "vistune sources" or (row.prompt and row.counted)


def test_every_name_in_a_suite_is_a_task_or_group() -> None:
    import yaml

    names = {p.stem for p in EVAL.glob("tasks/*/*.yaml")}
    for path in EVAL.glob("suites/*.yaml"):
        assert set(yaml.safe_load(path.read_text()).get("tasks") or ()) <= names


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(cli.app, ["evaluate", "--list"])
    assert shown.exit_code == 0 and "mmbench_en_dev" in shown.output and "14,232" in shown.output
    assert "prompt: LLaVA-1.5, docs/Evaluation.md: short answer · items: the paper, not verified" in shown.output


def test_a_suite_brings_its_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(cli, "run_stage", lambda stage, tree, given, output: asked.append(tree["evaluate"]))
    for options in (["--suite", "quick", "--data", "b"], ["--suite", "demo"], ["--set", "evaluate.suite=all"]):
        assert CliRunner().invoke(cli.app, ["evaluate", *options]).exit_code == 0
    assert [(a["suite"], a["gate"], a["data"]) for a in asked] == [
        ("quick", "all", "b"),
        ("demo", "demo", ""),
        ("all", "demo", ""),
    ]
