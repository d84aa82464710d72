"""Box text of every consumer: golden values worked out by hand, and round trips over sizes and extreme ratios."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.adapt.geometry import box_text
from vistune.boxcodec import CODECS, MAX_RATIO, NATIVE, QWEN_PIXELS, find, smart_resize
from vistune.errors import VistuneError

settings.register_profile("no deadline", deadline=None)  # a busy machine is not a failure
settings.load_profile("no deadline")

LARGEST = 64_000_000  # pixels of an image that is read at all
sides = st.integers(1, 20_000) | st.sampled_from([1, 2, 27, 28, 29, 999, 1000, 1001, LARGEST])
sizes = st.tuples(sides, sides).filter(lambda s: s[0] * s[1] <= LARGEST)
quarters = st.tuples(*[st.floats(0, 1)] * 4)


def box_of(size, f):
    (x1, x2), (y1, y2) = sorted((f[0], f[2])), sorted((f[1], f[3]))
    return (x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1])


def usable(size):
    """All formats, but for images that Qwen's processor refuses."""
    refused = max(size) > MAX_RATIO * min(size)
    return [codec for codec in CODECS.values() if codec.frame != "resized" or not refused]


@given(sizes, quarters)
def test_round_trip_is_within_half_a_step(size, f):
    box = box_of(size, f)
    for codec in usable(size):
        back = codec.decode(codec.encode(box, *size), *size)
        x, y = codec.axes(*size)
        for before, after, axis in zip(box, back, (x, y, x, y), strict=True):
            assert abs(before - after) <= axis.span * (0.5 / axis.steps + 1e-12), codec.name


@given(sizes, quarters)
def test_what_was_decoded_is_encoded_the_same(size, f):
    for codec in usable(size):
        text = codec.encode(box_of(size, f), *size)
        box = codec.decode(text, *size)
        assert codec.encode(box, *size) == text, codec.name
        assert codec.decode(codec.encode(box, *size), *size) == box, codec.name


@given(sizes, quarters)
def test_any_text_that_names_a_box_in_the_image_comes_back(size, f):
    for codec in usable(size):
        x, y = codec.axes(*size)
        steps = [int(v * (codec.top or axis.steps)) for v, axis in zip(f, (x, y, x, y), strict=True)]
        (x1, x2), (y1, y2) = sorted(steps[::2]), sorted(steps[1::2])
        written = [format(n / 10**codec.decimals if codec.decimals else n, codec.form) for n in (x1, y1, x2, y2)]
        text = codec.shape % tuple(written)
        box = codec.decode(text, *size)
        if min(box) >= 0 and box[2] <= size[0] and box[3] <= size[1]:  # padding lies outside
            assert codec.encode(box, *size) == text, codec.name


@given(sizes, st.floats(0, 1), st.floats(0, 1))
def test_coordinates_keep_their_order(size, a, b):
    low, high = sorted((a, b))
    for codec in usable(size):
        first, second = (codec.encode((v * size[0], v * size[1], *size), *size) for v in (low, high))
        for before, after in zip(codec.decode(first, *size), codec.decode(second, *size), strict=True):
            assert before <= after, codec.name


@given(sizes, quarters, st.text(max_size=20))
def test_boxes_are_found_in_running_text(size, f, words):
    for codec in usable(size):
        text = codec.encode(box_of(size, f), *size)
        found = codec.pattern.search(f"Look at {codec.named('a dog', text)} here.")
        assert found and codec.decode(found[0], *size) == codec.decode(text, *size), codec.name


@given(sizes, quarters)
def test_the_native_format_is_the_one_that_adapt_writes(size, f):
    assert NATIVE.encode(box_of(size, f), *size) == box_text(box_of(size, f), *size)


# An image of 640 x 480 pixels, the box from (100, 60) to (300, 420).
# Padded: the square has 640 pixels, (640 - 480) // 2 = 80 of them above the image.
# Resized: 640 / 28 = 22.86 -> 23 * 28 = 644; 480 / 28 = 17.14 -> 17 * 28 = 476; both within the limits of pixels.
GOLDEN = {
    "vistune": "[156, 125, 468, 874]",  # 999/640: 156.1, 468.3; 999/480: 124.9, 874.1
    "llava": "[0.16, 0.22, 0.47, 0.78]",  # 100/640 = .156, 140/640 = .219, 300/640 = .469, 500/640 = .781
    "svit": "[0.156, 0.125, 0.469, 0.875]",  # .15625, .125, .46875, .875
    "shikra": "[0.156,0.219,0.469,0.781]",  # as llava with three: .15625, .21875, .46875, .78125
    "minigpt_v2": "{<15><12><46><87>}",  # 15.6, 12.5, 46.9, 87.5 rounded down
    "qwen_vl": "<box>(156,125),(468,875)</box>",  # 156.25, 125, 468.75, 875 rounded down
    "qwen2_vl": "<|box_start|>(156,125),(468,875)<|box_end|>",
    "qwen25_vl": '{"bbox_2d": [101, 60, 302, 416]}',  # * 644/640: 100.6, 301.9; * 476/480: 59.5 -> 60, 416.5 -> 416
    "qwen3_vl": '{"bbox_2d": [156, 125, 469, 875]}',  # the nearest of 156.25, 125, 468.75, 875
    "internvl": "<box>[[156, 125, 469, 875]]</box>",
    "cogvlm": "[[156,125,468,875]]",
    "ferret": "[156, 125, 468, 875]",
    "ms_swift": "[100.0, 60.0, 300.0, 420.0]",
}

# The whole image: the far edge is the last number there is.
WHOLE = {
    "vistune": "[0, 0, 999, 999]",
    "llava": "[0.0, 0.12, 1.0, 0.88]",  # 80/640 = .125 and 560/640 = .875: half to even
    "svit": "[0.0, 0.0, 1.0, 1.0]",
    "shikra": "[0.000,0.125,1.000,0.875]",
    "minigpt_v2": "{<0><0><100><100>}",
    "qwen_vl": "<box>(0,0),(999,999)</box>",
    "qwen2_vl": "<|box_start|>(0,0),(999,999)<|box_end|>",
    "qwen25_vl": '{"bbox_2d": [0, 0, 644, 476]}',
    "qwen3_vl": '{"bbox_2d": [0, 0, 1000, 1000]}',
    "internvl": "<box>[[0, 0, 1000, 1000]]</box>",
    "cogvlm": "[[000,000,999,999]]",
    "ferret": "[0, 0, 1000, 1000]",
    "ms_swift": "[0.0, 0.0, 640.0, 480.0]",
}


@pytest.mark.parametrize("name", CODECS)
def test_golden_text(name):
    assert CODECS[name].encode((100, 60, 300, 420), 640, 480) == GOLDEN[name]
    assert CODECS[name].encode((0, 0, 640, 480), 640, 480) == WHOLE[name]
    assert CODECS[name].encode((-5, -5, 700, 700), 640, 480) == WHOLE[name], "what leaves the image is clamped"


def test_decoded_golden_text():
    assert CODECS["svit"].decode("[0.5, 0.25, 1.0, 1]", 640, 480) == (320, 120, 640, 480)
    # upright image: 480 x 640, the padding is 80 pixels at the left; 0.25 * 640 - 80 = 80
    assert CODECS["shikra"].decode("[0.250,0.250,0.500,0.500]", 480, 640) == (80, 160, 240, 320)
    # an odd difference is floored: 641 - 480 = 161 -> 80 pixels above
    assert CODECS["llava"].decode("[0.0, 0.5, 1.0, 1.0]", 641, 480) == (0, 240.5, 641, 561)
    # rounded down, so the middle between 499 and 500 thousandths
    assert CODECS["qwen_vl"].decode("<box>(499,0),(999,999)</box>", 1000, 1000) == (499.5, 0.5, 999.5, 999.5)
    assert CODECS["minigpt_v2"].decode("{<99><100><100><100>}", 100, 100) == (99.5, 100, 100, 100)
    assert CODECS["qwen25_vl"].decode('{"bbox_2d": [0, 0, 322, 238], "label": "a \\"b\\""}', 640, 480) == (
        0,
        0,
        320,
        240,
    )


def test_frames_differ_where_they_should():
    """What a wrong frame costs: LLaVA's numbers read as SVIT's are 60 pixels off in this image."""
    text = CODECS["llava"].encode((0, 0, 640, 240), 640, 480)
    assert text == "[0.0, 0.12, 1.0, 0.5]"
    assert CODECS["svit"].decode(text, 640, 480) == (0, 57.6, 640, 240)
    assert CODECS["llava"].decode(text, 640, 480)[1] == pytest.approx(-3.2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vistune", "dog [1, 2, 3, 4]"),
        ("llava", "dog [1, 2, 3, 4]"),
        ("svit", "<st>dog<ed> [1, 2, 3, 4]"),
        ("shikra", "dog[1, 2, 3, 4]"),
        ("minigpt_v2", "<p>dog</p> [1, 2, 3, 4]"),
        ("qwen_vl", "<ref>dog</ref>[1, 2, 3, 4]"),
        ("qwen2_vl", "<|object_ref_start|>dog<|object_ref_end|>[1, 2, 3, 4]"),
        ("internvl", "<ref>dog</ref>[1, 2, 3, 4]"),
        ("cogvlm", "dog[1, 2, 3, 4]"),
        ("ferret", "dog [1, 2, 3, 4]"),
    ],
)
def test_a_name_before_its_box(name, expected):
    assert CODECS[name].named("dog", "[1, 2, 3, 4]") == expected


def test_a_name_in_json_is_escaped():
    codec = CODECS["qwen25_vl"]
    text = codec.named('a "big"\n狗', codec.encode((0, 0, 10, 10), 640, 480))
    assert json.loads(text) == {"bbox_2d": [0, 0, 10, 10], "label": 'a "big"\n狗'}
    assert codec.pattern.fullmatch(text)


MALFORMED = {
    "vistune": [
        "",
        "[]",
        "[1, 2, 3]",
        "[1, 2, 3, 1000]",
        "[1, 2, 3, -4]",
        "[1, 2, 3, 4.5]",
        "[3, 2, 1, 4]",
        "1, 2, 3, 4",
    ],
    "llava": [
        "[0.1, 0.2, 0.3, 1.01]",
        "[0.123, 0.2, 0.3, 0.4]",
        "[0.1, 0.5, 0.3, 0.4]",
        "[nan, 0, 1, 1]",
        "[0..1, 0, 1, 1]",
    ],
    "shikra": ["[0.1,0.2,0.3,1.1]", "(0.1,0.2,0.3,0.4)"],
    "minigpt_v2": ["{<0><0><101><5>}", "<0><0><1><5>", "{<0> <0> <1> <5>}"],
    "qwen_vl": ["<box>(0,0),(1000,5)</box>", "<box>(0,0)</box>", "(0,0),(5,5)"],
    "qwen2_vl": ["<box>(0,0),(5,5)</box>"],
    "qwen25_vl": ['{"bbox_2d": [0, 0, 645, 5]}', '{"bbox": [0, 0, 5, 5]}', '{"bbox_2d": [0, 0, 5, 5]'],
    "internvl": ["<box>[0, 0, 5, 5]</box>", "<box>[[0, 0, 1001, 5]]</box>"],
    "cogvlm": ["[[0,0,1000,5]]", "[000,000,005,005]"],
    "ferret": ["[0, 0, 1001, 5]"],
    "ms_swift": ["[0, 0, 640.01, 5]", "[0, 0, 1e2, 5]", "[0, 0, 99999999999, 5]"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in MALFORMED.items() for text in texts])
def test_text_that_is_no_box(name, text):
    with pytest.raises(ValueError, match=f"expected a box of {name}, .* got "):
        CODECS[name].decode(text, 640, 480)


def test_spaces_do_not_matter():
    assert CODECS["qwen_vl"].decode(" <box>(1, 2), (3, 4)</box>\n", 10, 10)
    assert CODECS["vistune"].decode("[1,2,3,4]", 999, 999) == (1, 2, 3, 4)


@pytest.mark.parametrize("box", [(0, 0, float("nan"), 1), (0, 0, float("inf"), 1), (5, 0, 4, 1), (0, 5, 1, 4)])
def test_a_box_that_is_none(box):
    for codec in CODECS.values():
        with pytest.raises(ValueError, match="expected finite"):
            codec.encode(box, 10, 10)


@pytest.mark.parametrize("size", [(0, 10), (10, -1)])
def test_an_image_that_is_none(size):
    with pytest.raises(ValueError, match="at least 1x1"):
        CODECS["llava"].encode((0, 0, 1, 1), *size)


def test_qwen_refuses_long_images_and_says_so():
    with pytest.raises(ValueError, match="1:200, got an image of 201x1"):
        CODECS["qwen25_vl"].encode((0, 0, 1, 1), 201, 1)


# 13 x 300: round(13/28) = 0, so the area is below the least and both sides grow by sqrt(3136/3900) = .897:
# ceil(11.66/28) = 1 -> 28; ceil(269/28) = 10 -> 280.
@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((640, 480), (644, 476)),
        ((13, 300), (28, 280)),
        ((1, 1), (56, 56)),
        ((42, 70), (56, 56)),
        ((28, 5600), (28, 5600)),
    ],
)
def test_smart_resize_by_hand(size, resized):
    assert smart_resize(*size, *QWEN_PIXELS) == resized


@pytest.mark.slow  # transformers takes its time to import
def test_smart_resize_is_transformers():
    theirs = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl").smart_resize
    for most in (28 * 28 * 1280, QWEN_PIXELS[1]):
        for width in (1, 13, 14, 42, 300, 1280, 6000):
            for height in (1, 27, 28, 98, 1001, 4000):
                if max(width, height) <= MAX_RATIO * min(width, height):
                    ours = smart_resize(width, height, QWEN_PIXELS[0], most)
                    assert ours[::-1] == theirs(height, width, 28, QWEN_PIXELS[0], most), (width, height, most)


def test_codecs_by_name():
    assert find("llava") is CODECS["llava"]
    # 1920 x 1080 has 2.07 M pixels: shrunk by sqrt(2073600 / 1003520) = 1.4375 to 1335 x 751, down to multiples of 28
    assert find("qwen25_vl:1003520").encode((0, 0, 1920, 1080), 1920, 1080) == '{"bbox_2d": [0, 0, 1316, 728]}'
    assert find("qwen25_vl").encode((0, 0, 1920, 1080), 1920, 1080) == '{"bbox_2d": [0, 0, 1932, 1092]}'


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lava", "no box format 'lava'. Choose one of vistune, llava"),
        ("llava:100", "llava does not resize images"),
        ("qwen25_vl:99", "a number of pixels from 3136 on, got '99'"),
        ("qwen25_vl:many", "got 'many'"),
    ],
)
def test_no_such_codec(name, message):
    with pytest.raises(VistuneError, match=message):
        find(name)


def test_every_format_is_described_in_both_languages_with_its_source():
    for name, codec in CODECS.items():
        assert codec.name == name
        assert codec.words("en") != codec.words("zh") and "x1" in codec.words("zh")
        assert name == "vistune" or any(tag in codec.source for tag in ("[S", "[B", "[M")), name
