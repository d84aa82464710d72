"""The stage as a whole: files in, samples, rejects and counts out, the same bytes every time."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from vistune.adapt import Params, PerImage, fingerprint, run
from vistune.adapt.build import Adapter
from vistune.adapt.geometry import box_text
from vistune.errors import VistuneError
from vistune.files import read_json, tree_digest, write_json
from vistune.hashing import file_digest
from vistune.params import parse
from vistune.records import Annotation, Caption, Question, sample_id
from vistune.sources import AnnotationFile, Dataset, Manifest, write_manifest
from vistune.stages import Context
from vistune.store import read_rejects, read_samples, write_samples

NAMES = {1: "dog", 2: "cat", 3: "apple", 4: "boat", 5: "hourglass", 6: "wolf"}
CHINESE = {1: "狗", 2: "猫", 3: "苹果", 4: "船", 5: "沙漏", 6: "狼"}
IMAGES = 12

SUPPORTED = {
    *("caption", "caption_choice", "presence", "counting", "listing", "name_region", "locate", "relative_position"),
    *("extremes", "area_share", "refer_absent", "vqa", "vqa_choice"),
}
"""Tasks that objects, captions and yes-or-no questions support."""


def coco(images=IMAGES, **changes):
    """An instances file: image n shows a dog at the left, n % 3 cats at the right and an apple below them."""
    boxes = []
    for n in range(1, images + 1):
        boxes.append((n, 1, [5 + n, 10, 40, 30]))
        boxes += [(n, 2, [100, 5 + 30 * k, 30, 20]) for k in range(n % 3)]
        boxes.append((n, 3, [90, 70 + n % 5, 50, 20]))
        boxes.append((n, 9, [0, 0, 160, 120]))
    tree = {
        "licenses": [{"id": 1, "name": "CC0"}, {"id": 2, "name": "CC BY-SA 4.0"}],
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 160, "height": 120, "license": 1 + n % 2}
            for n in range(1, images + 1)
        ],
        "categories": [
            {"id": key, "name": name, "supercategory": "animal" if key in (1, 2, 6) else "object", "names": {"zh": zh}}
            for (key, name), zh in zip(NAMES.items(), CHINESE.values(), strict=True)
        ]
        + [{"id": 9, "name": "light blue", "supercategory": "background", "isthing": 0}],
        "annotations": [
            {"id": key, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
            for key, (image, category, box) in enumerate(boxes, start=1)
        ],
    }
    return {**tree, **changes}


@pytest.fixture
def sources(tmp_path):
    """A sources folder with one data set, `toys`, and a function that writes it anew with changes."""

    def write(name="sources", tree=None, dataset=None, captions=True, images=IMAGES):
        root = tmp_path / name
        (root / "toys/images").mkdir(parents=True, exist_ok=True)
        for n in range(1, images + 1):
            Image.new("RGB", (160, 120), (n, 2 * n, 3 * n)).save(root / f"toys/images/{n}.png")
        tree = tree or coco(images)
        write_json(root / "toys/boxes.json", tree)
        files = [AnnotationFile("coco_instances", "toys/boxes.json")]
        if captions:
            said = [{"id": n, "image_id": n, "caption": f"A dog is at place {n}."} for n in range(1, images + 1)]
            write_json(root / "toys/captions.json", {"images": tree["images"], "annotations": said})
            asked = [{"question_id": n, "image_id": n, "question": "Is there a dog?"} for n in range(1, images + 1)]
            answers = [{"question_id": n, "image_id": n, "multiple_choice_answer": "yes"} for n in range(1, images + 1)]
            write_json(root / "toys/questions.json", {"questions": asked})
            write_json(root / "toys/answers.json", {"annotations": answers})
            files.append(AnnotationFile("coco_captions", "toys/captions.json"))
            files.append(AnnotationFile("vqa", "toys/questions.json", "toys/answers.json"))
        known = dataset or Dataset("toys", "train", "toys/images", tuple(files))
        write_manifest(root, Manifest((replace(known, files=tuple(files)),)))
        return root

    return write


@pytest.fixture
def adapt(tmp_path):
    def adapt(root, params=None, name="out", seed=7):
        output = tmp_path / name
        output.mkdir(exist_ok=True)
        summary = run(params or Params(), {"sources": root}, output, Context(seed, tmp_path / "home", tmp_path))
        return summary, list(read_samples(output)), list(read_rejects(output))

    return adapt


def test_rows_add_up_and_all_tasks_come_out(sources, adapt, tmp_path):
    summary, samples, rejects = adapt(sources(), Params(languages={"en": 1.0, "zh": 0.5}))
    counts = summary["counts"]
    assert counts["in"] == counts["out"] + sum(counts["rejected"].values())
    assert counts["out"] == len(samples) and sum(counts["rejected"].values()) == len(rejects) == 0
    assert {s.task for s in samples if s.language == "en"} == SUPPORTED
    assert {s.task for s in samples if s.language == "zh"} == SUPPORTED - {"vqa", "vqa_choice", "caption_choice"}
    written = read_json(tmp_path / "out/counts.json")
    assert written["task"] == dict(sorted(Counter(s.task for s in samples).items()))
    assert written["language"] == dict(sorted(Counter(s.language for s in samples).items()))
    assert written["images"] == IMAGES == summary["metrics"]["images"]
    assert sum(written["template"].values()) == len(samples)
    json.dumps(summary)


def test_merged_turns_are_counted_by_the_template_of_each(sources, adapt, tmp_path):
    _, samples, _ = adapt(sources(), Params(languages={"en": 1.0}, merge_turns=True))
    written = read_json(tmp_path / "out/counts.json")["template"]
    assert written == dict(sorted(Counter(t for s in samples for t in s.lineage.template.split()).items()))
    assert sum(written.values()) > len(samples) == IMAGES


def test_lineage_is_complete(sources, adapt):
    root = sources()
    _, samples, _ = adapt(root, Params(languages={"en": 1.0, "zh": 1.0}))
    digests = {f: file_digest(root / f) for f in ("boxes", "captions") for f in [f"toys/{f}.json"]}
    for s in samples:
        assert s.id == sample_id(s.task, s.lineage, 7)
        assert s.lineage.annotated_image == f"toys/{s.lineage.annotated_image.split('/')[1]}"
        assert s.lineage.annotation_ids
        assert s.lineage.template.startswith(f"{s.task}.{s.language}.")
        assert s.lineage.template.count("@") == s.lineage.template.count("+") + 1 in (2, 3)
        assert digests.items() <= {f.path: f.sha256 for f in s.lineage.files}.items()
        assert s.group == s.images[0].sha256 == file_digest(root / s.images[0].path)
        assert (s.dataset, s.split, s.method) == ("toys", "train", "adapt")
        assert s.licence == ("CC-BY-SA-4.0" if int(s.lineage.annotated_image[5:]) % 2 else "CC0-1.0")
        assert [m.role for m in s.messages] == ["user", "assistant"]
        assert s.messages[0].images == (0,) and s.messages[1].text == s.response
        assert s.messages[0].text.startswith(s.instruction[:6])
        assert not s.input or s.input in s.messages[0].text
        assert not s.choices or s.choice_style or s.response in s.choices
    assert len({s.id for s in samples}) == len(samples)


def test_box_text_is_found_by_its_region(sources, adapt):
    _, samples, _ = adapt(sources())
    boxed = [s for s in samples if s.task in ("locate", "name_region")]
    assert len(boxed) >= 2 * IMAGES
    for s in boxed:
        text = box_text(s.regions[0].box, s.images[0].width, s.images[0].height)
        assert sum(text in m.text for m in s.messages) == 1
        assert "999" in s.instruction  # the frame is stated


def test_captions_hold_all_regions_of_an_image(sources, adapt):
    _, samples, _ = adapt(sources(), Params(languages={"zh": 1.0, "en": 0.3}))
    chinese = [s for s in samples if s.task == "caption" and s.language == "zh"]
    assert len(chinese) == len({s.group for s in chinese}) == IMAGES
    for s in chinese:
        n = int(s.lineage.annotated_image.split("/")[1])
        assert [r.label for r in s.regions].count("cat") == n % 3
        assert sorted({r.label for r in s.regions} - {"cat"}) == ["apple", "dog", "light blue"]


def test_presence_is_balanced_in_every_language(sources, adapt):
    summary, samples, _ = adapt(sources(), Params(languages={"en": 1.0, "zh": 0.6}))
    found = Counter((s.language, s.polarity) for s in samples if s.task == "presence")
    assert found["en", "yes"] == found["en", "no"] > 0
    assert found["zh", "yes"] == found["zh", "no"] > 0
    assert summary["metrics"]["presence_yes_share"] == 0.5


def test_two_runs_give_the_same_bytes_and_another_seed_others(sources, adapt, tmp_path):
    root = sources()
    adapt(root, name="one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two/samples-00009.parquet").write_bytes(b"left by a killed attempt")
    adapt(root, name="two")
    adapt(root, name="three", seed=8)
    assert tree_digest(tmp_path / "one") == tree_digest(tmp_path / "two") != tree_digest(tmp_path / "three")


def test_the_order_of_images_does_not_matter(picture, tmp_path):
    boxes = [
        ("dog", (10, 20, 60, 80)),
        ("cat", (120, 5, 160, 45)),
        ("apple", (120, 55, 160, 95)),
        ("kite", (70, 0, 99, 9)),
    ]
    images = [picture(*boxes[n % 2 :], number=n) for n in range(20)]
    digests, rejects = set(), []
    for order in (images, images[::-1], images[10:] + images[:10]):
        adapter = Adapter(Params(languages={"en": 1.0, "zh": 0.5}), 0)
        write_samples(tmp_path, (s for image in order for s in adapter.samples(image)))
        digests.add(tree_digest(tmp_path))
        rejects.append(sorted((r.key, r.reason) for r in adapter.rejects))
    assert len(digests) == 1
    assert rejects[0] == rejects[1] == rejects[2] != []


def test_withheld_tasks_are_counted_rejects(sources, adapt):
    files = (AnnotationFile("coco_instances", "toys/boxes.json"),)
    root = sources(dataset=Dataset("toys", "train", "toys/images", files, tasks=("caption",)))
    summary, samples, rejects = adapt(root)
    assert {s.task for s in samples} == {"caption"}
    assert Counter(r.reason for r in rejects).keys() == {"task_withheld"}
    free = adapt(sources("free"), name="free")[0]
    assert summary["counts"]["in"] == free["counts"]["in"]


def test_licences(sources, adapt):
    summary, samples, rejects = adapt(sources(), Params(allow_licences=("cc0",)))
    assert {s.licence for s in samples} == {"CC0-1.0"}
    assert summary["counts"]["rejected"] == {"licence_not_allowed": IMAGES // 2}
    assert rejects[0].key == "toys/1" and "CC BY-SA 4.0" in rejects[0].detail
    assert {s.licence for s in adapt(sources(), Params(allow_licences=("CC BY-SA 2.0",)))[1]} == {
        *("CC0-1.0", "CC-BY-SA-4.0"),  # what asks for no more may pass
    }
    none = adapt(sources("none", coco(licenses=[{"id": 1, "name": "CC0"}, {"id": 2, "name": ""}])), name="none")[0]
    assert none["counts"]["rejected"] == {"licence_missing": IMAGES // 2}
    odd = sources("odd", coco(licenses=[{"id": 1, "name": "CC0"}, {"id": 2, "name": "House rules"}]))
    assert adapt(odd, name="odd")[0]["counts"]["rejected"] == {"licence_unknown": IMAGES // 2}
    for allow in (("unknown",), ("House rules", "CC0")):
        summary, samples, _ = adapt(odd, Params(allow_licences=allow), name="odd")
        assert not summary["counts"]["rejected"] and {s.licence for s in samples} == {"CC0-1.0", "House rules"}


def test_a_sample_is_under_the_licences_of_all_its_sources(sources, adapt):
    files = (AnnotationFile("coco_instances", "toys/boxes.json"),)
    dataset = Dataset("toys", "train", "toys/images", files, annotation_licence="CC BY-NC 2.0")
    _, samples, _ = adapt(sources(dataset=dataset))
    found = {(int(s.lineage.annotated_image[5:]) % 2, s.licence) for s in samples}
    assert found == {(0, "CC-BY-NC-2.0"), (1, "CC-BY-NC-2.0 AND CC-BY-SA-4.0")}
    summary, samples, _ = adapt(sources(dataset=dataset), Params(allow_licences=("CC BY-NC 4.0",)))
    assert summary["counts"]["rejected"] == {"licence_not_allowed": IMAGES // 2} and samples
    with pytest.raises(VistuneError, match=r"no sample from 12 images; rejected: 12 licence_not_allowed"):
        adapt(sources(dataset=dataset), Params(allow_licences=("commercial",)))


def test_names_missing_in_a_language_are_rejects(sources, adapt):
    tree = coco()
    tree["categories"][0].pop("names")
    summary, samples, rejects = adapt(sources(tree=tree), Params(languages={"en": 1.0, "zh": 1.0}))
    assert summary["counts"]["rejected"].keys() == {"name_missing"}
    assert all("/zh/" in r.key and "'dog'" in r.detail for r in rejects)
    yes = Counter((s.language, s.polarity) for s in samples if s.task == "presence")
    assert yes["zh", "yes"] == yes["zh", "no"] > 0


def test_a_data_set_without_names_in_a_language_is_not_at_fault(sources, adapt):
    tree = coco()
    for category in tree["categories"]:
        category.pop("names", None)
    summary, samples, _ = adapt(sources(tree=tree), Params(languages={"en": 1.0, "zh": 1.0}))
    assert not summary["counts"]["rejected"]
    assert {s.language for s in samples} == {"en"}


def test_bad_rows_of_the_source_are_counted(sources, adapt):
    tree = coco()
    tree["annotations"] += [
        {"id": 901, "image_id": 1, "category_id": 1, "bbox": [150, 0, 60, 10]},
        {"id": 902, "image_id": 1, "category_id": 1, "bbox": [10, 10, 0, 10]},
        {"id": 903, "image_id": 77, "category_id": 1, "bbox": [10, 10, 9, 10]},
        {"id": 904, "image_id": 1, "category_id": 55, "bbox": [10, 10, 9, 10]},
        {"id": 905, "image_id": 1, "bbox": [10, 10, 9, 10]},
    ]
    root = sources(tree=tree)
    (root / "toys/images/12.png").write_bytes(b"not a picture")
    summary, _, rejects = adapt(root)
    counts = summary["counts"]
    assert counts["in"] == counts["out"] + sum(counts["rejected"].values())
    assert {r.stage for r in rejects} == {"adapt"}
    keys = {r.key for r in rejects}
    assert {f"toys/object/{n}" for n in range(901, 906)} <= keys
    assert "toys/image/12" in keys
    assert summary["metrics"]["images"] == IMAGES - 1


def test_negatives_come_only_from_the_data_sets_own_categories(sources, adapt):
    _, samples, _ = adapt(sources())
    text = " ".join(s.messages[0].text for s in samples if s.polarity == "no")
    assert {w.strip("?.,") for w in text.split()} & set(NAMES.values()) <= {"boat", "hourglass", "wolf", "cat"}
    shown = {s.group: {r.label for r in s.regions} for s in samples if s.task == "caption"}
    for s in samples:
        if s.task == "presence" and s.polarity == "no":
            assert not any(f" {label}" in s.messages[0].text for label in shown[s.group]), s


def test_examples_for_the_report(sources, adapt):
    summary, samples, _ = adapt(sources(), Params(languages={"en": 1.0, "zh": 0.9}))
    examples = summary["details"]["examples"]
    assert len(examples) == 12
    tasks = [e["task"] for e in examples]
    assert len(set(tasks)) == 12 and set(tasks) <= SUPPORTED
    assert tasks == sorted(tasks, key=list(vars(PerImage())).index)
    assert {e["language"] for e in examples} == {"en"}  # the first language has more tasks than are shown
    assert {e["id"] for e in examples} <= {s.id for s in samples}


def test_sources_named_in_params_replace_the_stage(sources, adapt, tmp_path, monkeypatch):
    root = sources("mine", captions=False)
    monkeypatch.chdir(tmp_path)
    params = Params(
        languages={"en": 1.0},
        sources=("coco_instances:mine/toys/boxes.json,images=mine/toys/images,name=own,split=validation",),
    )
    summary, samples, _ = adapt(tmp_path / "no such folder", params)
    assert {(s.dataset, s.split) for s in samples} == {("own", "validation")}
    assert all(file_digest(tmp_path / "out/sources" / s.images[0].path) == s.group for s in samples)
    assert {s.response[:17] for s in samples if s.task == "caption"} == {"The picture shows"}
    assert summary["details"]["split"] == {"validation": len(samples)}
    assert root.is_dir()


def test_sources_named_in_params_are_part_of_what_the_result_depends_on(sources, tmp_path, monkeypatch):
    root = sources("mine", captions=False)
    monkeypatch.chdir(tmp_path)
    params = Params(sources=("coco_instances:mine/toys/boxes.json,images=mine/toys/images",))
    before = fingerprint(params)
    assert before == fingerprint(params) != fingerprint(Params()) == fingerprint(Params())
    (root / "toys/boxes.json").write_text((root / "toys/boxes.json").read_text().replace("apple", "pear"))
    assert fingerprint(params) != before


def test_no_image_no_sample_no_data_set(sources, adapt, tmp_path):
    root = sources()
    for path in (root / "toys/images").iterdir():
        path.unlink()
    with pytest.raises(
        VistuneError, match=r"data set toys \(train\) has no usable image; rejected rows: .*image_missing"
    ):
        adapt(root)
    with pytest.raises(VistuneError, match=r"no sample from 12 images; rejected: 12 licence_not_allowed"):
        adapt(
            sources("other", coco(licenses=[{"id": n, "name": "GPL"} for n in (1, 2)])), Params(allow_licences=("MIT",))
        )
    (tmp_path / "empty").mkdir()
    write_manifest(tmp_path / "empty", Manifest())
    with pytest.raises(VistuneError, match="lists no data set"):
        adapt(tmp_path / "empty")


def test_unknown_task_of_a_data_set(sources, adapt):
    files = (AnnotationFile("coco_instances", "toys/boxes.json"),)
    root = sources(dataset=Dataset("toys", "train", "toys/images", files, tasks=("captions",)))
    with pytest.raises(VistuneError, match=r"data set toys: .* did you mean tasks\.caption"):
        adapt(root)


def test_params_are_strict():
    given = {
        "per_image": {"vqa": 2},
        "languages": {"en": 1, "zh": 0.2},
        "allow_licences": ["CC0"],
        "negatives": {"similar": 1},
    }
    params = parse(Params, given, "adapt")
    assert (params.per_image.vqa, params.per_image.presence, params.languages["en"]) == (2, 4, 1.0)
    with pytest.raises(VistuneError, match=r"did you mean adapt\.per_image\.locate"):
        parse(Params, {"per_image": {"locat": 1}}, "adapt")


def test_importing_the_stage_is_light():
    heavy = "{'numpy', 'pyarrow', 'PIL', 'torch', 'pandas'}"
    code = f"import sys, vistune.adapt; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert done.stdout.strip() == "set()"


def test_a_data_set_split_and_background_only_image(picture):
    adapter = Adapter(Params(), 0)
    assert list(adapter.samples(picture(number=1))) == []
    assert adapter.candidates == 0
    image = picture(("dog", (0, 0, 50, 50)), number=2, split="validation")
    image = replace(image, objects=(*image.objects, Annotation("5", image.objects[0].category, (60, 0, 99, 50))))
    assert {s.split for s in adapter.samples(image)} == {"validation"}


def test_golden(picture):
    """A snapshot. A change here is a change of the data: raise the version of the template that caused it."""
    image = picture(
        ("dog", (10, 20, 60, 80)),
        ("cat", (120, 5, 160, 30)),
        ("cat", (120, 60, 160, 95)),
        ("apple", (80, 40, 100, 55)),
        captions=(Caption("c1", "two cats watch a dog with an apple"),),
        questions=(Question("q1", "What color is the dog?", "brown", ("brown",)),),
    )
    adapter = Adapter(Params(languages={"en": 1.0, "zh": 1.0}), 0)
    rows = [[s.id, s.lineage.template, s.messages[0].text, s.response] for s in adapter.samples(image)]
    assert rows == read_json(Path(__file__).parent / "golden_samples.json")
