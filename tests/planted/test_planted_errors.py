"""Source files that are useless as a whole end in an error that names the file and says what is wrong; and what was
refused proves nothing."""

import pickle

import pytest
from plants import BOX, cut, file, folder, no_pictures, top

from vistune.errors import VistuneError


class Call:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return (print, ("never",))


DOG = [{"id": 1, "name": "dog"}]

ERRORS = [
    ("cut short", "coco", cut("boxes.json"), r"boxes\.json is not valid JSON"),
    ("empty file", "coco", file("boxes.json", b""), r"boxes\.json is not valid JSON"),
    ("not UTF-8", "coco", file("boxes.json", b'{"images": "\xff"}'), r"boxes\.json is not valid JSON"),
    ("nested without end", "coco", file("boxes.json", b"[" * 100_000), r"boxes\.json is not valid JSON"),
    ("binary", "coco", file("boxes.json", bytes(range(256))), r"boxes\.json is not valid JSON"),
    ("missing", "coco", file("boxes.json", None), r"boxes\.json does not exist"),
    ("folder for a file", "coco", folder("boxes.json"), r"boxes\.json cannot be read \(Is a directory\)"),
    ("folder of answers", "coco", folder("answers.json"), r"answers\.json cannot be read \(Is a directory\)"),
    ("folder of classes", "open_images", folder("classes.csv"), r"classes\.csv cannot be read \(Is a directory\)"),
    ("folder of refs", "refcoco", folder("refs.p"), r"refs\.p cannot be read \(Is a directory\)"),
    ("list at the top", "coco", file("boxes.json", b"[]"), r"boxes\.json: expected an object .* got a list"),
    ("no images", "coco", top("boxes.json", images=...), r"boxes\.json: expected a list under 'images'"),
    ("another format", "coco", top("captions.json", annotations={}), r"captions\.json: expected a list"),
    ("objects without ids", "coco", top("boxes.json", categories=[{"name": "dog"}]), r"'categories' needs an id"),
    ("class without name", "coco", top("boxes.json", categories=[{"id": 1}]), r"category 1 needs a name"),
    ("class twice", "coco", top("boxes.json", categories=DOG * 2), r"category id 1 is used twice"),
    ("licence without id", "coco", top("boxes.json", licenses=[{"name": "x"}]), r"entry of 'licenses' needs an id"),
    ("files that disagree", "coco", top("captions.json", images=[{"id": 1, "file_name": "x.png"}]),
     r"image 1 is 1\.png in one file and x\.png in"),
    ("no picture at all", "coco", no_pictures, r"data set d \(train\) has no usable image; .*18 image_missing"),
    ("no column of boxes", "open_images", file("boxes.csv", b"ImageID,LabelName\na,/m/1\n"),
     r"boxes\.csv: expected a header .* XMin, YMin, XMax, YMax is not in"),
    ("classes of one cell", "open_images", file("classes.csv", b"/m/1\n"), r"classes\.csv: expected rows of two"),
    ("CSV that is none", "open_images", file("labels.csv", b"\xff\xfe\x00"), r"labels\.csv is not a CSV file"),
    ("refs that run code", "refcoco", file("refs.p", pickle.dumps([Call()])), r"refs\.p is not a usable refs"),
    ("refs cut short", "refcoco", file("refs.p", pickle.dumps([{"a": 1}])[:-3]), r"refs\.p is not a usable refs"),
    ("talk cut short", "llava", cut("talk.json"), r"talk\.json is not valid JSON after row 2"),
    ("talk in lines of text", "llava", file("talk.json", b"hello\n"), r"talk\.json is not valid JSON after row 0"),
    ("parquet cut short", "llava", file("talk.json", b"PAR1 and no more"), r"cannot be read as a parquet file"),
    ("questions that are an object", "choices", file("aokvqa.json", b"{}"), r"aokvqa\.json: expected a list"),
    ("no questions of charts", "chart", lambda files: [files.pop(n) for n in list(files) if n.endswith(".json")],
     r"expected \*_human\.json and \*_augmented\.json"),
    ("no sentences", "flickr", file("Sentences/1.txt", None), r"has no Sentences/\*\.txt"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "plant", "message"), [c[1:] for c in ERRORS], ids=[c[0] for c in ERRORS])
def test_a_useless_file_is_an_error_that_says_so(corpus, name, plant, message, tmp_path):
    damaged = corpus(name)
    plant(damaged.files)
    with pytest.raises(VistuneError, match=message) as error:
        damaged.adapt(tmp_path / "d")
    assert error.value.__cause__ is None or "Traceback" not in str(error.value)


BAD = {**BOX, "image_id": 2, "category_id": 3, "bbox": None}


@pytest.mark.parametrize(
    ("change", "images", "labels"),
    [
        ({}, {"2"}, {"kite"}),  # unreadable
        ({"bbox": [90, 90, 9, 9]}, {"2"}, {"kite"}),  # found bad only beside the picture
        ({"bbox": [1, 1, 9, 9], "id": 1}, {"2"}, {"kite"}),  # id of another row
        ({"category_id": 77, "bbox": [1, 1, 9, 9]}, {"2"}, {"dog", "cat", "kite", "car"}),  # any of them
        ({"image_id": None}, {"1", "2", "4"}, {"kite"}),  # in any picture
        ({"image_id": 77}, set(), set()),  # in none of these
    ],
)
@pytest.mark.parametrize("at", ["first", "last"])
def test_what_was_refused_is_not_called_absent(corpus, change, images, labels, at, tmp_path):
    """A refused row says that a kite is in picture 2: no question may deny that, though no box is left to show it."""
    found, clean = corpus("coco"), corpus("coco")
    for either in (found, clean):
        either.read = either.read[:1]
    rows = found.files["boxes.json"]["annotations"]
    rows.insert(0 if at == "first" else len(rows), {**BAD, **change})
    denied, before = (
        {
            (s.lineage.annotated_image.removeprefix("d/"), label)
            for s in corpus.adapt(tmp_path / name)[1]
            for label in ("dog", "cat", "kite", "car")
            if s.polarity in ("no", "negative") and label in s.messages[0].text
        }
        for name, corpus in (("found", found), ("clean", clean))
    )
    assert {("1", "kite"), ("2", "kite"), ("4", "kite")} & before and denied
    assert not denied & {(image, label) for image in images for label in labels}
    assert {image for image, _ in denied} >= {image for image, _ in before} - images


def test_what_was_refused_is_not_counted(corpus, tmp_path):
    """Pictures 1 and 4 show one dog each, and picture 4 a second one that is not readable."""
    found = corpus("coco")
    found.files["boxes.json"]["annotations"].append({**BAD, "image_id": 4, "category_id": 1})
    _, samples, _ = found.adapt(tmp_path / "d")
    alone = {(s.lineage.annotated_image, r.label) for s in samples if s.task == "locate" for r in s.regions}
    assert ("d/1", "dog") in alone and ("d/4", "dog") not in alone
    listed = [s.response for s in samples if s.task == "listing" and s.lineage.annotated_image == "d/4"]
    assert all("dog" not in said for said in listed)
