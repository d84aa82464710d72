"""LLaVA-UHD: slices and their separators, regions, what is trained when, and the authors' checkpoint."""

import re
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from vistune.errors import VistuneError
from vistune.models import family
from vistune.models.connectors.roi_resampler import RoIResampler
from vistune.models.families.base import at_stage
from vistune.models.labels import IGNORE
from vistune.models.reader import Reader
from vistune.models.tiny import tokenizer_for
from vistune.models.vlm import build, load_original
from vistune.records import Message

KIND = family("llava_uhd")
PRESET = KIND.preset("llava-uhd-144-13b")
TINY = KIND.preset("tiny")


def asked(*images):
    return [Message("user", "What is it?", images), Message("assistant", "A dog.")]


def at(name, preset=PRESET):
    """The reader of a stage."""
    stage = next(stage for stage in preset.stages if stage.name == name)
    return Reader(KIND, at_stage(preset, stage), tokenizer_for(preset))


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        ((336, 336), 144),
        ((448, 448), 434),
        ((640, 480), 724),
        ((800, 600), 1014),
        ((1024, 512), 1014),
        ((448, 1344), 869),
        ((1024, 1024), 1014),
        ((3000, 500), 1014),
    ],
)
def test_tokens_in_training(size, tokens):
    reader = at("instruct")
    assert len(reader.picture(reader.plan(*size))) == tokens
    assert reader.length(asked(0), [size]) - tokens == reader.length(asked(0), [(336, 336)]) - 144


def test_evaluation_enlarges_and_the_first_stage_never_slices():
    evaluated, aligned = Reader(KIND, PRESET, tokenizer_for(PRESET)), at("align")
    assert len(evaluated.picture(evaluated.plan(336, 336))) == 1014
    assert len(evaluated.picture(evaluated.plan(448, 1344))) == 579
    assert len(aligned.picture(aligned.plan(448, 1344))) == 144
    assert aligned.template is not evaluated.template


def test_slices_come_before_the_overview_and_separators_are_never_learned():
    reader = at("instruct", TINY)
    plan = reader.plan(80, 60)
    assert (plan.grid, plan.layout) == ((2, 1), (0, ",", 1, "\n", 2))
    assert [view.kind for view in plan.views] == ["slice", "slice", "overview"]
    reading = reader.read(asked(0), [(80, 60)])
    start, end = reading.spans[0]
    shown = [reader.tokenizer.decode([t]) for t in reading.ids[start:end] if t != reader.placeholder]
    assert shown == [",", "\n"]
    assert end - start == 3 * 16 + 2
    assert set(reading.labels[:end]) == {IGNORE}


def test_separators_are_tokens_within_a_text():
    """Llama's tokenizer writes a blank before a text, so "," alone would be another token, and a newline two."""
    words = ["<unk>", "<s>", "</s>", "<0x0A>", "▁", ",", "▁,", "a", "▁a", "<image>"]
    backend = Tokenizer(models.BPE({w: n for n, w in enumerate(words)}, [("▁", ","), ("▁", "a")], byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    assert [tokenizer.encode(text, add_special_tokens=False) for text in (",", "\n")] == [[6], [4, 3]]
    reader = Reader(KIND, at_stage(TINY, TINY.stages[1]), tokenizer)
    assert reader.picture(reader.plan(80, 60)).count(9) == 3 * 16
    assert [t for t in reader.picture(reader.plan(80, 60)) if t != 9] == [5, 3]


def test_published_sizes(role_sizes):
    large, small = (role_sizes("llava_uhd", f"llava-uhd-144-{size}") for size in ("13b", "7b"))
    assert (large["connector"], large["positions"]) == (137_103_360, 737_280)
    assert small["connector"] == 88_711_168
    # CLIP-L at 336 pixels without what state -2 does not read: its last block and last LayerNorm.
    assert large["vision"] == 303_507_456 - 12_596_224 - 2_048


def test_a_query_reads_its_own_region():
    vlm = build("llava_uhd")
    assert isinstance(vlm.model.connector.resampler, RoIResampler)
    with torch.no_grad():
        maps = torch.randn(4, 4, 32)
        (before,) = vlm.model.connector.resample(maps[None])
        maps[3, 3] += 1
        (after,) = vlm.model.connector.resample(maps[None])
    changed = (before != after).any(1).unflatten(0, (4, 4))
    assert changed[3, 3] and not changed[:2].any() and not changed[:, :2].any()


def test_positions_are_trained_in_the_first_stage_only():
    """They are declared fixed, but the authors' first stage unfreezes the whole connector."""
    align, instruct = PRESET.stages
    assert build("llava_uhd").roles()["positions"] == ["connector.resampler.positions"]
    assert "positions" in align.rates and "positions" not in instruct.rates
    assert "vision" not in align.rates | instruct.rates


def published(vlm):
    """The model's weights under their authors' names."""
    names = [
        (r"vision_tower\.encoder\.model\.", "model.vision_tower.vision_tower.vision_model."),
        (r"language_model\.(model\.|lm_head)", r"\1"),
        (r"connector\.resampler\.queries", "model.mm_projector.query"),
        (r"connector\.resampler\.positions", "model.mm_projector.pos_embed"),
        (r"connector\.resampler\.inputs", "model.mm_projector.kv_proj"),
        (r"connector\.resampler\.query_norm", "model.mm_projector.ln_q"),
        (r"connector\.resampler\.input_norm", "model.mm_projector.ln_kv"),
        (r"connector\.resampler\.post_norm", "model.mm_projector.ln_post"),
        (r"connector\.resampler\.attention\.out", "model.mm_projector.attn.out_proj"),
    ]
    state = {}
    for key, tensor in vlm.model.state_dict().items():
        new = next((re.sub(old, new, key) for old, new in names if re.match(old, key)), None)
        state |= {new: tensor} if new else {}
    ours = vlm.model.connector.resampler.state_dict()
    for kind in ("weight", "bias"):
        parts = [ours[f"attention.{part}.{kind}"] for part in ("query", "key", "value")]
        state[f"model.mm_projector.attn.in_proj_{kind}"] = torch.cat(parts)
    state["model.mm_projector.proj"] = ours["project.weight"].T
    state["model.vision_tower.vision_tower.vision_model.post_layernorm.weight"] = torch.ones(32)
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    return {key: tensor.clone().contiguous() for key, tensor in state.items()}


def test_the_authors_checkpoint(tmp_path):
    theirs = build("llava_uhd", seed=1)
    torch.nn.init.normal_(theirs.model.connector.resampler.positions)  # as if trained
    tokenizer = theirs.reader.tokenizer
    state = published(theirs)
    save_file(state, tmp_path / "model.safetensors")
    found = load_original(tmp_path, "llava_uhd", "tiny", tokenizer=tokenizer).model.state_dict()
    assert all(torch.equal(tensor, found[key]) for key, tensor in theirs.model.state_dict().items())
    save_file(state | {"model.mm_projector.extra": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 unexpected \(extra\)"):
        load_original(tmp_path, "llava_uhd", "tiny", tokenizer=tokenizer)


def test_a_checkpoint_without_the_tower_takes_stock_clip(tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModel

    theirs = build("llava_uhd", seed=1)
    state = {key: tensor for key, tensor in published(theirs).items() if "vision_tower" not in key}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"missing \(vision_tower"):
        load_original(tmp_path, "llava_uhd", "tiny", tokenizer=theirs.reader.tokenizer)
    clip = CLIPVisionModel(CLIPVisionConfig(**TINY.settings.vision))
    clip.config.save_pretrained(tmp_path / "clip")
    weights = {f"vision_model.{key}": tensor for key, tensor in clip.state_dict().items()}  # as on the hub
    save_file(weights, tmp_path / "clip" / "model.safetensors", metadata={"format": "pt"})
    found = load_original(
        tmp_path, "llava_uhd", "tiny", tokenizer=theirs.reader.tokenizer, vision=str(tmp_path / "clip")
    )
    assert torch.equal(found.model.vision_tower.encoder.model.pre_layrnorm.weight, clip.pre_layrnorm.weight)
    patches = found.model.vision_tower.encoder.model.embeddings.patch_embedding.weight
    assert torch.equal(patches, clip.embeddings.patch_embedding.weight)


def test_the_papers_queries_read_the_whole_view():
    preset = KIND.preset("llava-uhd-64-13b")
    reader = Reader(KIND, replace(preset, settings=replace(preset.settings, long_side=0)), tokenizer_for(preset))
    assert reader.plan(800, 600).tokens == 64 * 7  # at most 6 slices, and the overview
    assert not isinstance(KIND.parts(replace(TINY.settings, reads="view"), Text)[1].resampler, RoIResampler)


class Text:
    hidden_size = 32


def test_views_of_one_size_are_seen_as_one_batch():
    vlm, seen = build("llava_uhd"), []
    vlm.reader = at("instruct", TINY)
    vlm.model.vision_tower.encoder.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    picture = Image.radial_gradient("L").resize((80, 60)).convert("RGB")
    vlm.model(**vlm.inputs([asked(0), asked(0)], [[picture]] * 2))
    assert [shape[0] for shape in seen] == [4, 2]  # two slices and an overview of each picture
