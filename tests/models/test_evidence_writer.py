"""Evidence for MoAI: what tiny, random helper models see becomes a file, and the file becomes evidence again."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2TextConfig,
    Owlv2VisionConfig,
    SwinConfig,
)
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

from vistune import store
from vistune.errors import VistuneError
from vistune.hashing import file_digest
from vistune.models import evidence, evidence_writer
from vistune.models.evidence_writer import Detector, Segmenter, see, write_evidence, write_folder
from vistune.models.tiny import byte_tokenizer

NAMES = ("cat", "dog", "kitchen table")


def save(model, folder):
    model.config.save_pretrained(folder)
    state = {key: tensor.clone().contiguous() for key, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture(scope="module")
def mask2former(tmp_path_factory):
    """Its 8 queries are sure of themselves: of a class each, and of every pixel."""
    folder = tmp_path_factory.mktemp("mask2former")
    torch.manual_seed(0)
    backbone = SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4, image_size=64,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=8,
        id2label={0: "person", 1: "sky-other-merged", 2: "dog"},
    )  # fmt: skip
    model = Mask2FormerForUniversalSegmentation(config)
    with torch.no_grad():
        model.class_predictor.weight.mul_(1000)
        for weights in model.model.transformer_module.decoder.mask_predictor.mask_embedder.parameters():
            weights.mul_(20)
    save(model, folder)
    Mask2FormerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def owlv2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("owlv2")
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(("<|start|>", "<|end|>"), bos="<|start|>", eos="<|end|>")
    text = Owlv2TextConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        vocab_size=len(tokenizer), max_position_embeddings=16,
    ).to_dict()  # fmt: skip
    vision = Owlv2VisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=64, patch_size=16
    ).to_dict()
    model = Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=16))
    with torch.no_grad():
        model.class_head.logit_shift.bias.add_(3.0)
    save(model, folder)
    Owlv2ImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def picture():
    return Image.radial_gradient("L").resize((80, 60)).convert("RGB")


def test_segments_are_numbered_from_one(mask2former, picture):
    segmentation, names = Segmenter(mask2former)(picture.resize((490, 490)))
    assert segmentation.dtype == np.uint8 and segmentation.shape == (490, 490)
    assert names and sorted(set(segmentation.flatten().tolist()) - {0}) == list(range(1, len(names) + 1))
    assert set(names) <= {"person", "sky-other-merged", "dog"}


def test_words_are_read_once_and_give_what_the_whole_model_gives(owlv2, picture):
    detector = Detector(owlv2, names=NAMES)
    small = picture.resize((490, 490))
    found = detector(small)
    assert found and {name for _, name in found} <= set(NAMES)
    words = detector.tokenizer(list(NAMES), padding="max_length", max_length=16, return_tensors="pt")
    pixels = detector.processor(images=[small], return_tensors="pt").pixel_values
    with torch.inference_mode():
        whole = detector.model(words.input_ids, pixels, words.attention_mask)
    boxes = detector.processor.post_process_object_detection(whole, 0.1, target_sizes=[(490, 490)])[0]
    names = [NAMES[label] for label in boxes["labels"].tolist()]
    assert found == evidence.detections(boxes["scores"].tolist(), boxes["boxes"].tolist(), names)


def test_a_folder_becomes_a_file_that_is_read_again(mask2former, owlv2, picture, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    picture.save(images / "a.png")
    picture.rotate(90).save(images / "b.png")
    key = file_digest(images / "b.png")
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps({key: {"relations": ["dog is on sky"], "lines": [["EXIT", 0.98], ["E?", 0.5]]}}))
    file = tmp_path / "evidence.jsonl"
    assert write_folder(images, file, mask2former, owlv2, elsewhere) == 2
    found = evidence.read_evidence(file)
    assert list(found) == [file_digest(images / "a.png"), key]
    relations, text = "The image includes relationships between objects: dog is on sky.", "text descriptions: EXIT."
    assert found[key].text.endswith(f"{relations} The image includes {text}")
    assert found[key].segmentation.shape == (490, 490)
    evidence_writer.main([str(images), str(file), "--mask2former", str(mask2former), "--owlv2", str(owlv2)])
    assert capsys.readouterr().out == f"0 pictures added to {file}\n"  # all there already
    assert evidence.read_evidence(file)[key].text == found[key].text


def test_pictures_in_shards_are_seen_as_loose_ones(mask2former, owlv2, picture, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "LOOSE", 0)
    loose, packed = tmp_path / "loose", tmp_path / "packed"
    for folder in (loose, packed):
        folder.mkdir()
        picture.save(folder / "a.png")
    assert store.pack_images(packed, ["a.png"]) == 1 and not (packed / "a.png").exists()
    written = []
    for folder in (loose, packed):
        assert write_folder(folder, folder / "evidence.jsonl", mask2former, owlv2) == 1
        written.append((folder / "evidence.jsonl").read_bytes())
    assert written[0] == written[1]


def test_a_folder_without_pictures_is_refused(mask2former, owlv2, tmp_path):
    with pytest.raises(VistuneError, match="holds no pictures"):
        write_folder(tmp_path, tmp_path / "out.jsonl", mask2former, owlv2)


def test_the_picture_is_shrunk_as_the_authors_shrink_it(picture):
    sizes = []

    def segment(small):
        sizes.append(small.size)
        return np.full((490, 490), 1, np.uint8), ["sky-other-merged"]

    seen = see(picture, segment, lambda small: [([0.0, 0.0, 0.5, 0.5], "cat")])
    assert sizes == [(490, 490)]
    boxes = "The image includes bounding box coordinates and their objects: "
    assert seen.text == f"{boxes}[0.00, 0.00, 1.00, 1.00] sky. {boxes}[0.00, 0.00, 0.50, 0.50] cat.  "


def test_an_interrupted_run_goes_on(tmp_path, picture):
    file, asked = tmp_path / "evidence.jsonl", []

    def look(name, image):
        asked.append(name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return evidence.Evidence(name, np.zeros((490, 490), np.uint8))

    pictures = [(name, lambda: picture) for name in "abc"]
    with pytest.raises(KeyboardInterrupt):
        write_evidence(pictures, file, look)
    assert not file.exists()
    part = file.with_name("evidence.jsonl.part")
    part.write_text(part.read_text() + '{"image": "b", "te')  # killed while it wrote
    assert write_evidence(pictures, file, look) == 2
    assert asked == ["a", "b", "b", "c"] and not part.exists()
    assert list(evidence.read_evidence(file)) == ["a", "b", "c"]


def drawn(mode: str, side: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, kind)
    return file.getvalue()


def bomb(side: int) -> bytes:
    """A grey PNG that claims to be of so many pixels a side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def mapped(picture: bytes) -> str:
    """A line about the image a with such a map."""
    return json.dumps({"image": "a", "text": "", "map": base64.b64encode(picture).decode()}) + "\n"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("{}\n", "line 1 of .* is no evidence"),
        ("not JSON\n", "line 1 of .* is no evidence"),
        (evidence.line("a", evidence.Evidence("", np.zeros((490, 490)))) * 2, "two lines about the image a"),
        (evidence.line("a", evidence.Evidence("", np.zeros((2, 3)))), "the map of a, line 1 .* mode L and 3x2 pixels"),
        (mapped(drawn("P", 490)), "the map of a, line 1 .* mode P and 490x490 pixels; expected mode L and 490x490"),
        (mapped(drawn("RGB", 490)), "mode RGB and 490x490 pixels"),
        (mapped(bomb(9_000)), "mode L and 9000x9000 pixels"),
        (mapped(bomb(14_000)), "line 1 of .* has a map that is too large to decode"),
        (mapped(drawn("L", 490)[:99]), "line 1 of .* is no evidence"),
        (mapped(drawn("L", 490, "BMP")), "line 1 of .* is no evidence"),
        ('{"image": 7, "text": "", "map": ""}', "line 1 of .* not both text"),
        ("[" * 100_000, "line 1 of .* is no evidence"),
        ("x" * (evidence.MOST_BYTES + 1), "line 1 of .* has more than 4,000,000 bytes"),
    ],
    ids=lambda text: text[:40],
)
def test_what_is_no_evidence_is_refused(rows, message, tmp_path):
    file = tmp_path / "evidence.jsonl"
    file.write_text(rows)
    with pytest.raises(VistuneError, match=message):
        evidence.read_evidence(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VistuneError, match=r"the file of evidence .*nowhere\.jsonl is missing"):
        evidence.read_evidence(tmp_path / "nowhere.jsonl")


def test_the_published_vocabulary_is_asked_for(owlv2):
    assert len(Detector(owlv2).names) == 1847
    assert evidence_writer.LEAST_BOX < evidence.LEAST_DETECTION
