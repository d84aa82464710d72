"""MiniGPT-4 and MiniGPT-v2: what a picture costs, what is learned, and one model from parts that others published."""

from functools import partial

import pytest
import torch
from talks import PICTURE

from vistune.errors import VistuneError
from vistune.models import family
from vistune.models.labels import IGNORE
from vistune.models.vlm import build, load_original
from vistune.records import Message

KIND = family("minigpt4")


def asked(words, answer="A dog."):
    return [Message("user", words, (0,)), Message("assistant", answer)]


def learned(reader, reading):
    return reader.tokenizer.decode([label for label in reading.labels if label != IGNORE])


@pytest.mark.parametrize(
    ("preset", "tokens", "side"),
    [
        ("minigpt4-vicuna-7b", 32, 224),
        ("minigpt4-vicuna-13b", 32, 224),
        ("minigpt4-llama-2-7b", 64, 224),
        ("minigpt-v2", 256, 448),
    ],
)
def test_tokens_do_not_depend_on_the_size(preset, tokens, side):
    policy = KIND.policy(KIND.preset(preset).settings)
    for size in ((80, 60), (1024, 1024), (3000, 500)):
        plan = policy.plan(*size)
        assert (plan.tokens, plan.views[0].size) == (tokens, (side, side))


def test_published_sizes(role_sizes):
    counts = partial(role_sizes, "minigpt4")
    v1, v2 = counts("minigpt4-vicuna-7b"), counts("minigpt-v2")
    assert (v1["vision"], v2["vision"]) == (985_952_256, 987_033_600)  # 768 positions more
    assert (v1["connector"], v2["connector"]) == (768 * 4096 + 4096, 5632 * 4096 + 4096)
    assert (v1["qformer"], v2["qformer"]) == (105_137_664 + 32 * 768, 0)
    assert v1["head"] - v2["head"] == 2 * 4096  # Vicuna's row for padding


def test_conversations_as_trained():
    vicuna, v2 = build("minigpt4", "tiny").reader, build("minigpt4", "tiny-v2").reader
    reading = vicuna.read(asked("Describe this image in detail."), [PICTURE.size])
    image = "<ImageHere>" * 4
    text = vicuna.tokenizer.decode(reading.ids)
    assert text == f"<s>###Human: <Img>{image}</Img> Describe this image in detail. ###Assistant: A dog.###"
    assert learned(vicuna, reading) == "A dog.###"
    reading = v2.read(asked("[refer] where is the dog ?", "{<12><30><55><80>}"), [PICTURE.size])
    text = v2.tokenizer.decode(reading.ids)
    assert text == f"<s>[INST] <Img>{image}</Img> [refer] where is the dog ? [/INST] {{<12><30><55><80>}}</s>"
    assert learned(v2, reading) == "{<12><30><55><80>}</s>"
    assert (vicuna.stop, v2.stop) == ("###", "</s>")


def test_every_question_but_the_first_begins_anew():
    reader = build("minigpt4", "tiny-v2").reader
    reading = reader.read([*asked("One?"), Message("user", "Two?"), Message("assistant", "No.")], [PICTURE.size])
    assert reader.tokenizer.decode(reading.ids).endswith(" One? [/INST] A dog.</s><s>[INST] Two? [/INST] No.</s>")
    assert learned(reader, reading) == "A dog.</s>No.</s>"


def test_four_in_a_row_and_no_cls():
    vlm = build("minigpt4", "tiny-v2")
    picture = vlm.inputs([asked("What?")], [[PICTURE]])["pictures"]
    with torch.no_grad():
        (features,) = vlm.model.see(picture)
        (tokens,) = vlm.model.connector([features], picture, None)
        expected = vlm.model.connector.mlp.layers[0](features[4:8].flatten())
    assert (len(features), len(tokens)) == (16, 4)  # the second row of 4 x 4 patches is the second token
    torch.testing.assert_close(tokens[1], expected)


def test_the_qformer_reads_cls_and_stays_in_evaluation_mode():
    vlm = build("minigpt4")
    picture = vlm.inputs([asked("What?")], [[PICTURE]])["pictures"]
    with torch.no_grad():
        (features,) = vlm.model.see(picture)
        before = vlm.model.connector([features], picture, None)[0]
        assert torch.equal(vlm.model.train().connector([features], picture, None)[0], before)
        features[0] += 1
        assert not torch.allclose(vlm.model.connector([features], picture, None)[0], before)
    assert len(features) == 17
    assert vlm.model.vision_tower.model.post_layernorm.eps == 1e-5


def test_only_the_linear_layer_is_trained():
    vlm = build("minigpt4")
    assert [set(stage.rates) for stage in vlm.preset.stages] == [{"connector"}] * 2
    assert vlm.roles()["connector"] == ["connector.qformer.project.weight", "connector.qformer.project.bias"]
    assert all(stage.lora == {"language": 64} for stage in KIND.preset("minigpt-v2").stages)


def published(vlm):
    """The files of the authors and of those they build on, from one model."""
    eva, blip, own, language = {}, {}, {}, {}
    for key, tensor in vlm.model.state_dict().items():
        name = key.split(".", 2)[-1]
        if key.startswith("language_model."):
            language[key.removeprefix("language_model.")] = tensor
        elif "post_layernorm" in key:
            blip[f"ln_vision.{key.rpartition('.')[2]}"] = tensor
        elif key.startswith("vision_tower."):
            name = name.replace("encoder.layers.", "blocks.").replace("layer_norm", "norm")
            name = name.replace("self_attn.projection", "attn.proj").replace("self_attn.qkv", "attn.qkv")
            name = name.replace("embeddings.patch_embedding", "patch_embed.proj")
            name = {"embeddings.class_embedding": "cls_token", "embeddings.position_embedding": "pos_embed"}.get(
                name, name
            )
            if name.endswith("attn.qkv.bias"):
                query, key_bias, value = tensor.chunk(3)
                assert not key_bias.any()
                eva |= {name.replace("qkv.bias", "q_bias"): query, name.replace("qkv.bias", "v_bias"): value}
            else:
                eva[name] = tensor
        elif key.startswith(("connector.qformer.project", "connector.mlp")):
            own[f"llama_proj.{key.rpartition('.')[2]}"] = tensor
        elif key == "connector.qformer.queries":
            blip["query_tokens"] = tensor
        else:
            name = name.removeprefix("model.")
            name = name.replace("attention.attention.", "attention.self.").replace(
                "layernorm.", "embeddings.LayerNorm."
            )
            blip[f"Qformer.bert.{name}"] = tensor
    eva |= {key.replace("blocks.0", "blocks.2"): tensor for key, tensor in eva.items() if key.startswith("blocks.0")}
    eva |= {"norm.weight": torch.ones(32), "head.weight": torch.ones(5, 32), "head.bias": torch.ones(5)}
    blip |= {
        "t5_proj.weight": torch.ones(3, 32),
        "Qformer.bert.embeddings.position_ids": torch.arange(5)[None],
        "Qformer.bert.embeddings.word_embeddings.weight": torch.ones(5, 32),
        "Qformer.bert.encoder.layer.0.output.dense.weight": torch.ones(32, 64),
        "Qformer.cls.predictions.bias": torch.ones(5),
    }
    return eva, blip, own, language


def written(folder, *states):
    files = []
    for n, state in enumerate(states):
        files.append(folder / f"{n}.pth")
        torch.save({"model": state}, files[-1])
    return files


def test_one_model_from_all_published_parts(tmp_path):
    vlm = build("minigpt4", seed=1)
    eva, blip, own, language = published(vlm)
    language["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    files = written(tmp_path, own, eva, blip, language)
    options = {"allow_bin": True, "tokenizer": vlm.reader.tokenizer}
    loaded = load_original(files[0], "minigpt4", "tiny", parts=files[1:], **options)
    ours, theirs = vlm.model.state_dict(), loaded.model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    with pytest.raises(VistuneError, match=r"47 missing \(connector\.qformer\.model\."):
        load_original(files[0], "minigpt4", "tiny", parts=[files[1], files[3]], **options)
    torch.save({"surprise": torch.ones(1)}, tmp_path / "more.pt")
    with pytest.raises(VistuneError, match=r"unexpected \(surprise"):
        load_original(files[0], "minigpt4", "tiny", parts=[*files[1:], tmp_path / "more.pt"], **options)
    with pytest.raises(VistuneError, match=r"an earlier part holds too: llama_proj\.bias"):
        load_original(files[0], "minigpt4", "tiny", parts=files[:1], **options)


def test_lora_is_added_and_the_norm_that_was_never_loaded_is_filled_in():
    vlm = build("minigpt4", "tiny-v2", seed=2)
    eva, blip, own, language = published(vlm)
    assert set(blip) >= {"ln_vision.weight", "ln_vision.bias"}
    torch.manual_seed(0)
    down, up = torch.randn(2, 32), torch.randn(32, 2)
    stem = "model.layers.1.self_attn.q_proj"
    lora = f"llama_model.base_model.model.{stem}.lora_"
    state = KIND.original(
        {**eva, **own, **language, f"{lora}A.default.weight": down, f"{lora}B.weight": up}, vlm.model.config
    )
    assert state.keys() == vlm.model.state_dict().keys()
    torch.testing.assert_close(
        state[f"language_model.{stem}.weight"], language[f"{stem}.weight"] + up @ down * (16 / 2)
    )
    norm = [state[f"vision_tower.model.post_layernorm.{kind}"] for kind in ("weight", "bias")]
    assert [(n == value).all().item() for n, value in zip(norm, (1, 0), strict=True)] == [True, True]
    lonely = KIND.original({**eva, **own, f"{lora}A.weight": down, f"{lora}B.weight": up}, vlm.model.config)
    assert f"language_model.{stem}.lora_A" in lonely  # of no weight: unexpected


def test_positions_are_resized_when_loaded():
    vlm = build("minigpt4", "tiny-v2")
    eva, _, own, language = published(vlm)
    small = torch.cat([eva["pos_embed"][:, :1], torch.full((1, 4, 32), 0.5)], dim=1)  # 2 x 2 patches
    state = KIND.original({**own, **language, **eva, "pos_embed": small}, vlm.model.config)
    table = state["vision_tower.model.embeddings.position_embedding"]
    assert table.shape == (1, 17, 32)
    torch.testing.assert_close(table[0, 1:], torch.full((16, 32), 0.5))
    assert torch.equal(table[:, :1], small[:, :1])
