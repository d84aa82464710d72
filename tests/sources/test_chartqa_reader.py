import json
from pathlib import Path
from typing import Any

import pytest

from vistune.errors import VistuneError
from vistune.files import link_tree
from vistune.records import Question, Table
from vistune.sources import AnnotationFile, Dataset, Params, load, read, run
from vistune.stages import Context

FOLDER = AnnotationFile("chartqa", "ChartQA Dataset/train")
HUMAN = AnnotationFile("chartqa", f"{FOLDER.path}/train_human.json", f"{FOLDER.path}/tables")
AUGMENTED = AnnotationFile("chartqa", f"{FOLDER.path}/train_augmented.json", f"{FOLDER.path}/tables")
BARS, LINES, PIE = "41699051005347", "two_col_101", "OECD_HOURS_000001"


@pytest.fixture
def charts(corpus: Any) -> Any:
    """One split in the published layout: three charts, each with a table and a description of its looks."""
    human = [
        {"imgname": f"{BARS}.png", "query": "How many food item is shown in the bar graph?", "label": "14"},
        {"imgname": f"{BARS}.png", "query": "What is the  difference ?", "label": "57.04"},
        {"imgname": f"{PIE}.png", "query": "Which slice is largest?", "label": "Mexico"},
    ]
    augmented = [{"imgname": f"{LINES}.png", "query": "What was the value in 2012?", "label": "3.4"}]
    corpus.write(HUMAN.path, human)
    corpus.write(AUGMENTED.path, augmented)
    _table(corpus, BARS, 'Characteristic,2011,2012\nLamb,"1,031.7",103.7 \nCorn,,87\n')
    _table(corpus, LINES, '\ufeffYear,Value\r\n2011,3.1\r\n\r\n2012,"3.4"\r\n')
    _table(corpus, PIE, "Entity,Share\nMexico,60\nChile,40\n")
    title = {"text": "Price of  food", "bbox": [1, 2, 30, 8]}
    looks = {"models": [{"name": "2011", "color": "#333", "bboxes": [[0, 0, 9, 9]], "x": ["Lamb"], "y": [1031.7]}]}
    _look(corpus, BARS, {**looks, "type": "v_bar", "general_figure_info": {"title": title, "x_axis": {}}})
    _look(corpus, LINES, {**looks, "type": "line", "general_figure_info": {}})
    _look(corpus, PIE, {**looks, "type": "pie", "general_figure_info": {"title": {}}})
    corpus.images(*(f"{name}.png" for name in (BARS, LINES, PIE)))
    return corpus


def _table(corpus: Any, name: str, text: str) -> None:
    corpus.write(f"{FOLDER.path}/tables/{name}.csv", text)


def _look(corpus: Any, name: str, tree: Any) -> None:
    corpus.write(f"{FOLDER.path}/annotations/{name}.json", tree)


def _change(corpus: Any, **change: Any) -> None:
    rows = json.loads((corpus.root / HUMAN.path).read_text())
    rows[0].update(change)
    corpus.write(HUMAN.path, rows)


def test_a_split_folder_is_read_without_a_reject(charts: Any) -> None:
    images = {image.id: image for image in charts.read(FOLDER)}
    assert not charts.rejects and charts.tally.kept == {"image": 3, "question": 4, "table": 3}
    bars = images[f"d/{BARS}.png"]
    assert bars.image.path == f"images/{BARS}.png"
    assert bars.questions == (
        Question("train_human#0", "How many food item is shown in the bar graph?", "14", ("14",), kind="human"),
        Question("train_human#1", "What is the difference ?", "57.04", ("57.04",), kind="human"),
    )
    cells = (("Lamb", "1,031.7", "103.7"), ("Corn", "", "87"))
    assert bars.tables == (Table(BARS, ("Characteristic", "2011", "2012"), cells, "Price of food", "v_bar"),)
    lines = images[f"d/{LINES}.png"]
    assert [(q.id, q.kind) for q in lines.questions] == [("train_augmented#0", "augmented")]
    assert lines.tables == (Table(LINES, ("Year", "Value"), (("2011", "3.1"), ("2012", "3.4")), kind="line"),)
    assert images[f"d/{PIE}.png"].tables[0].kind == "pie"
    assert [file.path for file in bars.files] == [FOLDER.path]


def test_the_digest_of_the_folder_changes_with_any_of_its_files(charts: Any) -> None:
    before = charts.read(FOLDER)[0].files
    _look(charts, PIE, {"type": "pie2"})
    assert charts.read(FOLDER)[0].files != before


def test_question_files_can_be_named_one_by_one(charts: Any) -> None:
    images = charts.read(HUMAN)
    assert {image.id for image in images} == {f"d/{BARS}.png", f"d/{PIE}.png"} and not charts.rejects
    assert all(len(image.tables) == 1 and image.tables[0].kind == "" for image in images)
    both = charts.read(HUMAN, AUGMENTED)
    assert charts.tally.kept == {"image": 3, "question": 4, "table": 3} and not charts.rejects
    assert len({question.id for image in both for question in image.questions}) == 4
    alone = charts.read(AnnotationFile("chartqa", HUMAN.path))
    assert not any(image.tables for image in alone)


def test_a_chart_that_both_files_ask_about_has_its_table_once(charts: Any) -> None:
    charts.write(AUGMENTED.path, [{"imgname": f"{BARS}.png", "query": "Why?", "label": "why"}])
    images = {image.id: image for image in charts.read(HUMAN, AUGMENTED)}
    assert len(images[f"d/{BARS}.png"].tables) == 1 and len(images[f"d/{BARS}.png"].questions) == 3
    assert not charts.rejects


def test_a_table_without_a_question_is_kept_with_its_chart(charts: Any) -> None:
    charts.write(AUGMENTED.path, [])
    images = {image.id: image for image in charts.read(FOLDER)}
    assert images[f"d/{LINES}.png"].tables and not images[f"d/{LINES}.png"].questions
    assert not charts.rejects


def test_without_tables_and_descriptions_there_are_questions_only(charts: Any, tmp_path: Path) -> None:
    charts.write("bare/train_human.json", [{"imgname": f"{BARS}.png", "query": "How many?", "label": "14"}])
    (image,) = charts.read(AnnotationFile("chartqa", "bare"))
    assert len(image.questions) == 1 and image.tables == () and not charts.rejects


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"query": ""}, "question_empty"),
        ({"query": None}, "row_malformed"),
        ({"label": " "}, "question_unanswered"),
        ({"label": 14}, "row_malformed"),
        ({"label": ["14"]}, "row_malformed"),
        ({"imgname": None}, "row_malformed"),
        ({"imgname": ""}, "row_malformed"),
    ],
)
def test_bad_questions_are_rejected_with_their_reason(charts: Any, change: Any, reason: str) -> None:
    _change(charts, **change)
    images = {image.id: image for image in charts.read(FOLDER)}
    assert [q.id for q in images[f"d/{BARS}.png"].questions] == ["train_human#1"]
    assert charts.reasons() == {"question/train_human#0": reason}


@pytest.mark.parametrize("row", [{"query": "How many?", "label": "14"}, {"imgname": "x.png", "query": "?"}, None])
def test_a_row_that_lacks_a_key_is_rejected(charts: Any, row: Any) -> None:
    charts.write(AUGMENTED.path, [row])
    charts.read(FOLDER)
    assert charts.reasons() == {"question/train_augmented#0": "row_malformed"}


@pytest.mark.parametrize(
    ("text", "reason", "said"),
    [
        ("", "table_empty", "no rows"),
        ("Entity,Share\n", "table_empty", "no rows"),
        ("Entity,Share\nMexico\n", "table_ragged", "row 1 has 1 cells under 2 columns"),
        ("Entity,Share\nMexico,60\nChile,40,1\n", "table_ragged", "row 2 has 3 cells under 2 columns"),
        ('Entity,Share\n"Mexico"x,60\n', "row_malformed", "comma-separated"),
        ('Entity,Share\n"Mexico,60\n', "row_malformed", "comma-separated"),
        (f"Entity,Share\n{'x' * 200_000},60\n", "row_malformed", "field larger than field limit"),
    ],
)
def test_bad_tables_are_rejected_whole_since_a_part_would_give_wrong_comparisons(
    charts: Any, text: str, reason: str, said: str
) -> None:
    _table(charts, PIE, text)
    images = {image.id: image for image in charts.read(FOLDER)}
    assert images[f"d/{PIE}.png"].questions and not images[f"d/{PIE}.png"].tables
    assert charts.reasons() == {f"table/{PIE}": reason}
    assert f"{PIE}.csv" in charts.rejects[0].detail and said in charts.rejects[0].detail


def test_a_table_in_another_encoding_is_rejected(charts: Any) -> None:
    (charts.root / f"{FOLDER.path}/tables/{PIE}.csv").write_bytes("Entity,Share\nMéxico,60\n".encode("latin-1"))
    charts.read(FOLDER)
    assert charts.reasons() == {f"table/{PIE}": "row_malformed"}


@pytest.mark.parametrize(
    "look", ["{", [], {"type": 3}, {"general_figure_info": []}, {"general_figure_info": {"title": "x"}}]
)
def test_a_bad_description_rejects_the_table_it_belongs_to(charts: Any, look: Any) -> None:
    _look(charts, PIE, look)
    charts.read(FOLDER)
    assert charts.reasons() == {f"table/{PIE}": "row_malformed"}


def test_a_missing_chart_takes_questions_and_table_with_it(charts: Any) -> None:
    (charts.root / f"images/{LINES}.png").unlink()
    _change(charts, imgname="../../secret.png")
    assert len(charts.read(FOLDER)) == 2
    assert charts.reasons() == {
        f"image/{LINES}.png": "image_missing",
        "question/train_augmented#0": "image_missing",
        f"table/{LINES}": "image_missing",
        "image/../../secret.png": "image_path",
        "question/train_human#0": "image_path",
    }


def test_a_folder_without_question_files_is_an_error(charts: Any) -> None:
    with pytest.raises(VistuneError, match=r"ChartQA Dataset: expected \*_human\.json.*folder of one split"):
        charts.read(AnnotationFile("chartqa", "ChartQA Dataset"))


def test_a_split_folder_can_be_gathered(charts: Any, tmp_path: Path) -> None:
    """The sources stage takes a folder of annotations along as it takes a file."""
    link_tree(charts.root / "images", charts.root / FOLDER.path / "png")
    files = (AnnotationFile("chartqa", str(charts.root / FOLDER.path)),)
    images = str(charts.root / FOLDER.path / "png")
    output = tmp_path / "out"
    output.mkdir()
    own = Params(demo=None, datasets=(Dataset("charts", "train", images, files, licence="GPL-3.0"),))
    summary = run(own, {}, output, Context(seed=0, home=output, root=output))
    assert summary["details"]["rows"]["charts"] == {"image": 3, "question": 4, "table": 3, "unusable": 0}
    (dataset,), _ = load(output)
    rejects: list[Any] = []
    assert sum(len(image.tables) for image in read(output, dataset, rejects)) == 3 and not rejects
