from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vistune.errors import VistuneError
from vistune.sources import AnnotationFile
from vistune.sources.flickr30k import parse
from vistune.sources.rows import Malformed

ENTITIES = AnnotationFile("flickr30k", "entities")

SENTENCES = """[/EN#1/people Two young guys] with [/EN#2/bodyparts shaggy hair] look at [/EN#3/scene the yard] .
[/EN#1/people/other Friends] do n't see [/EN#0/notvisual each other] , [/EN#4/other a cat] 's tail .
"""

DRAWN = """<annotation>
	<filename>36979.jpg</filename>
	<size>
		<width>40</width>
		<height>30</height>
		<depth>3</depth>
	</size>
	<object>
		<name>1</name>
		<name>5</name>
		<bndbox>
			<xmin>1</xmin>
			<ymin>3</ymin>
			<xmax>12</xmax>
			<ymax>30</ymax>
		</bndbox>
	</object>
	<object>
		<name>1</name>
		<bndbox>
			<xmin>20</xmin>
			<ymin>3</ymin>
			<xmax>40</xmax>
			<ymax>28</ymax>
		</bndbox>
	</object>
	<object>
		<name>2</name>
		<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>6</xmax><ymax>7</ymax></bndbox>
	</object>
	<object>
		<name>3</name>
		<scene>1</scene>
		<nobndbox>0</nobndbox>
	</object>
	<object>
		<name>4</name>
		<scene>0</scene>
		<nobndbox>1</nobndbox>
	</object>
</annotation>
"""


@pytest.fixture
def folder(corpus: Any) -> Any:
    corpus.images("36979.jpg")
    corpus.write("entities/Sentences/36979.txt", SENTENCES)
    corpus.write("entities/Annotations/36979.xml", DRAWN)
    return corpus


def test_captions_are_plain_and_their_phrases_have_spans_and_boxes(folder: Any) -> None:
    (image,) = folder.read(ENTITIES)
    assert not folder.rejects
    assert [(c.id, c.text) for c in image.captions] == [
        ("36979-1", "Two young guys with shaggy hair look at the yard."),
        ("36979-2", "Friends don't see each other, a cat's tail."),
    ]
    guys, hair, friends = image.phrases
    # Pixels are counted from 1, both ends included: xmin 1 is the left edge, xmax 40 the right edge of 40 pixels.
    assert guys.boxes == ((0.0, 2.0, 12.0, 30.0), (19.0, 2.0, 40.0, 28.0)) == friends.boxes
    assert (guys.id, guys.text, guys.kind, guys.caption) == ("36979-1.0", "Two young guys", "caption_phrase", "36979-1")
    assert (hair.span, friends.id, friends.caption) == ((20, 31), "36979-2.0", "36979-2")
    texts = {c.id: c.text for c in image.captions}
    assert all(texts[p.caption][slice(*p.span)] == p.text for p in image.phrases)
    assert image.objects == () and not guys.unique


def test_unrelated_captions_are_refused_with_their_phrases(folder: Any) -> None:
    folder.write("entities/UNRELATED_CAPTIONS", "# format: <imageID> <sentence number>\n36979 2\n129602216 5\n")
    (image,) = folder.read(ENTITIES)
    assert [c.id for c in image.captions] == ["36979-1"] and len(image.phrases) == 2
    assert folder.reasons() == {"caption/36979-2": "caption_unrelated"}


def test_captions_of_other_splits_are_passed_over(folder: Any) -> None:
    folder.write("entities/train.txt", "129602216\n")
    folder.write("entities/val.txt", "36979\n")
    assert folder.read(ENTITIES) == [] and folder.tally.passed_over == {"caption": 2}
    assert len(folder.read(ENTITIES, split="validation")) == 1
    assert len(folder.read(ENTITIES, split="test")) == 1  # there is no test.txt


def test_files_may_be_named_by_a_pattern(folder: Any) -> None:
    folder.images("flickr/36979.png")
    (image,) = folder.read(ENTITIES, image_pattern="flickr/{image_id}.png")
    assert image.image.path == "images/flickr/36979.png"


def test_sizes_are_those_of_the_upright_image(folder: Any) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (30, 40)).save(folder.root / "images/36979.jpg", exif=turned)
    assert len(folder.read(ENTITIES)) == 1 and not folder.rejects
    Image.new("RGB", (40, 30)).save(folder.root / "images/36979.jpg", exif=turned)
    assert folder.read(ENTITIES) == []
    assert set(folder.reasons().values()) == {"image_size"}


@pytest.mark.parametrize(
    ("old", "new", "reasons"),
    [
        ("<xmax>6</xmax>", "<xmax>60</xmax>", {"phrase/36979-1.20": "box_outside"}),
        ("<xmax>6</xmax>", "<xmax>1</xmax>", {"phrase/36979-1.20": "box_degenerate"}),
        ("<name>2</name>", "<name>7</name>", {"phrase/36979-1.20": "chain_unknown"}),
        ("<xmax>6</xmax>", "", {"phrase/36979-1.20": "boxes_unreadable"}),
        ("<xmax>6</xmax>", "<xmax>six</xmax>", {"phrase/36979-1.20": "boxes_unreadable"}),
        ("<xmax>6</xmax>", "<xmax>6.5</xmax>", {"phrase/36979-1.20": "boxes_unreadable"}),
        ("<nobndbox>1</nobndbox>", "<nobndbox>0</nobndbox>", {"phrase/36979-2.30": "boxes_unreadable"}),
    ],
)
def test_a_phrase_without_a_usable_box_is_rejected(folder: Any, old: str, new: str, reasons: Any) -> None:
    folder.write("entities/Annotations/36979.xml", DRAWN.replace(old, new))
    (image,) = folder.read(ENTITIES)
    assert folder.reasons() == reasons and len(image.captions) == 2
    assert len(image.phrases) == (3 if "phrase/36979-2.30" in reasons else 2)


LAUGHS = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]>'


@pytest.mark.parametrize(
    "drawn",
    [
        "",
        DRAWN[:-20],
        DRAWN.replace("<width>40</width>", ""),
        LAUGHS + DRAWN,
        LAUGHS + DRAWN.replace("<xmax>6</xmax>", "<xmax>&y;</xmax>"),
        '<?xml version="1.0" encoding="nonesuch"?>' + DRAWN,
        DRAWN + "<!--" + " " * (1 << 20) + "-->",
        None,
    ],
)
def test_an_annotation_file_that_cannot_be_used_leaves_the_captions(folder: Any, drawn: str | None) -> None:
    if drawn is None:
        (folder.root / "entities/Annotations/36979.xml").unlink()
    else:
        folder.write("entities/Annotations/36979.xml", drawn)
    (image,) = folder.read(ENTITIES)
    assert len(image.captions) == 2 and image.phrases == ()
    placed = ["36979-1.0", "36979-1.20", "36979-1.40", "36979-2.0", "36979-2.30"]  # nobody knows which have no box
    assert folder.reasons() == dict.fromkeys([f"phrase/{p}" for p in placed], "boxes_unreadable")


def test_an_entity_is_never_expanded(folder: Any) -> None:
    many = "".join(f'<!ENTITY x{n} "{f"&x{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE a [<!ENTITY x0 "ha">{many}]><a>&x11;</a>'
    for encoding in ("utf-8", "utf-16"):
        (folder.root / "entities/Annotations/36979.xml").write_bytes(bomb.encode(encoding))
        folder.read(ENTITIES)
        assert all("document type" in reject.detail for reject in folder.rejects) and len(folder.rejects) == 5


@pytest.mark.parametrize(
    "line",
    [
        "[/EN#1/people Two guys",
        "[/EN#1/people Two [/EN#2/other guys] ]",
        "[/EN#1/people ]",
        "[/EN#1/people] Two guys",
        "[/EN#one/people Two guys]",
        "[/EN#1 Two guys]",
        "caf\udce9",
    ],
)
def test_broken_markup_rejects_the_caption(folder: Any, line: str) -> None:
    data = SENTENCES.encode() + line.encode("utf-8", "surrogateescape")
    (folder.root / "entities/Sentences/36979.txt").write_bytes(data)
    (image,) = folder.read(ENTITIES)
    assert folder.reasons() == {"caption/36979-3": "row_malformed"} and len(image.captions) == 2


words = st.lists(st.from_regex(r"[A-Za-zé]+|[.,;!?]|'s|n't|\(", fullmatch=True), min_size=1, max_size=4)
parts = st.lists(st.tuples(st.sampled_from(["", "0", "1", "283585"]), words), min_size=1, max_size=5)


@given(parts)
def test_phrases_are_where_their_spans_say(parts: list[tuple[str, list[str]]]) -> None:
    marked = " ".join(f"[/EN#{c}/people/other {' '.join(w)}]" if c else " ".join(w) for c, w in parts)
    text, phrases = parse(marked)
    squeezed = "".join(word for _, words in parts for word in words)
    assert text.replace(" ", "") == squeezed and text == " ".join(text.split())
    assert [(c, text[a:b].replace(" ", "")) for c, a, b in phrases] == [(c, "".join(w)) for c, w in parts if c]


@given(st.text("[]/EN#1 abc.", max_size=40))
def test_markup_parses_or_is_malformed(sentence: str) -> None:
    try:
        text, phrases = parse(sentence)
    except Malformed:
        return
    assert all(0 <= a < b <= len(text) for _, a, b in phrases)


def test_a_folder_without_sentences_is_an_error(corpus: Any) -> None:
    (corpus.root / "entities").mkdir()
    with pytest.raises(VistuneError, match=r"has no Sentences/\*\.txt"):
        corpus.read(ENTITIES)


def test_a_text_file_too_long_is_an_error(folder: Any) -> None:
    folder.write("entities/Sentences/36979.txt", "x" * (1 << 20) + "x")
    with pytest.raises(VistuneError, match=r"36979\.txt has more than 1,048,576 bytes"):
        folder.read(ENTITIES)


def test_the_folder_can_be_gathered(folder: Any, gathered: Any) -> None:
    folder.write("entities/UNRELATED_CAPTIONS", "36979 2\n")
    (image,) = gathered(ENTITIES, images=str(folder.root / "images"))
    assert len(image.captions) == 1 and len(image.phrases) == 2
    assert [f.path.rsplit("/", 1)[1] for f in image.files] == ["entities"]
