"""Release views: a release in the form that a trainer, hub or loader reads.

A view holds each sample's id, messages, images and (instruction, input, response); what a format has no place for
stands under the key `vistune` of each row. Boxes in the text are rendered as the chosen consumer writes them.
Licences and attributions go along in LICENSES.tsv. Equal releases give equal bytes; memory is that of a shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistune.boxcodec import NATIVE, find
from vistune.errors import VistuneError
from vistune.export import alpaca, hf, internvl, llava, messages, sharegpt, webdataset
from vistune.export.folder import MANIFEST, fresh_folder
from vistune.export.release import Release
from vistune.export.rendering import Tally, render
from vistune.files import write_json, write_text
from vistune.progress import track
from vistune.records import Sample


@dataclass(frozen=True)
class View:
    write: Callable[[Release, Iterable[Sample], Path], None]
    what: str


VIEWS: dict[str, View] = {
    "llava": View(llava.write, "SPLIT.json and images/, for LLaVA's --data_path and --image_folder"),
    "sharegpt": View(sharegpt.write, "SPLIT.json, dataset_info.json and images/, for LLaMA-Factory's --dataset_dir"),
    "alpaca": View(alpaca.write, "the same with instruction, input, output and history"),
    "messages": View(messages.write, "SPLIT.jsonl of content blocks and images/, for transformers and TRL"),
    "hf": View(hf.write, "SPLIT-*.parquet with the images inside, for datasets and the Hugging Face Hub"),
    "webdataset": View(webdataset.write, "SPLIT-*.tar of about 1 GB, for webdataset"),
    "internvl": View(internvl.write, "SPLIT.jsonl, SPLIT_meta.json and images/, for InternVL's --meta_path"),
}


def export(release: Path, view: str, output: Path, boxes: str = NATIVE.name, split: str = "") -> dict[str, Any]:
    """Writes a view of a release folder to `output` and returns what export.json says about it. An earlier export
    there is replaced; it is never seen half written. `split`: only that one; `boxes`: a name for `boxcodec.find`.
    Raises VistuneError for an unknown view, box format or split, and for a damaged release."""
    if view not in VIEWS:
        raise VistuneError(f"there is no view {view!r}. Choose one of {', '.join(VIEWS)}.")
    codec = find(boxes)
    source, tally = Release(release), Tally()
    with fresh_folder(output) as folder:
        total = source.count(split)
        samples = track(source.samples(split), f"export {view}", total, "samples")
        VIEWS[view].write(source, (render(sample, codec, tally) for sample in samples), folder)
        write_text(folder / "LICENSES.tsv", source.licences())
        manifest = {
            "view": view,
            "box_format": codec.name,
            "split": split,
            "release": source.facts["digest"],
            "images": len(source.used),
            "images_turned_upright": source.turned,
            **vars(tally),
        }
        write_json(folder / MANIFEST, manifest)
    return manifest


def described(manifest: Mapping[str, Any]) -> str:
    """What export.json says, in a few lines."""
    samples = ", ".join(f"{split} {n:,}" for split, n in sorted(manifest["samples"].items())) or "no"
    turned = manifest["images_turned_upright"]
    images = f"{manifest['images']:,} images" + (f", {turned:,} of them turned upright" if turned else "")
    lines = [f"export {manifest['view']}: {samples} samples · {images}"]
    boxes = f"  boxes as {manifest['box_format']}: {manifest['boxes']:,} in {manifest['samples_with_boxes']:,} samples"
    flat = manifest["boxes_without_area"]
    lines.append(boxes + (f", {flat:,} of them thinner than half a step" if flat else ""))
    kept = manifest["samples_kept"]
    if kept:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(kept.items()))
        lines.append(f"  as in the release: {sum(kept.values()):,} samples ({reasons})")
    return "\n".join(lines)
