"""Monkey: 1280 tokens a picture, the whole of it last, an adapter for each window."""

import pytest
import torch
from safetensors.torch import save_file
from talks import PICTURE

from vistune.errors import VistuneError
from vistune.models import family
from vistune.models.labels import IGNORE
from vistune.models.vlm import build, load_original
from vistune.records import Message

KIND = family("monkey")
ASKED = [Message("user", "How many?", (0,)), Message("assistant", "42")]


@pytest.fixture
def vlm():
    return build("monkey")


def test_a_picture_is_1280_tokens_windows_first():
    policy = KIND.policy(KIND.preset("monkey").settings)
    for size in ((80, 60), (448, 1344), (3000, 500)):
        plan = policy.plan(*size)
        assert plan.tokens == 1280
        assert [(view.kind, view.size, view.tokens) for view in plan.views] == [
            *[("window", (448, 448), 256)] * 4,
            ("overview", (448, 448), 256),
        ]
        assert plan.layout == (0, 1, 2, 3, 4)


def test_published_sizes(role_sizes):
    counts = role_sizes("monkey", "monkey-chat")
    assert counts["vision"] == 1_842_770_688
    assert counts["adapters"] == 51_118_656 == 4 * 12_779_664
    assert counts["connector"] + counts["positions"] == 76_054_528
    assert (counts["positions"], counts["output"]) == (1_048_576, 16_785_408)


def test_what_is_trained(vlm):
    (stage,) = vlm.preset.stages
    assert set(stage.rates) == {"adapters", "connector", "language", "head"}
    roles = vlm.roles()
    assert roles["positions"] == ["connector.resampler.positions"]
    assert {name.split(".")[2] for name in roles["output"]} == {"post_norm", "project"}
    assert {name.split(".")[4] for name in roles["adapters"]} == {"qkv", "out", "mlp"}
    assert not vlm.model.connector.resampler.positions.requires_grad


def test_conversation_as_trained(vlm):
    reader = vlm.reader
    reading = reader.read(ASKED, [PICTURE.size])
    text = reader.tokenizer.decode(reading.ids)
    assert text == f"<img>{'<imgpad>' * 20}</img> How many? Answer: 42<|endoftext|>"
    assert reader.tokenizer.decode([label for label in reading.labels if label != IGNORE]) == "42<|endoftext|>"
    prompt = reader.read(ASKED[:1], [PICTURE.size], prompt=True)
    assert text.startswith(reader.tokenizer.decode(prompt.ids)) and reader.stop == "<|endoftext|>"


def test_each_window_goes_through_its_own_adapter(vlm):
    pictures = vlm.inputs([ASKED] * 2, [[PICTURE], [PICTURE.rotate(180)]])["pictures"]
    with torch.no_grad():
        before = vlm.model.see(pictures)
        for block in vlm.model.vision_tower.blocks:
            for bank in block.adapters.values():
                bank.up[2] += 1
        after = vlm.model.see(pictures)
    changed = [[not torch.equal(a, b) for a, b in zip(*each, strict=True)] for each in zip(before, after, strict=True)]
    assert changed == [[False, False, True, False, False]] * 2


def test_pictures_of_a_batch_do_not_mix(vlm):
    pictures = vlm.inputs([ASKED] * 2, [[PICTURE], [PICTURE.rotate(180)]])["pictures"]
    with torch.no_grad():
        together = vlm.model.connector(vlm.model.see(pictures), pictures, None)
        alone = [vlm.model.connector(vlm.model.see([p]), [p], None)[0] for p in pictures]
    assert [len(tokens) for tokens in together] == [20, 20]
    torch.testing.assert_close(torch.stack(together), torch.stack(alone))


def published(vlm, adapters=True):
    """A checkpoint in the authors' layout."""
    state = {}
    for key, tensor in vlm.model.vision_tower.state_dict().items():
        names = {"patches.weight": "conv1.weight", "positions": "positional_embedding"}
        name = names.get(key, key.replace("norm.", "ln_pre."))
        if key.startswith("blocks."):
            _, n, rest = key.split(".", 2)
            module = {"norm1": "ln_1", "norm2": "ln_2", "qkv": "attn.in_proj", "out": "attn.out_proj"}
            module |= {"up": "mlp.c_fc", "down": "mlp.c_proj"}
            block = f"transformer.visual.transformer.resblocks.{n}."
            if rest.startswith("adapters."):
                _, kind, part = rest.split(".")
                owner = {"qkv": "attn.in_proj_lora", "out": "attn.out_proj_lora", "mlp": "mlp_lora"}[kind]
                tail = {"down": "lora_a.weight", "up": "lora_b.weight", "scale": "lora_scale"}[part]
                for window, one in enumerate(tensor):
                    state[f"{block}{owner}.{window}.{tail}"] = one.reshape(1) if part == "scale" else one
                continue
            stem, kind = rest.split(".")
            state[f"{block}{module[stem]}.{kind}"] = tensor
        else:
            state[f"transformer.visual.{name}"] = tensor
    parts = {"query_norm": "ln_q", "input_norm": "ln_kv", "inputs": "kv_proj", "attention.out": "attn.out_proj"}
    resampler = vlm.model.connector.resampler.state_dict()
    for kind in ("weight", "bias"):
        rows = [resampler.pop(f"attention.{part}.{kind}") for part in ("query", "key", "value")]
        state[f"transformer.visual.attn_pool.attn.in_proj_{kind}"] = torch.cat(rows)
    state["transformer.visual.proj"] = resampler.pop("project.weight").T
    state["transformer.visual.attn_pool.query"] = resampler.pop("queries")
    state["transformer.visual.attn_pool.pos_embed"] = resampler.pop("positions")
    for key, tensor in resampler.items():
        stem, _, kind = key.rpartition(".")
        name = f"ln_post.{kind}" if stem == "post_norm" else f"attn_pool.{parts[stem]}.{kind}"
        state[f"transformer.visual.{name}"] = tensor
    language = vlm.model.language_model.state_dict()
    names = {"input_layernorm": "ln_1", "post_attention_layernorm": "ln_2", "self_attn.o_proj": "attn.c_proj"}
    names |= {"mlp.up_proj": "mlp.w1", "mlp.gate_proj": "mlp.w2", "mlp.down_proj": "mlp.c_proj"}
    for n in range(2):
        for kind in ("weight", "bias"):
            rows = [language.pop(f"model.layers.{n}.self_attn.{part}_proj.{kind}") for part in "qkv"]
            state[f"transformer.h.{n}.attn.c_attn.{kind}"] = torch.cat(rows)
    whole = {"model.embed_tokens": "transformer.wte", "model.norm": "transformer.ln_f", "lm_head": "lm_head"}
    for key, tensor in language.items():
        stem, _, kind = key.rpartition(".")
        if stem not in whole:
            n, inner = stem.removeprefix("model.layers.").split(".", 1)
            state[f"transformer.h.{n}.{names[inner]}.{kind}"] = tensor
        else:
            state[f"{whole[stem]}.{kind}"] = tensor
    return {key: tensor.clone().contiguous() for key, tensor in state.items() if adapters or "_lora." not in key}


def test_the_authors_checkpoint_loads(tmp_path):
    vlm = build("monkey", seed=3)
    with torch.no_grad():
        for block in vlm.model.vision_tower.blocks:
            for bank in block.adapters.values():
                bank.up.normal_()
                bank.scale.normal_()
    save_file(published(vlm), tmp_path / "model.safetensors")
    loaded = load_original(tmp_path, "monkey", "tiny", tokenizer=vlm.reader.tokenizer).model.state_dict()
    for key, tensor in vlm.model.state_dict().items():
        assert torch.equal(loaded[key], tensor), key
    state = published(vlm)
    del state["transformer.visual.attn_pool.ln_q.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 missing \(connector\.resampler\.query_norm\.bias\)"):
        load_original(tmp_path, "monkey", "tiny", tokenizer=vlm.reader.tokenizer)
    save_file(state | {"transformer.surprise": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"transformer\.surprise"):
        load_original(tmp_path, "monkey", "tiny", tokenizer=vlm.reader.tokenizer)


def test_qwen_vl_becomes_monkey_with_adapters_that_change_nothing(tmp_path):
    vlm = build("monkey", seed=4)
    save_file(published(vlm, adapters=False), tmp_path / "model.safetensors")
    monkey = load_original(tmp_path, "monkey", "tiny", tokenizer=vlm.reader.tokenizer)
    batch = vlm.inputs([ASKED], [[PICTURE]])
    with torch.no_grad():
        assert torch.equal(monkey.model(**batch).logits, vlm.model(**batch).logits)
    bank = monkey.model.vision_tower.blocks[0].adapters["qkv"]
    assert bank.down.any() and not bank.up.any() and bank.scale.eq(1).all()
