"""GQA (https://cs.stanford.edu/people/dorarad/gqa/download.html): scene graphs and questions.

Both files are objects by id, and so are the objects of a scene. Images are `<image id>.jpg` unless an `image_pattern`
says otherwise. Boxes come from Visual Genome, and are cut off where they leave the image. Where a scene is and what
its weather is are not kept: the words say nothing that a box or a relation could check.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vistune.files import inside
from vistune.records import Annotation, Category, Question, Relation
from vistune.sources.boxes import NO_BOX
from vistune.sources.datafiles import parts
from vistune.sources.questions import file_name, image_of, members, question_text, texts
from vistune.sources.rows import Listing, Refused, need
from vistune.sources.spec import AnnotationFile

IMAGES = "{image_id}.jpg"


def read_scene_graphs(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds images with their sizes, objects with their attributes, and relations."""
    seen: set[str] = set()
    graphs = [{"id": key, "graph": graph} for key, graph in members(inside(root, file.path))]
    for row in listing.each("image", graphs, file, id="id"):
        with row:
            graph, image = row.need("graph", dict), row.identifier("id")
            width, height = need(graph, "width", int), need(graph, "height", int)
            objects, place = need(graph, "objects", dict), file_name(listing.image_pattern or IMAGES, image)
            if image in seen:
                raise Refused("duplicate_id", "the id occurs before.")
            seen.add(image)
            listing.tally.entered["image"] -= 1  # `image` counts it, unless questions have named it
            entry = listing.image(image, place, width, height)
            if entry is not None:
                entry.width, entry.height = width, height
                _add_objects(image, objects, file, listing)
                _add_relations(image, objects, file, listing)


def read_questions(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the questions of one file, or of a folder of them (train_all_questions). Balanced or not is not told apart:
    that is a choice of files."""
    for part in parts(root, file):
        values = (_with_ids(key, value) for key, value in members(inside(root, part.path)))
        for row in listing.each("question", values, part, id="id"):
            with row:
                key, text = row.identifier("id"), question_text(row, "question")
                answer, sentence = row.text("answer", ""), row.text("fullAnswer", "")
                types = row.need("types", dict, {})
                kind = "/".join(need(types, name, str, "") for name in ("structural", "semantic")).strip("/")
                if not answer:  # the test and challenge splits
                    raise Refused("question_unanswered", "it has no answer.")
                image = image_of(row, listing.image_pattern or IMAGES)
                row.keep(image, Question(key, text, answer, (answer,), kind=kind, sentence=sentence))


def _with_ids(key: str, value: Any) -> Any:
    return {**value, "id": key, "image_id": value.get("imageId")} if isinstance(value, dict) else {"id": key}


def _add_objects(image: str, objects: dict[str, Any], file: AnnotationFile, listing: Listing) -> None:
    values = ({"id": key, "object": value} for key, value in objects.items())
    for row in listing.each("object", values, file, id="id"):
        with row:
            value = row.need("object", dict)
            name = " ".join(need(value, "name", str).split())
            box = [need(value, side, (int, float)) for side in ("x", "y", "w", "h")]
            attributes = texts(need(value, "attributes", list, []), "attributes")
            if not name:
                raise Refused("object_unnamed", "the object has no name.")
            record = Annotation(row.identifier("id"), Category(name), NO_BOX, attributes=attributes)
            row.keep(image, record, box, clip=True)


def _add_relations(image: str, objects: dict[str, Any], file: AnnotationFile, listing: Listing) -> None:
    known = {pending.record.id for pending in listing.images[image].rows["object"]}
    for row in listing.each("relation", _relations(objects), file, id="id"):
        with row:
            subject, other = row.identifier("subject"), row.identifier("object")
            predicate = row.text("name")
            if not predicate:
                raise Refused("relation_empty", "the relation has no name.")
            for end in (subject, other):
                if end not in known:
                    raise Refused("object_unknown", f"object {end} is not an object of image {image}.")
            row.keep(image, Relation(row.name, subject, predicate, other))


def _relations(objects: dict[str, Any]) -> Iterator[Any]:
    """Relations have no id: each is named by its subject and its place. What is no list is one row, to be rejected."""
    for subject, value in objects.items():
        found = value.get("relations", []) if isinstance(value, dict) else []
        if isinstance(found, dict):  # as the documentation writes them
            found = list(found.values())
        if not isinstance(found, list):
            yield {"id": f"{subject}-relations"}
            continue
        for number, relation in enumerate(found):
            named = {"id": f"{subject}-{number}", "subject": subject}
            yield {**relation, **named} if isinstance(relation, dict) else {**named, "object": None}
