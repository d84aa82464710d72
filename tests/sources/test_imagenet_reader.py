from typing import Any

import pytest

from vistune import files
from vistune.errors import VistuneError
from vistune.hashing import file_digest
from vistune.sources import AnnotationFile, parse_source

TRAIN = AnnotationFile("imagenet", "images", "LOC_synset_mapping.txt")

NAMES = """n01440764 tench, Tinca tinca
n02012849 crane
n03126707 crane
"""


@pytest.fixture
def folder(corpus: Any) -> Any:
    corpus.images("n01440764/n01440764_10026.JPEG", "n01440764/n01440764_27.JPEG", "n03126707/n03126707_9.JPEG")
    corpus.write("LOC_synset_mapping.txt", NAMES)
    return corpus


def test_every_image_has_the_label_of_its_folder(folder: Any) -> None:
    images = folder.read(TRAIN)
    assert not folder.rejects
    assert [(i.id, i.labels[0].id, i.labels[0].category.label, i.labels[0].present) for i in images] == [
        ("d/n01440764/n01440764_10026.JPEG", "n01440764/n01440764_10026.JPEG", "tench", True),
        ("d/n01440764/n01440764_27.JPEG", "n01440764/n01440764_27.JPEG", "tench", True),
        ("d/n03126707/n03126707_9.JPEG", "n03126707/n03126707_9.JPEG", "crane", True),
    ]
    assert images[0].image.format == "png"  # as of some of ImageNet's files, the name tells another format
    assert images[0].vocabulary == images[0].complete == images[0].objects == ()


@pytest.mark.parametrize(
    "names",
    [
        "n01440764\ttench, Tinca tinca\nn03126707\tcrane\n",
        "n01440764 1 tench\r\nn03126707 2 crane\r\n\r\n",
        "n01440764,tench\nn03126707, crane",
    ],
)
def test_names_come_in_several_layouts(folder: Any, names: str) -> None:
    folder.write("LOC_synset_mapping.txt", names)
    assert [i.labels[0].category.label for i in folder.read(TRAIN)] == ["tench", "tench", "crane"]


def test_underscores_of_names_are_spaces(folder: Any) -> None:
    folder.write("LOC_synset_mapping.txt", "n01440764 1 great_white_shark\n" + NAMES.split("\n", 1)[1])
    assert folder.read(TRAIN)[0].labels[0].category.label == "great white shark"


def test_a_synset_without_a_name_is_rejected(folder: Any) -> None:
    folder.images("n09999999/a.JPEG")
    assert len(folder.read(TRAIN)) == 3
    assert folder.reasons() == {"label/n09999999/a.JPEG": "category_unknown"}


def test_a_file_that_is_no_image_is_rejected_and_hidden_ones_are_left_out(folder: Any) -> None:
    folder.write("images/n01440764/notes.txt", "to do")
    folder.write("images/n01440764/.DS_Store", "x")
    folder.write("images/.cache/x.JPEG", "x")
    folder.write("images/README", "x")
    assert len(folder.read(TRAIN)) == 3
    key = "n01440764/notes.txt"
    assert folder.reasons() == {f"image/{key}": "image_unreadable", f"label/{key}": "image_unreadable"}


@pytest.mark.parametrize("line", ["tench", "n0144 tench", "n01440764", "n01440764 ,", "{}"])
def test_a_line_that_names_nothing_is_an_error(folder: Any, line: str) -> None:
    folder.write("LOC_synset_mapping.txt", f"{NAMES}\n{line}\n")
    with pytest.raises(VistuneError, match=r"LOC_synset_mapping\.txt, line 5: expected 'n01440764 tench"):
        folder.read(TRAIN)


def test_what_is_no_folder_or_no_text_is_an_error(folder: Any) -> None:
    with pytest.raises(VistuneError, match="is no folder"):
        folder.read(AnnotationFile("imagenet", "LOC_synset_mapping.txt", "LOC_synset_mapping.txt"))
    (folder.root / "LOC_synset_mapping.txt").write_bytes(b"\xff")
    with pytest.raises(VistuneError, match="is not UTF-8 text"):
        folder.read(TRAIN)
    with pytest.raises(VistuneError, match=r"cannot be read \(No such file"):
        folder.read(AnnotationFile("imagenet", "images", "names.txt"))


def test_the_folder_is_the_image_folder_and_can_be_gathered(folder: Any, gathered: Any) -> None:
    source = parse_source(f"imagenet:{folder.root / 'images'},annotations={folder.root / 'LOC_synset_mapping.txt'}")
    assert source.images == str(folder.root / "images")
    names = str(folder.root / "LOC_synset_mapping.txt")
    images = gathered(AnnotationFile("imagenet", "images", names), images=str(folder.root / "images"))
    assert [i.labels[0].category.label for i in images] == ["tench", "tench", "crane"]


def test_pictures_are_not_read_for_the_digest_of_their_folder(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet has 150 GB of them. What is added, renamed or of another size still gives another digest."""
    read: list[str] = []
    monkeypatch.setattr(files, "file_digest", lambda path: read.append(path.name) or file_digest(path))

    def digest() -> str:
        return files.path_digest(folder.root / "images")

    before, picture = digest(), folder.root / "images/n01440764/n01440764_27.JPEG"
    assert folder.read(TRAIN)[0].files[0].sha256 == before and read == ["LOC_synset_mapping.txt"]
    content = picture.read_bytes()
    picture.write_bytes(content + b"x")
    larger = digest()
    picture.write_bytes(content)
    assert digest() == before != larger
    picture.rename(picture.with_name("other.JPEG"))
    assert digest() not in (before, larger)
    folder.write("images/notes.txt", "1")
    noted = digest()
    folder.write("images/notes.txt", "2")
    assert digest() != noted  # of all else the contents count
