"""MiniCPM-V: slices and marks of three versions, encoders, the folded scales of MiniCPM-2B, and the checkpoints."""

import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from transformers import GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM

from vistune.errors import VistuneError
from vistune.models import family
from vistune.models.families.minicpm_v import StripTower, minicpm_keys
from vistune.models.keymap import load
from vistune.models.labels import IGNORE
from vistune.models.reader import Reader
from vistune.models.tiny import tokenizer_for
from vistune.models.vlm import build, load_original
from vistune.records import Message

KIND = family("minicpm_v")
WIDE = Image.radial_gradient("L").resize((80, 40)).convert("RGB")
SMALL = Image.linear_gradient("L").resize((40, 40)).convert("RGB")
TINY = ("tiny", "tiny-2.5", "tiny-2.0")


def asked(*images):
    return [Message("user", "What is it?", images), Message("assistant", "A dog.")]


@pytest.mark.parametrize(
    ("size", "views", "few", "many"),
    [
        ((448, 448), 1, 64, 96),
        ((449, 448), 3, 192, 288),
        ((800, 600), 5, 320, 480),
        ((448, 1344), 4, 256, 384),
        ((1344, 1344), 10, 640, 960),
        ((1920, 1080), 9, 576, 864),
        ((3000, 100), 4, 256, 384),
    ],
)
def test_tokens_of_a_size(size, views, few, many):
    for preset, tokens in (("minicpm-v-2.6", few), ("minicpm-llama3-v-2.5", many), ("minicpm-v-2.0", few)):
        reader = Reader(KIND, KIND.preset(preset), tokenizer_for(KIND.preset(preset)))
        plan = reader.plan(*size)
        assert (len(plan.views), plan.tokens) == (views, tokens)
        assert reader.picture(plan).count(reader.placeholder) == tokens


def shown(preset, *images):
    """The conversation as text, with one * for each visual token, and what of it is learned."""
    reader = build("minicpm_v", preset).reader
    reading = reader.read(asked(*range(len(images))), [image.size for image in images])
    text = reader.tokenizer.decode(reading.ids).replace(reader.preset.placeholder, "*")
    return text, reader.tokenizer.decode([label for label in reading.labels if label != IGNORE])


def test_conversations():
    text, learned = shown("tiny", WIDE, SMALL)
    assert text == (
        "<|im_start|>user\n<image_id>0</image_id><image>****</image><slice>****</slice><slice>****</slice>\n"
        "<image_id>1</image_id><image>****</image>\nWhat is it?<|im_end|>\n<|im_start|>assistant\nA dog.<|im_end|>\n"
    )
    assert learned == "A dog.<|im_end|>"
    image = "<image>****</image><slice><image>****</image><image>****</image></slice>"
    text, learned = shown("tiny-2.5", WIDE)
    assert text == (
        f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{image}\nWhat is it?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nA dog.<|eot_id|>"
    )
    assert learned == "A dog.<|eot_id|>"
    text, learned = shown("tiny-2.0", WIDE)
    assert text == f"<s><用户>{image}\nWhat is it?<AI>A dog.</s>"
    assert learned == "A dog.</s>"


def test_rows_of_slices_are_lines():
    reader = build("minicpm_v").reader
    plan = reader.plan(110, 110)
    assert plan.grid == (2, 2)
    text = reader.tokenizer.decode(reader.picture(plan))
    assert re.sub(r"<\|image_feature\|>", "", text) == "<image></image>" + "\n".join(["<slice></slice>" * 2] * 2)


def test_published_sizes(role_sizes):
    counts = partial(role_sizes, "minicpm_v")
    v26, v25, v20 = (counts(p) for p in ("minicpm-v-2.6", "minicpm-llama3-v-2.5", "minicpm-v-2.0"))
    assert sum(v26.values()) == 8_099_175_152
    assert (v26["connector"], v25["connector"]) == (68_619_264, 89_038_848)
    assert v20["connector"] + v20["positions"] == 29_514_240
    assert (v20["language"], v20["head"]) == (2_442_057_984, 122_753 * 2304)  # 2.4 B and one table
    block = 4 * 1152**2 + 2 * 1152 * 4304 + 9 * 1152 + 4304
    assert v26["vision"] - v20["vision"] == block + (70**2 - 27**2) * 1152


def test_the_scales_of_minicpm_are_in_the_weights():
    """Granite has the same three scales as numbers in its configuration."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes |= {"vocab_size": 50, "rms_norm_eps": 1e-5}
    torch.manual_seed(0)
    for tied in (True, False):
        scaled = GraniteConfig(
            **sizes,
            embedding_multiplier=12.0,
            residual_multiplier=1.4 / 3**0.5,
            logits_scaling=32 / 256,
            attention_multiplier=8**-0.5,
            tie_word_embeddings=tied,
        )
        theirs = GraniteForCausalLM(scaled).eval()
        for norm in (theirs.model.norm, theirs.model.layers[0].input_layernorm):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        ours = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=tied)).eval()
        load(ours, minicpm_keys(theirs.state_dict(), ours.config), "MiniCPM")
        ids = torch.randint(50, (2, 9))
        with torch.no_grad():
            torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=1e-4, atol=1e-5)
    with pytest.raises(VistuneError, match="head differs"):
        minicpm_keys(theirs.state_dict(), LlamaConfig(**sizes, tie_word_embeddings=True))


def test_2_0_resizes_positions_as_timm_does():
    encoder = build("minicpm_v", "tiny-2.0").model.vision_tower.encoder
    picture = torch.randn(1, 3, 28, 112)
    part = encoder.model.embeddings
    table = part.position_embedding.weight.view(1, 4, 4, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(table, (2, 8), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    seen = []
    encoder.model.encoder.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    encoder(picture)
    torch.testing.assert_close(seen[0], part.patch_embedding(picture).flatten(2).transpose(1, 2) + resized)
    assert len(encoder.model.encoder.layers) == 2  # of 3


def test_2_5_pads_the_views_of_a_picture_only():
    """Its padding is attended to and shifts positions, so padding all pictures would let them change each other."""
    vlm = build("minicpm_v", "tiny-2.5")
    wide, small = vlm.inputs([asked(0), asked(0)], [[WIDE], [SMALL]])["pictures"]
    tower = vlm.model.vision_tower
    assert isinstance(tower, StripTower) and len({view.shape for view in wide.views}) == 2
    with torch.no_grad():
        alone, (_, together) = tower([small])[0][0], (maps[0] for maps in tower([wide, small]))
        assert torch.equal(alone, together)
        tower.padded = "batch"
        _, padded = (maps[0] for maps in tower([wide, small]))
    assert alone.shape == padded.shape
    assert not torch.allclose(alone, padded, atol=1e-3)


def test_2_5_knows_a_patch_by_its_number_alone():
    for preset, same in (("tiny-2.5", True), ("tiny", False)):
        tower = build("minicpm_v", preset).model.vision_tower.encoder
        tall, wide = ([rows, 8 // rows] for rows in (4, 2))
        strips = torch.randn(1, 3, 14, 8 * 14)
        with torch.no_grad():
            assert torch.equal(tower(strips, [tuple(tall)]), tower(strips, [tuple(wide)])) == same


def test_which_stages_train_what_is_published_and_how_fast_is_not():
    *training, own = KIND.preset("minicpm-v-2.6").stages
    assert [set(stage.rates) - {"language", "head"} for stage in training] == [
        {"connector"},
        {"vision"},
        {"vision", "connector"},
        {"vision", "connector"},
    ]
    assert {rate for stage in training for rate in stage.rates.values()} == {None}
    assert own.rates == {"vision": 1e-6, "connector": 1e-6}


def published(vlm, timm):
    """The model's weights under their authors' names; `timm`: its names of the encoder."""
    names = [
        (r"language_model\.", "llm."),
        (r"connector\.resampler\.queries", "resampler.query"),
        (r"connector\.resampler\.positions", "resampler.pos_embed"),
        (r"connector\.resampler\.inputs", "resampler.kv_proj"),
        (r"connector\.resampler\.query_norm", "resampler.ln_q"),
        (r"connector\.resampler\.input_norm", "resampler.ln_kv"),
        (r"connector\.resampler\.post_norm", "resampler.ln_post"),
        (r"connector\.resampler\.attention\.out", "resampler.attn.out_proj"),
    ]
    names += [(r"vision_tower\.encoder\.model\.", "vpm.")] * (not timm)
    own, state = vlm.model.state_dict(), {}
    for key, tensor in own.items():
        new = next((re.sub(old, new, key) for old, new in names if re.match(old, key)), None)
        state |= {new: tensor} if new else {}
    for kind in ("weight", "bias"):
        parts = [own[f"connector.resampler.attention.{part}.{kind}"] for part in ("query", "key", "value")]
        state[f"resampler.attn.in_proj_{kind}"] = torch.cat(parts)
    state["resampler.proj"] = own["connector.resampler.project.weight"].T
    if timm:
        part = vlm.model.vision_tower.encoder.model
        state["vpm.pos_embed"] = part.embeddings.position_embedding.weight[None]
        state |= {f"vpm.patch_embed.proj.{k}": v for k, v in part.embeddings.patch_embedding.state_dict().items()}
        state |= {f"vpm.norm.{k}": v for k, v in part.post_layernorm.state_dict().items()}
        for n, layer in enumerate(part.encoder.layers):
            block = {"norm1": layer.layer_norm1, "norm2": layer.layer_norm2, "attn.proj": layer.self_attn.out_proj}
            block |= {"mlp.fc1": layer.mlp.fc1, "mlp.fc2": layer.mlp.fc2}
            state |= {f"vpm.blocks.{n}.{name}.{k}": v for name, m in block.items() for k, v in m.state_dict().items()}
            for kind in ("weight", "bias"):
                parts = [getattr(getattr(layer.self_attn, f"{name}_proj"), kind) for name in "qkv"]
                state[f"vpm.blocks.{n}.attn.qkv.{kind}"] = torch.cat(parts)
    return {key: tensor.detach().clone().contiguous() for key, tensor in state.items()}


@pytest.mark.parametrize("preset", TINY)
def test_the_authors_checkpoints(tmp_path, preset):
    theirs = build("minicpm_v", preset, seed=1)
    state, tokenizer = published(theirs, timm=preset == "tiny-2.0"), theirs.reader.tokenizer
    expected = theirs.model.state_dict()
    if preset == "tiny-2.0":
        width, layers = 32, 2
        factors = {
            r"embed_tokens|lm_head": 12.0,
            r"o_proj|down_proj": 1.4 / layers**0.5,
            r"model\.norm": 256 / width / 12,
        }
        for key in [k for k in expected if k.startswith("language_model.")]:
            expected[key] = expected[key] * next((f for name, f in factors.items() if re.search(name, key)), 1.0)
    else:
        state["resampler.pos_embed"] = torch.zeros(70, 70, 32)  # computed, not learned
    save_file(state, tmp_path / "model.safetensors")
    found = load_original(tmp_path, "minicpm_v", preset, tokenizer=tokenizer).model.state_dict()
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, msg=key)
    state.pop("resampler.ln_q.bias")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 missing \(connector\.resampler\.query_norm\.bias\)"):
        load_original(tmp_path, "minicpm_v", preset, tokenizer=tokenizer)


def test_a_block_more_than_the_preset_reads_is_refused(tmp_path):
    theirs = build("minicpm_v", "tiny-2.0", seed=1)
    state = published(theirs, timm=True) | {"vpm.blocks.2.norm1.weight": torch.ones(32)}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match="3 blocks, the preset reads 2"):
        load_original(tmp_path, "minicpm_v", "tiny-2.0", tokenizer=theirs.reader.tokenizer)


def test_stock_siglip_has_its_positions_resized(tmp_path):
    from transformers import SiglipVisionConfig, SiglipVisionModel

    settings = KIND.preset("tiny").settings
    stock = SiglipVisionModel(SiglipVisionConfig(**{**settings.vision, "image_size": 56}))
    stock.config.save_pretrained(tmp_path)
    weights = {f"vision_model.{key}": tensor for key, tensor in stock.state_dict().items()}  # as on the hub
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = build("minicpm_v", vision=str(tmp_path)).model.vision_tower.encoder.model
    assert torch.equal(model.post_layernorm.weight, stock.post_layernorm.weight)
    assert model.embeddings.position_embedding.weight.shape == (100, 32)
    same = build("minicpm_v", "tiny-2.0", vision=str(tmp_path)).model.vision_tower.encoder.model
    assert torch.equal(same.embeddings.position_embedding.weight, stock.embeddings.position_embedding.weight)
