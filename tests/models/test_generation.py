"""Greedy decoding: an answer depends on its own question and image only."""

import pytest
import torch
from PIL import Image
from torch import nn

from vistune.models import generate
from vistune.models.families import small
from vistune.models.generation import decode_greedy


@pytest.fixture(scope="module")
def model():
    """Untied, noisy head: otherwise a random model repeats its last token."""
    model = small.tiny(seed=5).eval()
    with torch.no_grad():
        model.language_model.lm_head.weight = nn.Parameter(torch.randn_like(model.language_model.lm_head.weight))
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def picture():
    return Image.radial_gradient("L").resize((80, 60)).convert("RGB")


def test_answers_do_not_depend_on_neighbours(model, picture):
    questions = ["what?", "how many things are there in this picture?", "why"]
    together = generate(model, picture, questions, max_new_tokens=12)
    alone = [generate(model, picture, [q], max_new_tokens=12)[0] for q in questions]
    assert together == alone
    assert any(together)


def test_own_decoding_equals_transformers_generate(model, picture):
    ids = torch.tensor([model.chat.prefix(1) + model.chat.question("what is it?")])
    features = model.encode_images([picture])
    theirs = model.generate(
        input_ids=ids, image_features=features, max_new_tokens=10, do_sample=False, eos_token_id=model.chat.end_id
    )
    expected = model.chat.decode(theirs[0, ids.shape[1] :].tolist())
    assert generate(model, picture, ["what is it?"], max_new_tokens=10) == [expected]


def test_no_image_is_a_text_only_prompt(model):
    assert model.chat.image_token_id not in model.chat.prefix(0)
    assert isinstance(generate(model, None, ["hello"], max_new_tokens=2)[0], str)


def test_several_images_with_questions_each(model):
    chat = model.chat
    features = torch.randn(3, 4, 32, generator=torch.Generator().manual_seed(1))
    asked = [chat.question(q) for q in ("What?", "Is there a very long question about it?", "Why?", "Hm")]
    of = [2, 0, 0, 1]
    together = decode_greedy(model, chat.prefix(), features, asked, of, 9)
    separate = [
        decode_greedy(model, chat.prefix(), features[i : i + 1], [q], [0], 9)[0] for q, i in zip(asked, of, strict=True)
    ]
    assert together == separate


def test_finished_rows_stop_alone(model, monkeypatch):
    """A row that says end of turn ends there, while the others go on to the limit."""
    chat = model.chat
    asked = [chat.question(q) for q in ("one", "two", "three")]
    full = decode_greedy(model, chat.prefix(0), None, asked, [0, 0, 0], 6)
    stop = full[1][2]
    monkeypatch.setattr(chat, "end_id", stop)
    cut = decode_greedy(model, chat.prefix(0), None, asked, [0, 0, 0], 6)
    assert cut == [ids[: ids.index(stop)] if stop in ids else ids for ids in full]
    assert len(cut[1]) <= 2
