import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.params import parse
from vistune.sources import (
    AnnotationFile,
    Benchmark,
    Dataset,
    DemoParams,
    Manifest,
    Params,
    load,
    parse_source,
    write_manifest,
)

DATASET = Dataset(
    "a", "train", "img", (AnnotationFile("coco_instances", "a.json"),), tasks=("caption",), dialogues=False
)
BENCHMARK = Benchmark("b", "vqa", "external", False, "q.json", "a.json", "img", "{image_id}.png", "MIT")


def test_a_manifest_is_written_and_read_back(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest((DATASET,), (BENCHMARK,)))
    assert load(tmp_path) == ((DATASET,), (BENCHMARK,))


def test_an_unknown_key_in_the_manifest_is_an_error(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest((DATASET,)))
    path = tmp_path / "sources.json"
    path.write_text(path.read_text().replace('"licence"', '"license"'))
    with pytest.raises(VistuneError, match=r"license: did you mean .*licence"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "a\0"])
def test_names_must_be_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(VistuneError, match="cannot name a data set"):
        write_manifest(tmp_path, Manifest((replace(DATASET, name=name),)))


def test_names_must_be_unique_across_data_sets_and_benchmarks(tmp_path: Path) -> None:
    with pytest.raises(VistuneError, match="are named 'a'"):
        write_manifest(tmp_path, Manifest((DATASET,), (replace(BENCHMARK, name="a"),)))


def test_params_parse_from_yaml_data() -> None:
    own = {"name": "x", "split": "train", "images": "i", "files": [{"format": "vqa", "path": "q", "annotations": "a"}]}
    params = parse(Params, {"demo": None, "datasets": [own]}, "sources")
    assert params.demo is None and params.datasets[0].files[0].annotations == "a"
    assert parse(Params, None, "sources").demo == DemoParams()
    with pytest.raises(VistuneError, match=r"did you mean sources\.demo\.train_scenes"):
        parse(Params, {"demo": {"train_scene": 3}}, "sources")
    with pytest.raises(VistuneError, match="coco_instances"):
        parse(Params, {"datasets": [{**own, "files": [{"format": "coco_instance", "path": "q"}]}]}, "sources")


def test_parse_source_takes_several_files_and_options() -> None:
    options = "annotations=a.json,images=/d/img,split=validation,licence=CC BY 4.0,name=d"
    dataset = parse_source(f"coco_instances:/d/a.json, vqa:q.json,{options}")
    assert dataset == Dataset(
        "d",
        "validation",
        "/d/img",
        (AnnotationFile("coco_instances", "/d/a.json"), AnnotationFile("vqa", "q.json", "a.json")),
        licence="CC BY 4.0",
    )


def test_parse_source_fills_name_and_images() -> None:
    dataset = parse_source("coco_captions:dir/val.json,image_pattern={image_id:012d}.jpg,licence=https://x.org/by")
    assert (dataset.name, dataset.images, dataset.split) == ("val", "dir", "train")
    assert (dataset.image_pattern, dataset.licence) == ("{image_id:012d}.jpg", "https://x.org/by")


def test_parse_source_takes_a_folder_as_its_own_images(tmp_path: Path) -> None:
    assert parse_source(f"datumaro:{tmp_path},annotations=voc").images == str(tmp_path)
    assert parse_source(f"llava:{tmp_path}/a.json").images == str(tmp_path)


def test_parse_source_keeps_equals_signs_in_paths() -> None:
    assert parse_source("coco_instances:run=3/a.json").files[0].path == "run=3/a.json"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("coco:a.json", "formats: coco_instances, coco_captions, "),
        ("a.json", "neither FORMAT:PATH"),
        ("coco_instances:", "neither FORMAT:PATH"),
        ("images=a", "names no annotation file"),
        ("coco_instances:a.json,image=b", "did you mean images"),
        ("coco_instances:a.json,images=", "neither FORMAT:PATH"),
        ("coco_instances:a.json,split=dev", "expected one of 'train'"),
        ("vqa:a.json", "needs `annotations`"),
        ("coco_instances:a b.json", "cannot name a data set"),
    ],
)
def test_parse_source_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(VistuneError) as error:
        parse_source(text)
    assert said in str(error.value)


@given(st.text(max_size=40))
def test_parse_source_gives_a_data_set_or_a_message(text: str) -> None:
    try:
        assert parse_source(text).files
    except VistuneError as error:
        assert str(error)


def test_importing_the_package_is_light() -> None:
    heavy = "numpy, PIL, pyarrow, torch"
    code = f"import sys, vistune.sources; print([m for m in '{heavy}'.split(', ') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
