"""The composed model: parts partition it, packing changes nothing, saving loses nothing."""

import pytest
import torch
from PIL import Image
from torch import nn

from vistune.errors import VistuneError
from vistune.models import family, load_model
from vistune.models.encoders import BLOCKS, EfficientNetLite, EfficientNetLiteConfig, SameConv, fold
from vistune.models.families import small
from vistune.records import Message


@pytest.fixture(scope="module")
def vlm():
    """Untied, noisy head: otherwise a random model repeats its last token."""
    made = small.tiny(seed=3)
    head = made.model.language_model.lm_head
    torch.manual_seed(0)
    head.weight = nn.Parameter(torch.randn_like(head.weight))
    made.model.requires_grad_(False)
    return made


@pytest.fixture(scope="module")
def model(vlm):
    return vlm.model


def asked(vlm, pictures, text="what?"):
    """The model's inputs for one question about pictures."""
    inputs = vlm.inputs([[Message("user", text, tuple(range(len(pictures))))]], [pictures], prompt=True)
    return {name: value for name, value in inputs.items() if name != "labels"}


@pytest.fixture(scope="module")
def picture():
    return Image.radial_gradient("L").resize((80, 60)).convert("RGB")


def test_same_convolution_pads_like_tensorflow():
    """Stride 2 on an even size: TensorFlow puts the one extra pixel at the end, PyTorch's padding=1 at the start."""
    conv = SameConv(1, 1, 3, stride=2, bias=False)
    with torch.no_grad():
        conv.weight.fill_(1.0)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert conv(x).flatten().tolist() == [45.0, 39.0, 66.0, 50.0]


def test_folding_equals_convolution_then_normalisation():
    torch.manual_seed(0)
    original, width = {}, 8

    def add(conv, norm, shape):
        original[f"{conv}.weight"] = torch.randn(shape)
        for key in ("weight", "bias", "running_mean"):
            original[f"{norm}.{key}"] = torch.randn(shape[0])
        original[f"{norm}.running_var"] = torch.rand(shape[0]) + 0.5

    add("_conv_stem", "_bn0", (width, 3, 3, 3))
    add("_conv_head", "_bn1", (4, width, 1, 1))
    for n in range(sum(b[-1] for b in BLOCKS)):
        if n:
            add(f"_blocks.{n}._expand_conv", f"_blocks.{n}._bn0", (width, width, 1, 1))
        add(f"_blocks.{n}._depthwise_conv", f"_blocks.{n}._bn1", (width, 1, 3, 3))
        add(f"_blocks.{n}._project_conv", f"_blocks.{n}._bn2", (width, width, 1, 1))
    folded = fold(original)
    norm = nn.BatchNorm2d(width, eps=1e-3).eval()
    norm.load_state_dict(
        {k: original[f"_bn0.{k}"] for k in ("weight", "bias", "running_mean", "running_var")}, strict=False
    )
    x = torch.randn(2, 3, 9, 9)
    expected = norm(nn.functional.conv2d(x, original["_conv_stem.weight"]))
    got = nn.functional.conv2d(x, folded["stem.weight"], folded["stem.bias"])
    assert torch.allclose(expected, got, atol=1e-4)
    assert len(folded) == 2 * (2 + 3 * 16 - 1)


def test_grid_is_an_image_over_32():
    tower = EfficientNetLite(EfficientNetLiteConfig(image_size=64, width=12, multiplier=0.125))
    assert tower(torch.zeros(2, 3, 64, 64)).shape == (2, 4, 12)


def test_roles_partition_all_parameters(model):
    roles = model.family.owned(model)
    names = [n for group in roles.values() for n in group]
    assert sorted(names) == sorted(n for n, _ in model.named_parameters())
    assert all(roles.values()) and len(set(names)) == len(names)


def test_a_parameter_without_a_role_is_an_error(model):
    model.stray = nn.Linear(1, 1)
    try:
        with pytest.raises(VistuneError, match=r"stray\.weight of small belongs to no role"):
            model.family.owned(model)
    finally:
        del model.stray


def test_placeholders_and_images_must_agree(vlm, model, picture):
    inputs = asked(vlm, [picture])
    two = asked(vlm, [picture, picture])["pictures"]
    with pytest.raises(VistuneError, match="4 image placeholders but 8 visual tokens"):
        model(**inputs | {"pictures": two})
    with pytest.raises(VistuneError, match="4 image placeholders but 0 visual tokens"):
        model(**inputs | {"pictures": None})


def test_the_image_changes_the_answer_distribution(vlm, model, picture):
    other = Image.new("RGB", (64, 64), (255, 0, 0))
    a, b = (model(**asked(vlm, [p])).logits for p in (picture, other))
    assert (a - b).abs().max() > 1e-4


def test_pictures_and_features_are_the_same_image(vlm, model, picture):
    inputs = asked(vlm, [picture])
    seen = model.see(inputs["pictures"])
    assert torch.equal(model(**inputs).logits, model(**inputs, image_features=seen).logits)


def test_save_and_load_give_equal_logits_and_answers(vlm, model, picture, tmp_path):
    vlm.save(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} >= {".json", ".safetensors"}
    loaded = load_model(tmp_path, "float32")
    inputs = asked(vlm, [picture])
    assert torch.equal(loaded.model(**inputs).logits, model(**inputs).logits)
    turns = [[Message("user", "what?", (0,))]]
    assert loaded.generate(turns, [[picture]], 6) == vlm.generate(turns, [[picture]], 6)


def test_answers_do_not_depend_on_neighbours(vlm, picture):
    """Of any length, with and without a picture."""
    texts = ["what?", "how many things are there in this picture?", "why"]
    turns = [[Message("user", text, (0,) * (n < 2))] for n, text in enumerate(texts)]
    shown = [[picture], [picture], []]
    together = vlm.generate(turns, shown, 12)
    assert together == [vlm.generate([one], [of], 12)[0] for one, of in zip(turns, shown, strict=True)]
    assert all(together) and len(set(together)) > 1


def test_auto_class_loads_it(vlm, model, tmp_path):
    from transformers import AutoModelForImageTextToText

    vlm.save(tmp_path)
    assert type(AutoModelForImageTextToText.from_pretrained(tmp_path)) is type(model)


def test_unknown_family():
    with pytest.raises(VistuneError, match="unknown model family 'large'"):
        family("large")


def test_missing_model_folder(tmp_path):
    with pytest.raises(VistuneError, match="holds no model"):
        load_model(tmp_path)
