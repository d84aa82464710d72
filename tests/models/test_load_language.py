"""Published weights of a language model in a vision-language model: all of them, and nothing else is touched."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from vistune.errors import VistuneError
from vistune.models.tiny import byte_tokenizer, tiny_text
from vistune.models.vlm import _load_language, build

NATIVE = ["llava", "llava_next", "vip_llava", "internvl"]


def saved(folder, kind="llama", **changes):
    torch.manual_seed(9)
    text = tiny_text(kind, vocab_size=260, **changes)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(text.pop("model_type"), **text))
    model.save_pretrained(folder)
    byte_tokenizer(("<s>", "</s>"), bos="<s>", eos="</s>").save_pretrained(folder)
    return model.state_dict()


@pytest.mark.parametrize("family", NATIVE)
@pytest.mark.parametrize("tied", [False, True])
def test_every_weight_is_loaded_and_new_rows_are_the_mean(family, tied, tmp_path):
    published = saved(tmp_path, "qwen2", tie_word_embeddings=tied)
    vlm = build(family, language=str(tmp_path), seed=1)
    found, rows = vlm.model.state_dict(), len(vlm.reader.tokenizer)
    assert vlm.model.config.text_config.model_type == "qwen2"
    for key, tensor in published.items():
        ours = found[f"model.language_{key}" if key.startswith("model.") else key]
        assert torch.equal(ours[: len(tensor)], tensor), key
        if key.endswith(("embed_tokens.weight", "lm_head.weight")):
            assert len(ours) == max(rows, 260)
            torch.testing.assert_close(ours[260:], tensor.mean(0).expand(len(ours) - 260, -1))
    assert (vlm.model.get_output_embeddings().weight is vlm.model.get_input_embeddings().weight) == tied
    fresh = build(family, seed=1).model.state_dict()
    tower = [key for key in fresh if key.startswith("model.vision_tower.")]
    assert tower and all(torch.equal(found[key], fresh[key]) for key in tower)


def test_another_language_model_is_refused_by_name(tmp_path):
    saved(tmp_path, num_hidden_layers=3)
    vlm = build("llava")
    with pytest.raises(VistuneError, match=r"unexpected \(model\.language_model\.layers\.2\.input_layernorm\.weight"):
        _load_language(vlm.family, vlm.model, str(tmp_path))
    before = {key: tensor.clone() for key, tensor in vlm.model.state_dict().items()}
    saved(tmp_path, num_hidden_layers=1)
    with pytest.raises(VistuneError, match=r"missing \(model\.language_model\.layers\.1\.input_layernorm\.weight"):
        _load_language(vlm.family, vlm.model, str(tmp_path))
    assert all(torch.equal(tensor, before[key]) for key, tensor in vlm.model.state_dict().items())
