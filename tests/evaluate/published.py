"""Tiny copies of published benchmarks: each folder has the files and the layout of the original, and pictures of our
own."""

from __future__ import annotations

import base64
import io
import json
import pickle
from pathlib import Path
from typing import Any

from PIL import Image


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (37 * number % 256, 91 * number % 256, 120)).save(buffer, "PNG")
    return buffer.getvalue()


def lay_out(root: Path) -> None:
    """Every benchmark under `root`, in the folder its task files name."""
    for benchmark in (_vqa, _okvqa, _gqa, _vizwiz, _textvqa, _scienceqa, _aokvqa, _pope, _mme, _mmbench, _seed, _mmmu):
        benchmark(root)
    for benchmark in (_chartqa, _docvqa, _infovqa, _ocrbench, _captions, _refcoco, _hallusion, _chair, _judged):
        benchmark(root)


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif path.suffix == ".jsonl" or path.name.startswith("coco_pope"):
        path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    else:
        path.write_text(json.dumps(content), encoding="utf-8")


def ten(*answers: str) -> list[dict[str, Any]]:
    given = [answers[n % len(answers)] for n in range(10)]
    return [{"answer": a, "answer_confidence": "yes", "answer_id": n + 1} for n, a in enumerate(given)]


def _vqa(root: Path, folder: str = "vqav2", prefix: str = "v2_") -> None:
    at = root / folder
    asked = [
        (1, 11, "What is it?", ten("cat")),
        (2, 11, "How many?", ten("2", "two")),
        (3, 12, "Blank?", ten("no", " ")),
    ]
    questions = [{"question_id": q, "image_id": i, "question": text} for q, i, text, _ in asked]
    answers = [
        {
            "question_id": q,
            "image_id": i,
            "answers": given,
            "multiple_choice_answer": given[0]["answer"],
            "question_type": "what",
            "answer_type": "other",
        }
        for q, i, _, given in asked
    ]
    put(at / f"{prefix}OpenEnded_mscoco_val2014_questions.json", {"questions": questions})
    put(at / f"{prefix}mscoco_val2014_annotations.json", {"annotations": answers})
    for image in (11, 12):
        put(at / f"val2014/COCO_val2014_{image:012d}.jpg", picture(image))


def _okvqa(root: Path) -> None:
    _vqa(root, "okvqa", "")


def _gqa(root: Path) -> None:
    rows = {
        "201": {"imageId": "n1", "question": "Is it red?", "answer": "no", "fullAnswer": "No, it is blue."},
        "202": {"imageId": "n1", "question": "Which side?", "answer": "left", "types": {"structural": "query"}},
        "203": {"imageId": "n2", "question": "What is it?", "answer": "dog"},
    }
    put(root / "gqa/testdev_balanced_questions.json", rows)
    for name in ("n1", "n2"):
        put(root / f"gqa/images/{name}.jpg", picture(ord(name[1])))


def _vizwiz(root: Path) -> None:
    rows = [
        {"image": "VizWiz_val_00000000.jpg", "question": "What is\nthis?", "answers": ten("soup"), "answerable": 1},
        {"image": "VizWiz_val_00000001.jpg", "question": "Who?", "answers": ten("unanswerable"), "answerable": 0},
    ]
    put(root / "vizwiz/val.json", rows)
    for n in (0, 1):
        put(root / f"vizwiz/val/VizWiz_val_0000000{n}.jpg", picture(20 + n))


def _textvqa(root: Path) -> None:
    rows = [
        {
            "question_id": 34,
            "image_id": "ab12",
            "question": "brand?",
            "answers": ["nike"] * 9 + [""],
            "set_name": "val",
        },
        {"question_id": 35, "image_id": "cd34", "question": "number?", "answers": ["7"] * 10, "set_name": "val"},
    ]
    place = {"top_left_x": 0.1, "top_left_y": 0.1, "width": 0.5, "height": 0.2, "rotation": 0}
    words = [{"image_id": "ab12", "ocr_info": [{"word": w, "bounding_box": place} for w in ("NIKE", "just")]}]
    put(root / "textvqa/TextVQA_0.5.1_val.json", {"data": rows})
    put(root / "textvqa/TextVQA_Rosetta_OCR_v0.2_val.json", {"data": words})
    for n, name in enumerate(("ab12", "cd34")):
        put(root / f"textvqa/train_images/{name}.jpg", picture(30 + n))


def _scienceqa(root: Path) -> None:
    base = {"split": "test", "lecture": "", "solution": "", "task": "closed choice"}
    problems = {
        "5": {
            **base,
            "question": "Which?",
            "choices": ["cat", "dog"],
            "answer": 1,
            "hint": "Look.",
            "image": "image.png",
        },
        "6": {**base, "question": "And?", "choices": ["a", "b", "c"], "answer": 0, "hint": "", "image": "image.png"},
        "7": {**base, "question": "Text?", "choices": ["x", "y"], "answer": 0, "hint": "", "image": None},
    }
    put(root / "scienceqa/problems.json", problems)
    put(root / "scienceqa/pid_splits.json", {"train": [], "val": [], "test": ["5", "6", "7"]})
    for key in ("5", "6"):
        put(root / f"scienceqa/test/{key}/image.png", picture(40 + int(key)))


def _aokvqa(root: Path) -> None:
    rows = [
        {
            "split": "val",
            "image_id": 300 + n,
            "question_id": f"q{n}",
            "question": "What for?",
            "choices": ["ski", "swim", "eat", "fly"],
            "correct_choice_idx": n,
            "direct_answers": [["ski", "swim"][n]] * 10,
            "rationales": ["so"],
        }
        for n in range(2)
    ]
    put(root / "aokvqa/aokvqa_v1p0_val.json", rows)
    for n in range(2):
        put(root / f"aokvqa/val2017/{300 + n:012d}.jpg", picture(50 + n))


def _pope(root: Path) -> None:
    for setting in ("random", "popular", "adversarial"):
        rows = [
            {"question_id": n + 1, "image": f"COCO_val2014_{n // 2}.jpg", "text": f"Is there a {what} in the image?"}
            | {"label": "yes" if n % 2 == 0 else "no"}
            for n, what in enumerate(("dog", "cat", "car", "bus"))
        ]
        put(root / f"pope/coco_pope_{setting}.json", rows)
    for n in range(2):
        put(root / f"pope/val2014/COCO_val2014_{n}.jpg", picture(60 + n))


def _mme(root: Path) -> None:
    from vistune.evaluate.scorers.mme import COGNITION, PERCEPTION

    for n, subtask in enumerate((*PERCEPTION, *COGNITION)):
        lines = "Is it red? Please answer yes or no.\tYes\nIs it blue? Please answer yes or no.\tNo\n"
        apart = subtask in ("artwork", "celebrity", "landmark", "posters", "scene")
        put(root / f"mme/{subtask}/{'questions_answers_YN/' if apart else ''}0001.txt", lines)
        put(root / f"mme/{subtask}/{'images/' if apart else ''}0001.{'jpg' if apart else 'png'}", picture(70 + n))


def _mmbench(root: Path) -> None:
    encoded = base64.b64encode(picture(90)).decode()
    header = "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\tl2-category\timage\tsource\tsplit\n"
    rows = [
        f"0\tWhat is it?\tLook\tcat\tdog\tcow\t\tB\tobject\tfine\t{encoded}\ts\tdev\n",
        "5\tWhere?\t\tleft\tright\t\t\tA\tspatial\tfine\t0\ts\tdev\n",
    ]
    put(root / "mmbench/mmbench_dev_20230712.tsv", header + "".join(rows))
    turned = rows[0].replace("0\tWhat", "1000000\tWhat").replace("cat\tdog\tcow\t\tB", "cow\tcat\tdog\t\tC")
    put(root / "mmbench/mmbench_dev_cn_20231003.tsv", header + rows[0] + turned)


def _seed(root: Path) -> None:
    row = {"choice_a": "one", "choice_b": "two", "choice_c": "three", "choice_d": "four", "answer": "B"}
    questions = [
        {**row, "question": "How many?", "question_id": "101", "question_type_id": 5, "data_id": "1454426_2591111986"},
        {**row, "question": "Who?", "question_id": "102", "question_type_id": 1, "data_id": "2.jpg", "answer": "D"},
        {**row, "question": "Video?", "question_id": "103", "question_type_id": 11, "data_id": "3.mp4"},
    ]
    put(root / "seed/SEED-Bench.json", {"questions": questions, "question_type": {"Instances Counting": 5}})
    for n, name in enumerate(("1454426_2591111986", "2.jpg")):  # CC3M's pictures have names without an ending
        put(root / f"seed/SEED-Bench-image/{name}", picture(101 + n))


def _mmmu(root: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = [
        {
            "id": "validation_Art_1",
            "question": "<image 2> What is it?",
            "options": "['a cat', '<image 1>']",
            "answer": "B",
            "question_type": "multiple-choice",
        },
        {
            "id": "validation_Art_2",
            "question": "How much is <image 1>?",
            "options": "[]",
            "answer": "['24500', '24,500']",
            "question_type": "open",
        },
    ]
    for row in rows:
        row |= {f"image_{n}": {"bytes": picture(110 + n), "path": f"{n}.png"} if n < 3 else None for n in range(1, 8)}
    (root / "mmmu/Art").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), root / "mmmu/Art/validation-00000-of-00001.parquet")


def _chartqa(root: Path) -> None:
    put(root / "chartqa/test/test_human.json", [{"imgname": "1.png", "query": "How much?", "label": "14"}])
    put(root / "chartqa/test/test_augmented.json", [{"imgname": "2.png", "query": "Which year?", "label": "2015"}])
    for n in (1, 2):
        put(root / f"chartqa/test/png/{n}.png", picture(120 + n))


def _docvqa(root: Path) -> None:
    row = {"data_split": "val", "question_types": ["layout"], "docId": 1}
    rows = [
        {**row, "questionId": 9, "question": "Who?", "image": "documents/a_1.png", "answers": ["ITC Limited", "ITC"]}
    ]
    put(root / "docvqa/val_v1.0_withQT.json", {"dataset_name": "DocVQA", "data": rows})
    put(root / "docvqa/documents/a_1.png", picture(130))


def _infovqa(root: Path) -> None:
    row = {"questionId": 4, "question": "How many?", "image_local_name": "1.jpeg", "answers": ["47", "forty-seven"]}
    put(root / "infovqa/infographicsVQA_val_v1.0_withQT.json", {"data": [row]})
    put(root / "infovqa/infographicsvqa_images/1.jpeg", picture(131))


def _ocrbench(root: Path) -> None:
    rows = [
        {"dataset_name": "IIIT5K", "type": "Regular Text Recognition", "question": "Read it.", "answers": "CENTRE"},
        {"dataset_name": "HME100k", "type": "Handwriting", "question": "Write it.", "answers": ["\\frac { 1 } { 2 }"]},
    ]
    put(root / "ocrbench/OCRBench.json", [{**r, "image_path": f"x/{n}.png"} for n, r in enumerate(rows)])
    for n in range(2):
        put(root / f"ocrbench/OCRBench_Images/x/{n}.png", picture(140 + n))


def _captions(root: Path) -> None:
    texts = [["a man riding a horse", "a cowboy on a horse"], ["two dogs in a park", "dogs play outside"]]
    images = [
        {
            "imgid": n,
            "filepath": "val2014",
            "filename": f"{n}.jpg",
            "split": "test",
            "sentences": [{"raw": t} for t in two],
        }
        for n, two in enumerate(texts)
    ]
    put(root / "coco_caption/dataset_coco.json", {"images": [*images, {**images[0], "imgid": 7, "split": "train"}]})
    listed = [{"id": n, "file_name": f"{n}.jpg", "domain": "near-domain"} for n in range(2)]
    said = [{"id": 10 * n + k, "image_id": n, "caption": t} for n, two in enumerate(texts) for k, t in enumerate(two)]
    put(root / "nocaps/nocaps_val_4500_captions.json", {"images": listed, "annotations": said})
    for n in range(2):
        put(root / f"coco_caption/val2014/{n}.jpg", picture(150 + n))
        put(root / f"nocaps/images/{n}.jpg", picture(150 + n))


def _refcoco(root: Path) -> None:
    for folder, file, parts in (
        ("refcoco", "refs(unc).p", ("val", "testA", "testB")),
        ("refcoco_plus", "refs(unc).p", ("val", "testA", "testB")),
        ("refcocog", "refs(umd).p", ("val", "test")),
    ):
        refs = [
            {"ref_id": n, "ann_id": 5, "image_id": 3, "split": part, "sentences": [{"sent_id": n, "sent": "left man"}]}
            for n, part in enumerate(("train", *parts))
        ]
        put(root / folder / file, pickle.dumps(refs, protocol=2))
        images = [{"id": 3, "file_name": "COCO_train2014_3.jpg", "width": 40, "height": 30}]
        boxes = [{"id": 5, "image_id": 3, "category_id": 1, "bbox": [0, 0, 20, 30]}]
        put(root / folder / "instances.json", {"images": images, "annotations": boxes, "categories": []})
        put(root / folder / "train2014/COCO_train2014_3.jpg", picture(160))


def _hallusion(root: Path) -> None:
    base = {"subcategory": "chart", "set_id": "0", "question_id": "0", "gt_answer_details": "It is."}
    rows = [
        {**base, "category": "VS", "figure_id": "0", "visual_input": "0", "question": "Is A more?", "gt_answer": "1"},
        {**base, "category": "VS", "figure_id": "1", "visual_input": "1", "question": "Is A more?", "gt_answer": "1"},
        {**base, "category": "VS", "figure_id": "2", "visual_input": "2", "question": "Is A more?", "gt_answer": "0"},
    ]
    put(root / "hallusionbench/HallusionBench.json", rows)
    for n in (1, 2):
        put(root / f"hallusionbench/hallusion_bench/VS/chart/0_{n}.png", picture(170 + n))


def _chair(root: Path) -> None:
    images = [{"id": n, "file_name": f"COCO_val2014_{n}.jpg", "width": 40, "height": 30} for n in (1, 2)]
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
    boxes = [{"id": n, "image_id": n, "category_id": n, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0} for n in (1, 2)]
    said = [{"id": 1, "image_id": 1, "caption": "a man on a horse"}, {"id": 2, "image_id": 2, "caption": "a puppy"}]
    put(
        root / "chair/annotations/instances_val2014.json",
        {"images": images, "annotations": boxes, "categories": categories},
    )
    put(root / "chair/annotations/captions_val2014.json", {"images": images, "annotations": said})
    for n in (1, 2):
        put(root / f"chair/val2014/COCO_val2014_{n}.jpg", picture(180 + n))


def _judged(root: Path) -> None:
    vet = {"imagename": "v1_0.png", "question": "What is x?", "answer": "-1<AND>-5", "capability": ["ocr", "math"]}
    put(root / "mm_vet/mm-vet.json", {"v1_0": vet, "v1_1": {**vet, "imagename": "v1_1.png", "answer": "cat"}})
    for n in (0, 1):
        put(root / f"mm_vet/images/v1_{n}.png", picture(190 + n))
    asked = [{"question_id": n, "image": "001.jpg", "text": "Describe it.", "category": "detail"} for n in (0, 1)]
    put(root / "llava_bench/questions.jsonl", asked)
    put(root / "llava_bench/context.jsonl", [{"id": "001", "image": "001.jpg", "caption": "A street."}])
    put(root / "llava_bench/answers_gpt4.jsonl", [{"question_id": n, "text": "It is a street."} for n in (0, 1)])
    put(root / "llava_bench/images/001.jpg", picture(192))
    put(root / "gavie/evaluation_set.json", [{"image_id": "2315", "question": "Is a dog there?", "answer": "no"}])
    put(root / "gavie/vg_annotation.json", {"2315": [{"caption": "a tree", "bbox": [1, 2, 30, 40]}]})
    put(root / "gavie/images/2315.jpg", picture(193))
