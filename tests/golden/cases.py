"""Vectors of the official scorers, and what ours make of the same input.

A file holds `cases`: {id, metric, input, expected, note}. `expected` is what the official script returned; {"error": X}
means that it raised X, where ours must return a finite value or raise VistuneError. `SCORERS` gives, for each metric,
our result in the vectors' terms. Metrics of `OTHERS` document how tools disagree and are not asked of our scorers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.evaluate.scorers import (
    anls,
    captions,
    chair,
    chartqa,
    gqa,
    hallusionbench,
    judged,
    mmbench,
    mme,
    mmmu,
    ocrbench,
    pope,
    ptb,
    refcoco,
    scienceqa,
    vqa,
)

OTHERS = ("_lmmseval", "_lmeval", "_qwenvl_driver", "_no_answer_id", "_unstripped")
NOT_COMPUTED = ("METEOR", "SPICE")  # Java programs with data of their own

Given = Mapping[str, Any]


def _scienceqa(given: Given) -> Any:
    right = scienceqa.right(given["text"], given["choices"], given["answer_index"])
    return {"parsed": scienceqa.letter(given["text"]), "correct": right}


def _mmmu_choice(given: Given) -> Any:
    named = {letter: given["index2ans"][letter] for letter in given["choices"]}
    return mmmu.choice(given["response"], named) or {"random_choice": True}


def _mmmu_open(given: Given) -> Any:
    parsed = sorted(map(str, mmmu.open_answers(given["response"])))
    return {"parsed": parsed, "correct": mmmu.open_right(given["response"], given["answer"])}


def _circular(given: Given) -> Any:
    """The options are turned with the right letter."""
    letters, options = given["rotations_GT"], list(given["options"])
    rights = []
    for gold, said in zip(letters, given["predictions"], strict=True):
        turn = (ord(gold) - ord(letters[0])) % len(options)
        turned = options[-turn:] + options[:-turn] if turn else options
        rights.append(mmbench.choice(str(said), dict(zip("ABCDEFGH", turned, strict=False))) == gold)
    return int(mmbench.circular([("q", n, right) for n, right in enumerate(rights)]))


def _mme_total(given: Given) -> Any:
    pairs = given["pairs_gt_pred_same_for_all_14_subtasks"]
    rights = [(str(n // 2), mme.answer(said) == gold.lower()) for n, (gold, said) in enumerate(pairs)]
    rows = [(name, *right) for name in (*mme.PERCEPTION, *mme.COGNITION) for right in rights]
    return {"perception": mme.perception(rows), "cognition": mme.cognition(rows)}


def _pope(given: Given) -> Any:
    pairs = [
        (pope.answer(said) == "yes", label != "no")
        for said, label in zip(given["answers"], given["labels"], strict=True)
    ]
    found = pope.scores(pairs)
    return {"acc": found.pop("accuracy"), **found}


def _hallusion(given: Given) -> Any:
    rows = given["rows_category_figure_question_visual_judge"]
    return hallusionbench.accuracies([(c, "", "", str(f), str(q), judge) for c, f, q, _, judge in rows])


def _iou(given: Given) -> Any:
    overlap = refcoco.iou(given["pred_xyxy"], given["gt_xyxy"])
    return {"iou": overlap, "acc@0.5": overlap >= refcoco.THRESHOLD}


def _named(given: Given) -> Any:
    found = chair.named(given["caption"])
    return {"words": list(found.words), "node_words": list(found.categories), "idxs": list(found.places)}


def _chair(given: Given) -> Any:
    truth = given["gt"]
    return chair.scores([(chair.named(text), truth.get(str(image), ())) for image, text in given["captions"]])


def _captions(given: Given) -> Any:
    pairs = [captions.pair(given["candidates"][key], refs) for key, refs in given["references"].items()]
    scorer = captions.Cider([references for _, references in pairs])
    return {
        **{f"Bleu_{n}": captions.bleu(pairs, n) for n in range(1, captions.ORDERS + 1)},
        "ROUGE_L": sum(captions.rouge_l(*one) for one in pairs) / len(pairs),
        "CIDEr": captions.cider(pairs),
        "CIDEr_per_image": [scorer.score(*one) for one in pairs],
    }


def _relaxed(given: Given) -> float:
    targets = given["target"] if isinstance(given["target"], list) else [given["target"]]
    return max(chartqa.relaxed(given["prediction"].strip(), target) for target in targets)


SCORERS: dict[str, Callable[[Given], Any]] = {
    "vqa_normalize_official": lambda g: vqa.normalise(g["text"]),
    "vqav2_accuracy_official": lambda g: round(100 * vqa.accuracy(g["prediction"], g["answers"]), 2),
    "textvqa_normalize_m4c": lambda g: vqa.normalise_m4c(g["text"]),
    "textvqa_accuracy_m4c": lambda g: vqa.accuracy_m4c(g["prediction"], g["answers"]),
    "gqa_llava": lambda g: gqa.exact(g["prediction"], g["answer"]),
    "anls_rrc_official": lambda g: anls.anls(g["prediction"], g["answers"], g.get("threshold", anls.THRESHOLD)),
    "anls_m4c": lambda g: max((anls.similarity_m4c(g["prediction"], a) for a in g["answers"]), default=0.0),
    "chartqa_relaxed": _relaxed,
    "pope_parse": lambda g: pope.answer(g["text"]),
    "pope_aggregate": _pope,
    "mme_parse_official": lambda g: mme.answer(g["text_lowercased"]),
    "mme_total_official": _mme_total,
    "scienceqa_llava": _scienceqa,
    "mmmu_parse_mc": _mmmu_choice,
    "mmmu_open": _mmmu_open,
    "mmbench_can_infer_vlmevalkit": lambda g: mmbench.choice(str(g["answer"]), g["choices"]) or False,
    "mmbench_circular": _circular,
    "ocrbench": lambda g: ocrbench.contains(g.get("predict"), g["answers"], g["dataset_name"]),
    "refcoco_iou_qwenvl": _iou,
    "llavabench_parse_score": lambda g: list(judged.pair_of_scores(g["review"] or "") or (-1, -1)),
    "hallusionbench_acc": _hallusion,
    "chair_caption_to_words": _named,
    "chair_aggregate": _chair,
    "ptb_tokenize": lambda g: " ".join(ptb.words(g["text"])),
    "coco_caption": _captions,
}

TOLERANCE = {"coco_caption": 1e-4}


@dataclass
class Case:
    id: str
    metric: str
    passed: bool
    difference: float = 0.0  # the largest of the numbers in it
    said: str = ""  # what ours returned, where it failed; or how it meets what the official script cannot
    left_out: tuple[str, ...] = ()  # values that ours does not compute


def required(metric: str) -> bool:
    return not metric.endswith(OTHERS)


def check(file: Path) -> Iterator[Case]:
    """Every case that is asked of our scorers. Raises VistuneError when the file is none of vectors."""
    try:
        cases = json.loads(file.read_text(encoding="utf-8"))["cases"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VistuneError(f"{file} holds no golden vectors ({error!r}). Name one with FIXTURES=FILE.") from None
    for case in cases:
        if required(case["metric"]):
            yield _check(case)


def _check(case: Given) -> Case:
    id, metric, expected = str(case["id"]), case["metric"], case["expected"]
    if metric not in SCORERS:
        return Case(id, metric, False, said="no scorer of this name")
    raises = isinstance(expected, dict) and "error" in expected
    try:
        found = SCORERS[metric](case["input"])
    except VistuneError as error:
        return Case(id, metric, raises, math.inf, f"VistuneError: {error}")
    except Exception as error:  # a scorer that falls over is a failed case, not the end of the comparison
        return Case(id, metric, False, math.inf, f"{type(error).__name__}: {error}")
    if raises:
        return Case(id, metric, True, said=f"official script: {expected['error']}; here {found}")
    left_out = tuple(k for k in NOT_COMPUTED if isinstance(expected, dict) and k in expected and k not in found)
    if isinstance(expected, dict):
        expected = {k: v for k, v in expected.items() if k not in left_out}
        if "parsed" in expected and isinstance(expected["parsed"], list):
            expected["parsed"] = sorted(map(str, expected["parsed"]))
    gap = difference(found, expected)
    passed = gap <= TOLERANCE.get(metric, 1e-6)
    return Case(id, metric, passed, gap, "" if passed else f"{found!r}, expected {expected!r}", left_out)


def difference(found: Any, expected: Any) -> float:
    """The largest difference of numbers in two values of one shape; infinity where anything else differs.

    >>> difference({"a": [1.0, "x"]}, {"a": [1.25, "x"]}), difference("x", "y"), difference(float("nan"), "nan")
    (0.25, inf, 0.0)
    """
    if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
        return max((difference(found[k], v) for k, v in expected.items()), default=0.0)
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return max((difference(f, e) for f, e in zip(found, expected, strict=True)), default=0.0)
    if isinstance(found, float) and math.isnan(found):
        return 0.0 if expected == "nan" else math.inf
    if isinstance(expected, bool | int | float) and isinstance(found, bool | int | float):
        return 0.0 if found == expected else abs(float(found) - float(expected))
    return 0.0 if found == expected and type(found) is type(expected) else math.inf
