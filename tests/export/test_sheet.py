"""The contact sheet draws what the text of an export says, where its consumer would see it."""

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image
from typer.testing import CliRunner

from vistune import cli
from vistune.boxcodec import CODECS, find
from vistune.errors import VistuneError
from vistune.records import Message
from vistune.sheet import write_sheet
from vistune.sheet.cards import cards, choose
from vistune.sheet.picture import CELL, COLOURS, GAP, PADDING, TOP, draw

ALL = list(CODECS.values())


def near(pixel, colour):
    wanted = tuple(int(colour[n : n + 2], 16) for n in (1, 3, 5))
    return all(abs(a - b) < 40 for a, b in zip(pixel, wanted, strict=True))


class Elements(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def test_one_sample_for_each_image_with_a_box_in_its_text(tiny):
    release = tiny.write()
    locate, name_region, zh = (tiny.samples[n] for n in ("locate", "name_region", "zh"))
    assert set(choose(release, 9)) == {locate.id, name_region.id, zh.id}
    assert choose(release, 9) == choose(release, 9)
    assert choose(release, 2) == choose(release, 9)[:2]


def test_boxes_in_text_and_images_that_are_not_square_come_first(tiny):
    silent = replace(tiny.samples["locate"], regions=(replace(tiny.samples["locate"].regions[0], mention=()),))
    tiny.samples["locate"] = silent
    wide = replace(tiny.images["turned.jpeg"], width=60, height=60)
    tiny.samples["zh"] = replace(tiny.samples["zh"], images=(wide,))
    order = choose(tiny.write(), 9)
    assert order == [tiny.samples["name_region"].id, tiny.samples["zh"].id, silent.id]


def test_every_format_reads_back_the_stored_box(tiny):
    for card in cards(tiny.write(), ALL, 9):
        assert [panel.codec for panel in card.panels] == ALL
        width, height = card.image.width, card.image.height
        for panel in card.panels:
            (mark,) = panel.marks
            assert panel.codec.pattern.search(mark.text) and mark.stored == card.sample.regions[0].box
            assert mark.read == panel.codec.decode(mark.text, width, height)
            assert panel.overlap > (0.85 if panel.codec.steps == 100 else 0.96), panel.codec.name
            assert mark.text in "".join(text for text, _ in panel.pieces)
            side, whole = max(width, height), (0, 0, width, height)
            across, down = (side - width) // 2, (side - height) // 2
            padded = (-across, -down, side - across, side - down)
            assert panel.frame == (padded if panel.codec.frame == "padded" else whole)


def test_a_box_in_the_text_that_is_not_the_stored_one_is_seen(tiny):
    locate = tiny.samples["locate"]
    (region,) = locate.regions
    tiny.samples["locate"] = replace(locate, regions=(replace(region, box=(0.0, 0.0, 30.0, 30.0)),))
    card = next(c for c in cards(tiny.write(), [find("vistune"), find("llava")], 9) if c.sample.task == "locate")
    native, llava = card.panels
    assert native.overlap < 0.2 and native.marks[0].read == pytest.approx((10, 20, 110, 45), abs=0.1)
    assert llava.problem == "the export keeps the text of the release: box_differs"


def test_regions_without_mention_are_written_with_their_names(tiny):
    locate = tiny.samples["locate"]
    said = (locate.messages[0], Message("assistant", "It is on the left."))
    silent = replace(locate, messages=said, regions=(replace(locate.regions[0], mention=()),))
    tiny.samples = {"locate": silent}
    (card,) = cards(tiny.write(), [find("qwen_vl"), find("qwen25_vl")], 9)
    first, second = card.panels
    assert first.marks[0].text == "<ref>cat</ref><box>(83,400),(916,900)</box>"  # 10/120, 20/50, 110/120, 45/50
    assert second.marks[0].text.endswith('"label": "cat"}')


def test_an_image_that_a_consumer_refuses(tiny):
    locate = tiny.samples["locate"]
    long = replace(tiny.images["wide.png"], width=12_000)
    tiny.samples = {"locate": replace(locate, images=(long,), messages=(locate.messages[0], Message("assistant", "x")))}
    tiny.samples["locate"] = replace(tiny.samples["locate"], regions=(replace(locate.regions[0], mention=()),))
    (card,) = cards(tiny.write(), [find("qwen25_vl")], 9)
    assert card.panels[0].problem == "expected sides within 1:200, got an image of 12000x50 pixels"


def test_the_page_holds_everything_and_trusts_nothing(tiny, tmp_path):
    locate = tiny.samples["locate"]
    evil = "<script>alert(1)</script>"
    asked = Message("user", f'{evil} "Where"?', (0,))
    label = replace(locate.regions[0], label='"><img src=x onerror=alert(1)>')
    tiny.samples["locate"] = replace(locate, messages=(asked, locate.messages[1]), regions=(label,))
    made = write_sheet(tiny.write(), tmp_path / "sheet.html")
    assert (made["images"], made["formats"]) == (3, len(CODECS))
    text = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    page = Elements(text)
    assert not page.of("script") and not page.of("img") and evil not in text
    assert not page.of("link") and not re.search(r"(?:src|href)=\"(?!data:|#)", text), "it loads nothing"
    images = page.of("image")
    assert len(images) == 3 and len(page.of("use")) == 3 * len(CODECS), "each picture is held once"
    for held in images:
        with Image.open(io.BytesIO(base64.b64decode(held["href"].partition(",")[2]))) as picture:
            assert picture.width / picture.height == pytest.approx(int(held["width"]) / int(held["height"]), rel=0.05)
    described = [svg["aria-label"] for svg in page.of("svg") if svg.get("role") == "img"]
    assert len(described) == 3 * len(CODECS) and all("overlap " in label for label in described)
    assert sum("off" in (span.get("class") or "") for span in page.of("span")) == 0
    shown = [section["lang"] for section in page.of("ul") if "lang" in section]
    assert sorted(shown) == ["en", "en", "zh"]


def test_boxes_lie_where_the_text_says_in_the_frame(tiny, tmp_path):
    """The wide image, 120 x 50: in LLaVA's square 35 pixels of padding lie above it."""
    write_sheet(tiny.write(), tmp_path / "sheet.html", ["llava", "qwen3_vl"])
    page = Elements((tmp_path / "sheet.html").read_text(encoding="utf-8"))
    id = tiny.samples["locate"].id
    number = next(n for n, found in enumerate(choose(tiny.folder, 9)) if found == id)
    svgs = [svg for svg in page.of("svg") if svg.get("role") == "img"][2 * number : 2 * number + 2]
    assert [svg["viewbox"] for svg in svgs] == ["0 -35 120 120", "0 0 120 50"]
    rects = [r for r in page.of("rect") if r.get("class") == "read"][2 * number : 2 * number + 2]
    x, y = float(rects[0]["x"]), float(rects[0]["y"])
    assert (x, y) == pytest.approx((9.6, 20.2), abs=0.01)  # .08 * 120; 55 / 120 = .458 -> .46 * 120 - 35
    assert float(rects[1]["x"]) == pytest.approx(0.083 * 120)


def test_the_picture_draws_frames_and_boxes(tiny):
    shown = cards(tiny.write(), [find("llava"), find("qwen3_vl")], 9)
    sheet = draw(shown, [find("llava"), find("qwen3_vl")]).convert("RGB")
    row = next(n for n, card in enumerate(shown) if card.sample.task == "locate")
    down = (sheet.height - TOP) // len(shown)
    left, top, scale = GAP, TOP + row * down, CELL / 120
    assert near(sheet.getpixel((left + 5, top + 5)), PADDING)
    assert near(sheet.getpixel((left + 5, top + round(40 * scale))), "#1459c8"), "the upper left quarter is blue"
    y = top + round((35 + 20) * scale)
    column = [sheet.getpixel((left + round(60 * scale), y + n)) for n in range(-4, 5)]
    assert any(near(pixel, COLOURS[0]) for pixel in column), "the upper edge of the box"


def test_the_same_release_gives_the_same_sheet(tiny, tmp_path):
    digests = []
    for name in ("a", "b"):
        made = write_sheet(tiny.write(), tmp_path / f"{name}.html", ["llava", "vistune"], 2)
        digests.append([hashlib.sha256(made[kind].read_bytes()).hexdigest() for kind in ("html", "png")])
    assert digests[0] == digests[1]


def test_the_command(tiny, tmp_path):
    arguments = ["sheet", str(tiny.write()), "--output", str(tmp_path / "s.html"), "--boxes", "llava", "--count", "2"]
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert done.output == f"sheet: 2 images in 1 formats\n  in {tmp_path / 's.html'} and {tmp_path / 's.png'}\n"
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.size == (GAP + CELL + GAP, TOP + 2 * (CELL + 3 * 14 + GAP))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boxes": ["lava"]}, "no box format 'lava'"),
        ({"count": 0}, "expected at least 1 image"),
        ({"output": "sheet.png"}, "a name that ends in .html"),
    ],
)
def test_wrong_options(tiny, tmp_path, options, message):
    output = tmp_path / options.pop("output", "sheet.html")
    with pytest.raises(VistuneError, match=message):
        write_sheet(tiny.write(), output, **options)


def test_a_release_without_boxes(tiny, tmp_path):
    tiny.samples = {"talk": tiny.samples["talk"]}
    with pytest.raises(VistuneError, match=r"no sample of .* has a box"):
        write_sheet(tiny.write(), tmp_path / "sheet.html")
    assert not list(tmp_path.glob("sheet.*"))
