"""What counts as unseen, from the table of task clusters."""

from pathlib import Path

import pytest
import yaml

from vistune.errors import VistuneError
from vistune.evaluate.heldout import Table, load_table, standing

REPOSITORY = Path(__file__).resolve().parents[2]

TABLE = Table({"short": ("vqav2", "gqa"), "reading": ("textvqa", "docvqa"), "both": ("gqa", "textvqa")})


@pytest.mark.parametrize(
    ("benchmark", "trained", "status", "why"),
    [
        ("gqa", [], "unseen", 'no data set of "short" or "both"'),
        ("docvqa", ["vqav2"], "unseen", 'no data set of "reading"'),
        ("docvqa", ["VQAv2-train", "TextVQA"], "cluster_trained", "TextVQA is of the cluster reading"),
        ("gqa", ["textvqa"], "cluster_trained", "textvqa is of the cluster both"),  # by the second cluster of either
        ("textvqa_ocr", ["textvqa_train"], "held_in", "textvqa_train was trained on"),
        ("vqav2", ["mine", "gqa"], "cluster_trained", "gqa is of"),  # known harm before unknown
        ("vqav2", ["mine"], "unknown", "mine was trained on"),
        ("mine", [], "unknown", "mine is in no cluster"),
    ],
)
def test_standing(benchmark: str, trained: list[str], status: str, why: str) -> None:
    found = standing(benchmark, trained, TABLE)
    assert found.status == status and why in found.because


def test_every_published_benchmark_is_in_the_table() -> None:
    table = load_table(REPOSITORY / "eval" / "clusters.yaml")
    for folder in (REPOSITORY / "eval" / "tasks").iterdir():
        for path in folder.glob("*.yaml") if folder.name not in ("demo", "wordings") else ():
            tree = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
            if "task" in tree and "group" not in tree:
                assert standing(tree["task"], [], table).status == "unseen", path
    mixture = ["VQAv2", "GQA", "OKVQA", "OCRVQA", "A-OKVQA", "TextCaps", "RefCOCO", "VG_QA", "LLaVA_150k"]
    stands = {name: standing(name, mixture, table).status for name in ("gqa", "vizwiz", "docvqa", "chartqa", "textvqa")}
    assert stands == {
        "gqa": "held_in",
        "vizwiz": "cluster_trained",
        "docvqa": "unseen",
        "chartqa": "unseen",
        "textvqa": "cluster_trained",
    }
    assert standing("refcoco_plus_val", ["refcoco+"], table).status == "held_in"
    assert standing("refcocog_val", ["refcoco"], table).status == "cluster_trained"


def test_table_is_read_strictly(tmp_path: Path) -> None:
    for text, problem in (("cluster: {}", "did you mean"), ("clusters: {a: []}", "'a' has no data sets")):
        (tmp_path / "clusters.yaml").write_text(text)
        with pytest.raises(VistuneError, match=problem):
            load_table(tmp_path / "clusters.yaml")
    with pytest.raises(VistuneError, match="no table of task clusters"):
        load_table(tmp_path / "none.yaml")
