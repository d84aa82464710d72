"""mPLUG-Owl and mPLUG-Owl2: 65 tokens a picture, what is learned, and what visual tokens have for themselves."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from talks import PICTURE
from transformers import CLIPVisionConfig, CLIPVisionModel

from vistune.errors import VistuneError
from vistune.models import family
from vistune.models.encoders.clip import owl_clip_keys
from vistune.models.families.base import at_stage
from vistune.models.keymap import load as load_state
from vistune.models.labels import IGNORE
from vistune.models.vlm import build, drawn, load_original
from vistune.records import Message

KIND = family("mplug_owl")
ASKED = [Message("user", "What?", (0,)), Message("assistant", "A dog.")]
PLAIN = [Message("user", "Hello"), Message("assistant", "Hi")]
BOTH = pytest.mark.parametrize("preset", ["tiny", "tiny-2"])


def learned(reader, reading):
    return reader.tokenizer.decode([label for label in reading.labels if label != IGNORE])


@pytest.mark.parametrize(("preset", "side"), [("mplug-owl-llama-7b", 224), ("mplug-owl2-llama2-7b", 448)])
def test_a_picture_is_65_tokens(preset, side):
    policy = KIND.policy(KIND.preset(preset).settings)
    for size in ((80, 60), (1024, 1024), (3000, 500)):
        plan = policy.plan(*size)
        assert (plan.tokens, plan.views[0].size) == (65, (side, side))


def test_published_sizes(role_sizes):
    counts = partial(role_sizes, "mplug_owl")
    one, two = counts("mplug-owl-llama-7b"), counts("mplug-owl2-llama2-7b")
    assert (one["connector"], two["connector"]) == (105_097_216, 81_473_536)
    assert (one["experts"], two["experts"]) == (0, 32 * (2 * 4096 * 4096 + 2 * 4096))
    assert two["vision"] - one["vision"] == (32 * 32 - 16 * 16) * 1024
    assert one["language"] == two["language"]


def test_conversations_as_trained():
    one, two = build("mplug_owl").reader, build("mplug_owl", "tiny-2").reader
    reading = one.read(ASKED, [PICTURE.size])
    assert one.tokenizer.decode(reading.ids) == (
        "<s>The following is a conversation between a curious human and AI assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions."
        f"\nHuman: {'<image>' * 5}\nHuman: What?\nAI: A dog.</s>"
    )
    assert learned(one, reading) == " A dog.</s>"
    reading = two.read(ASKED, [PICTURE.size])
    assert two.tokenizer.decode(reading.ids) == f"<s>USER: {'<|image|>' * 5}\nWhat? ASSISTANT: A dog.</s>"
    assert learned(two, reading) == " A dog.</s>"
    assert (one.stop, two.stop) == ("</s>", "</s>")


@BOTH
def test_the_last_token_of_a_picture_is_learned(preset):
    vlm = build("mplug_owl", preset)
    pictures = vlm.inputs([ASKED] * 2, [[PICTURE], [PICTURE.rotate(90)]])["pictures"]
    with torch.no_grad():
        features = vlm.model.see(pictures)
        tokens = vlm.model.connector(features, pictures, None)
    assert [f.shape for f in features] == [(5, 32)] * 2  # CLS stays
    assert [len(t) for t in tokens] == [5, 5]
    assert all(torch.equal(t[-1], vlm.model.connector.abstractor.end[0, 0]) for t in tokens)
    assert not torch.allclose(tokens[0][0], tokens[1][0])


def test_visual_tokens_and_the_end_of_a_picture_are_typed():
    vlm = build("mplug_owl", "tiny-2")
    batch = vlm.inputs([ASKED, PLAIN], [[PICTURE], []])
    visual = batch["input_ids"] == vlm.model.config.image_token_id
    assert torch.equal(batch["token_types"], torch.where(batch["attention_mask"] == 0, -1, visual.long()))
    assert visual.sum() == 5


def test_twins_see_pictures_only():
    vlm = build("mplug_owl", "tiny-2")
    batch = vlm.inputs([ASKED, PLAIN], [[PICTURE], []])
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        before = vlm.model(**batch).logits
        for name in vlm.roles()["experts"]:
            vlm.model.get_parameter(name).add_(0.1)
        after = vlm.model(**batch).logits
    same = (before == after).all(-1)
    first = int((batch["input_ids"][0] == vlm.model.config.image_token_id).nonzero()[0])
    assert same[0, :first].all() and not same[0, first:][real[0, first:]].any()
    assert same[1][real[1]].all()


def test_the_first_version_has_no_twins():
    assert build("mplug_owl").roles()["experts"] == []
    assert len(build("mplug_owl", "tiny-2").roles()["experts"]) == 2 * 4
    assert set(KIND.preset("mplug-owl2-llama2-7b").stages[0].rates) == {"vision", "connector", "experts"}
    align, instruct = KIND.preset("mplug-owl-llama-7b").stages
    assert set(align.rates) == {"vision", "connector"}
    assert (set(instruct.rates), dict(instruct.lora)) == ({"language"}, {"language": 8})


def test_a_stage_at_another_resolution_has_the_same_weights():
    vlm = build("mplug_owl", "tiny-2")
    preset = at_stage(vlm.preset, vlm.preset.stages[0])
    small = drawn(KIND, preset, vlm.reader.tokenizer, preset.text)
    small.load_state_dict(vlm.model.state_dict())
    plan = KIND.policy(preset.settings).plan(*PICTURE.size)
    assert plan.views[0].size == (14, 14)
    with torch.no_grad():
        (features,) = small.see(
            [
                vlm.reader.look(vlm.reader.read(ASKED, [PICTURE.size]), [PICTURE])[0]._replace(
                    plan=plan, views=KIND.look(preset.settings, plan, PICTURE)
                )
            ]
        )
        (tokens,) = small.connector([features], [], None)
    assert (len(features), len(tokens)) == (2, 5)


def authors_tower(state, x, heads):
    """mPLUG-Owl's vision model, written from its description: qkv by head, LayerNorms with 1e-6, QuickGELU."""

    def linear(name, y):
        return F.linear(y, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, y):
        return F.layer_norm(y, y.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    x = F.conv2d(x, state["embeddings.patch_embed.weight"], stride=14).flatten(2).transpose(1, 2)
    x = (
        torch.cat([state["embeddings.cls_token"].expand(len(x), 1, -1), x], dim=1)
        + state["embeddings.position_embedding"]
    )
    x = norm("embeddings.pre_layernorm", x)
    for n in range(2):
        block = f"encoder.layers.{n}."
        y = linear(f"{block}self_attn.query_key_value", norm(f"{block}input_layernorm", x))
        q, k, v = y.reshape(*y.shape[:2], heads, 3, -1).permute(3, 0, 2, 1, 4)
        y = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + linear(f"{block}self_attn.dense", y.transpose(1, 2).flatten(2))
        y = linear(f"{block}mlp.fc1", norm(f"{block}post_attention_layernorm", x))
        x = x + linear(f"{block}mlp.fc2", y * torch.sigmoid(1.702 * y))
    return norm("post_layernorm", x)


def published_tower():
    torch.manual_seed(0)
    shapes = {
        "embeddings.cls_token": (1, 1, 32),
        "embeddings.position_embedding": (1, 5, 32),
        "embeddings.patch_embed.weight": (32, 3, 14, 14),
    }
    norms = ["embeddings.pre_layernorm", "post_layernorm"]
    for n in range(2):
        block = f"encoder.layers.{n}."
        norms += [f"{block}input_layernorm", f"{block}post_attention_layernorm"]
        for name, (rows, columns) in {
            "self_attn.query_key_value": (96, 32),
            "self_attn.dense": (32, 32),
            "mlp.fc1": (64, 32),
            "mlp.fc2": (32, 64),
        }.items():
            shapes |= {f"{block}{name}.weight": (rows, columns), f"{block}{name}.bias": (rows,)}
    shapes |= {f"{name}.{kind}": (32,) for name in norms for kind in ("weight", "bias")}
    return {key: torch.randn(shape) * 0.3 for key, shape in shapes.items()}


def test_the_tower_computes_what_the_authors_does():
    tower, state = build("mplug_owl").model.vision_tower, published_tower()
    load_state(tower, owl_clip_keys(state, 2), "the tower")
    views = torch.randn(3, 3, 28, 28)
    with torch.no_grad():
        features = super(type(tower), tower).forward(views)
    torch.testing.assert_close(features, authors_tower(state, views, 2), atol=2e-5, rtol=1e-4)
    with pytest.raises(VistuneError, match="surprise"):
        owl_clip_keys(state | {"surprise": views}, 2)


def test_a_published_clip_loads_at_another_resolution(tmp_path):
    vlm = build("mplug_owl", "tiny-2", seed=5)
    config = CLIPVisionConfig(**vlm.preset.settings.vision | {"image_size": 42, "layer_norm_eps": 1e-5})
    torch.manual_seed(0)
    clip = CLIPVisionModel(config)
    clip.embeddings.position_embedding.weight.data[1:] = 0.5
    clip.save_pretrained(tmp_path)
    tower = build("mplug_owl", "tiny-2", vision=str(tmp_path)).model.vision_tower.model
    positions = tower.embeddings.position_embedding.weight
    assert len(positions) == 5
    torch.testing.assert_close(positions[1:], torch.full((4, 32), 0.5))
    fc1 = "encoder.layers.1.mlp.fc1.weight"
    assert torch.equal(tower.get_parameter(fc1), clip.get_parameter(fc1))
    assert tower.post_layernorm.eps == 1e-6


def published(vlm, version):
    """A checkpoint in the authors' layout, its language model and abstractor those of `vlm`."""
    top = {1: "", 2: "model."}[version]
    abstractor = {1: "abstractor.", 2: "model.visual_abstractor."}[version]
    state = {f"{top}vision_model.{key}": tensor for key, tensor in published_tower().items()}
    names = {
        "query_norm": "norm1",
        "feature_norm": "normk",
        "attention.out": "output.out_proj",
        "mlp_norm": "output.norm2",
        "mlp.gate": "output.mlp.w1",
        "mlp.down": "output.mlp.w2",
        "mlp.up": "output.mlp.w3",
        "mlp.norm": "output.mlp.ffn_ln",
    }
    for key, tensor in vlm.model.connector.abstractor.state_dict().items():
        if key == "queries":
            state["query_tokens" if version == 1 else f"{abstractor}query_embeds"] = tensor
        elif key == "end":
            state[f"{abstractor}vit_eos"] = tensor
        elif key.startswith("project."):
            state[f"{abstractor}visual_fc.{key.removeprefix('project.')}"] = tensor
        else:
            _, n, name = key.split(".", 2)
            stem, _, kind = name.rpartition(".")
            state[f"{abstractor}encoder.layers.{n}.crossattention.{names.get(stem, stem)}.{kind}"] = tensor
    for key, tensor in vlm.model.language_model.state_dict().items():
        name = key.replace(".text.", ".multiway.0.").replace(".visual.", ".multiway.1.")
        state[f"language_model.{key}" if version == 1 else name] = tensor
    constant = "language_model.model.layers.0" if version == 1 else "model.layers.0"
    state[f"{constant}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    if version == 2:
        for kind in "qk":
            name = f"{abstractor}encoder.layers.0.crossattention.attention.{kind}_pos_embed"
            state[name] = torch.ones(4, 32)
    return {key: tensor.clone().contiguous() for key, tensor in state.items()}


@BOTH
def test_the_authors_checkpoints_load(preset, tmp_path):
    vlm = build("mplug_owl", preset, seed=3)
    state = published(vlm, vlm.preset.settings.version)
    save_file(state, tmp_path / "model.safetensors")
    loaded = load_original(tmp_path, "mplug_owl", preset, tokenizer=vlm.reader.tokenizer).model.state_dict()
    for key, tensor in vlm.model.state_dict().items():
        assert key.startswith("vision_tower.") or torch.equal(loaded[key], tensor), key
    gone = next(key for key in state if key.endswith("vit_eos"))
    del state[gone]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 missing \(connector\.abstractor\.end\)"):
        load_original(tmp_path, "mplug_owl", preset, tokenizer=vlm.reader.tokenizer)
    save_file(state | {"surprise": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 unexpected \(surprise\)"):
        load_original(tmp_path, "mplug_owl", preset, tokenizer=vlm.reader.tokenizer)
