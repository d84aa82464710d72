"""Writes the file of evidence that MoAI reads: what Mask2Former and OWLv2 see in every picture, in words and as a map.

Both are transformers' models, read from folders with published weights (facebook/mask2former-swin-base-coco-panoptic,
google/owlv2-base-patch16-ensemble). MoAI's two other readers are not part of transformers: PSGTR (scene graphs) and
PaddleOCR. Where they ran elsewhere, a JSON file says what they found, by image:
`{IMAGE: {"relations": ["person is holding cup"], "lines": [["EXIT", 0.98]]}}`.

From a shell: `python -m vistune.models.evidence_writer PICTURES FILE --mask2former DIR --owlv2 DIR`. A run that was
interrupted goes on behind its last whole line.
Source: ByungKwanLee/MoAI moai/arch_moai.py (demo_process, eval_process), moai/load_moai.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoTokenizer, Mask2FormerForUniversalSegmentation, Owlv2ForObjectDetection
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

from vistune.errors import VistuneError
from vistune.files import files_under, is_picture, read_json
from vistune.imagefile import decode, describe_image
from vistune.imagestore import INDEX, open_store
from vistune.models import evidence
from vistune.models.evidence import SIDE, Evidence, Found
from vistune.models.pixels import redraw
from vistune.models.views import Resize

if TYPE_CHECKING:
    from PIL.Image import Image

LEAST_SEGMENT, LEAST_PIXEL, LEAST_BOX = 0.5, 0.95, 0.1


class Segmenter:
    """Mask2Former, trained on COCO's panoptic segmentation. No instances are fused."""

    def __init__(self, folder: Path | str, device: str = "cpu") -> None:
        self.processor = Mask2FormerImageProcessorPil.from_pretrained(folder)
        self.model: Any = Mask2FormerForUniversalSegmentation.from_pretrained(folder).to(device).eval()

    @torch.inference_mode()
    def __call__(self, picture: Image) -> tuple[np.ndarray, list[str]]:
        """picture: SIDE x SIDE pixels -> the number of each pixel's segment, uint8 (SIDE, SIDE), 0 for none, and the
        class of segment 1, 2, ..."""
        inputs = self.processor(images=[picture], return_tensors="pt").to(self.model.device)
        found = self.processor.post_process_panoptic_segmentation(
            self.model(**inputs), LEAST_SEGMENT, LEAST_PIXEL, label_ids_to_fuse=set(), target_sizes=[(SIDE, SIDE)]
        )[0]
        names = [self.model.config.id2label[segment["label_id"]] for segment in found["segments_info"]]
        return found["segmentation"].clamp(min=0).byte().cpu().numpy(), names


class Detector:
    """OWLv2, asked for every class of an open vocabulary. What it makes of the words is computed once."""

    def __init__(self, folder: Path | str, device: str = "cpu", names: Sequence[str] = ()) -> None:
        self.processor = Owlv2ImageProcessorPil.from_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model: Any = Owlv2ForObjectDetection.from_pretrained(folder).to(device).eval()
        self.names = names or evidence.open_vocabulary()

    @cached_property
    def queries(self) -> torch.Tensor:
        """float32 (1, names, channels)"""
        length = self.model.config.text_config.max_position_embeddings
        words = self.tokenizer(
            list(self.names), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        inputs = {key: words[key].to(self.model.device) for key in ("input_ids", "attention_mask")}
        said = self.model.owlv2.get_text_features(**inputs).pooler_output
        return (said / said.norm(dim=-1, keepdim=True))[None]

    @torch.inference_mode()
    def __call__(self, picture: Image) -> list[Found]:
        """picture: SIDE x SIDE pixels -> objects that are sure enough"""
        pixels = self.processor(images=[picture], return_tensors="pt").pixel_values.to(self.model.device)
        grid = self.model.image_embedder(pixels)[0]
        patches = grid.flatten(1, 2)
        seen = SimpleNamespace(
            logits=self.model.class_predictor(patches, self.queries)[0],
            pred_boxes=self.model.box_predictor(patches, grid),
        )
        found = self.processor.post_process_object_detection(seen, LEAST_BOX, target_sizes=[(SIDE, SIDE)])[0]
        names = [self.names[label] for label in found["labels"].tolist()]
        return evidence.detections(found["scores"].tolist(), found["boxes"].tolist(), names)


def see(
    picture: Image,
    segment: Callable[[Image], tuple[np.ndarray, list[str]]],
    detect: Callable[[Image], list[Found]],
    elsewhere: Mapping[str, Any] | None = None,
) -> Evidence:
    """The evidence of an upright RGB picture. elsewhere: its `relations` and `lines`."""
    small = redraw(picture, Resize((SIDE, SIDE), "point-bilinear"))
    segmentation, names = segment(small)
    other = elsewhere or {}
    text = evidence.verbalised(
        evidence.segments(segmentation, names),
        detect(small),
        other.get("relations", ()),
        evidence.lines([(text, score) for text, score in other.get("lines", ())]),
    )
    return Evidence(text, segmentation)


def write_evidence(
    pictures: Iterable[tuple[str, Callable[[], Image]]], file: Path, look: Callable[..., Evidence]
) -> int:
    """Writes one line for each of `pictures` (what it is called, and how to open it), by `look(name, picture)`. Lines
    that are there already are kept; `file` itself appears when all are. Returns how many lines were added."""
    part = file.with_name(file.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and not part.exists():
        shutil.copyfile(file, part)
    known = _whole_lines(part)
    added = 0
    with part.open("a", encoding="utf-8") as lines:
        for name, open_picture in pictures:
            if name not in known:
                lines.write(evidence.line(name, look(name, open_picture())))
                lines.flush()
                known.add(name)
                added += 1
    os.replace(part, file)
    return added


def write_folder(
    images: Path, file: Path, mask2former: Path, owlv2: Path, elsewhere: Path | None = None, device: str = "cpu"
) -> int:
    """The evidence of every picture under the folder `images`, in files of their own and in its image shards, called by
    the digest of its bytes (`ImageRef.sha256`). Raises VistuneError for a folder without pictures."""
    found = [path for path in files_under(images) if is_picture(path)]
    packed = open_store(images) if (images / INDEX).is_file() else ()
    if not found and not packed:
        raise VistuneError(f"{images} holds no pictures.")
    others: Mapping[str, Any] = read_json(elsewhere) if elsewhere else {}
    segmenter, detector = Segmenter(mask2former, device), Detector(owlv2, device)

    def pictures() -> Iterator[tuple[str, Callable[[], Image]]]:
        for path in found:
            image = describe_image(images, str(path.relative_to(images)))
            yield image.sha256, partial(decode, path, image)
        for image, data in packed.stream() if packed else ():
            yield image.sha256, partial(decode, BytesIO(data), image)

    return write_evidence(pictures(), file, lambda name, picture: see(picture, segmenter, detector, others.get(name)))


def _whole_lines(part: Path) -> set[str]:
    """The images that `part` speaks of. A last line without its end, of a run that was killed, is cut off."""
    if not part.exists():
        return set()
    whole = part.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    os.truncate(part, len(whole))
    return set(evidence.read_evidence(part))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write what helper models see in every picture, for MoAI.")
    parser.add_argument("images", type=Path, metavar="PICTURES", help="folder of pictures")
    parser.add_argument("file", type=Path, metavar="FILE", help="JSON lines to write")
    parser.add_argument("--mask2former", type=Path, required=True, metavar="DIR", help="its published weights")
    parser.add_argument("--owlv2", type=Path, required=True, metavar="DIR", help="its published weights")
    parser.add_argument("--elsewhere", type=Path, metavar="FILE", help="JSON of relations and texts found elsewhere")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    given = parser.parse_args(arguments)
    print(f"{write_folder(**vars(given))} pictures added to {given.file}")


if __name__ == "__main__":
    try:
        main()
    except VistuneError as error:
        raise SystemExit(f"vistune: {error}") from None
