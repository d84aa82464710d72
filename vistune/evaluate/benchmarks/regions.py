"""RefCOCO, RefCOCO+, RefCOCOg: refs pickles beside their instances.json (https://github.com/lichengunc/refer)."""

from __future__ import annotations

from typing import Any

from vistune.evaluate.benchmarks.documents import Home, Item, row
from vistune.evaluate.tasks import Docs
from vistune.files import read_json
from vistune.sources.boxes import pixel_box
from vistune.sources.refcoco import load
from vistune.sources.rows import Malformed, identifier, need, section


def expressions(
    benchmark: str, refs: str, instances: str, images: str, part: str, codec: str = "llava", **home: Any
) -> dict[str, Docs]:
    """One item for each sentence of the split `part` (val, testA, testB, test). `codec`: the text in which the model is
    asked to write its box. The pickle is read as plain data: nothing in it can run."""
    at = Home(benchmark, **home)
    path, boxes = at.path(refs), at.path(instances)
    tree = read_json(boxes)
    pictures = {identifier(value, "id"): value for value in section(tree, "images", boxes)}
    known = {identifier(value, "id"): value for value in section(tree, "annotations", boxes)}
    items = []
    for number, ref in enumerate(load(path)):
        with row(path, number):
            if need(ref, "split", str) != part:
                continue
            image, annotation = pictures.get(identifier(ref, "image_id")), known.get(identifier(ref, "ann_id"))
            if image is None or annotation is None:
                raise Malformed(f"ref {ref.get('ref_id')} is about a picture or object that {boxes.name} lacks")
            size = need(image, "width", int), need(image, "height", int)
            box, _, problem = pixel_box(need(annotation, "bbox", list), *size, clip=True)
            if box is None:
                raise Malformed(problem)
            place = f"{images}/{need(image, 'file_name', str)}"
            for sentence in need(ref, "sentences", list):
                text = need(sentence, "sent", str)
                more = {"box": list(box), "codec": codec}
                items.append(Item(identifier(sentence, "sent_id"), (place,), text, str(list(box)), part, more=more))
    return at.documents(items)
