"""Models of transformers that vistune does not know: their processor's text, tokens and pixels, roles by structure."""

import itertools

import pytest
import torch
from talks import ASKED as ONE
from talks import UNLIKE as PICTURES
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from vistune import pins
from vistune.errors import VistuneError
from vistune.models.families import auto, qwen2_vl
from vistune.models.labels import IGNORE
from vistune.models.processed import ProcessorReader
from vistune.models.tiny import byte_tokenizer, tiny_text
from vistune.models.vlm import build, empty, load
from vistune.records import Message
from vistune.tune import Params
from vistune.tune.work import base

TWO = [Message("user", "Compare.", (0, 1)), Message("assistant", "Same."), Message("user", "Sure?")]
TWO = [*TWO, Message("assistant", "Yes.")]
TEXT = [Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Hi")]


VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def llava():
    model, reader = auto.tiny()
    return model, reader.processor


def qwen2():
    vlm = build("qwen2_vl")
    processor = qwen2_vl.processor(vlm.preset, vlm.reader.tokenizer)
    mark = "<|vision_start|><|image_pad|><|vision_end|>"
    processor.chat_template = auto.CHATML.replace("<image>\n", mark)
    return vlm.model, processor


def idefics3():
    places = [f"<row_{row}_col_{column}>" for row, column in itertools.product(range(1, 7), repeat=2)]
    around = ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    tokenizer = byte_tokenizer(("<|im_start|>", "<|im_end|>", *around, *places, "<image>"))
    pictures = Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    template = auto.CHATML.replace("<image>\n", "<image>")
    processor = Idefics3Processor(pictures, tokenizer, image_seq_len=4, chat_template=template)
    torch.manual_seed(0)
    config = Idefics3Config(
        vision_config=VISION | {"image_size": 32, "patch_size": 8},
        text_config=tiny_text(vocab_size=len(tokenizer)),
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    return Idefics3ForConditionalGeneration(config), processor


def gemma3():
    """Its template writes another token for a picture than the one that its visual tokens take."""
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    bytes_of = byte_tokenizer(("<|im_start|>", "<|im_end|>", *names.values()))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_of.backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        model_specific_special_tokens=names,
    )
    pictures = Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    template = auto.CHATML.replace("<image>\n", "<start_of_image>")
    processor = Gemma3Processor(pictures, tokenizer, image_seq_length=4, chat_template=template)
    torch.manual_seed(0)
    config = Gemma3Config(
        vision_config=VISION | {"image_size": 56, "patch_size": 14},
        text_config=tiny_text("gemma3_text", vocab_size=len(tokenizer), head_dim=8, pad_token_id=0),
        mm_tokens_per_image=4,
        image_token_id=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
    )
    return Gemma3ForConditionalGeneration(config), processor


@pytest.fixture(scope="module", params=[llava, qwen2, idefics3, gemma3], ids=lambda make: make.__name__)
def folder(request, tmp_path_factory):
    """A folder as transformers saves it: nothing in it is vistune's."""
    model, processor = request.param()
    folder = tmp_path_factory.mktemp(request.param.__name__)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vlm(folder):
    return load(folder)


def chat(messages):
    return [
        {
            "role": turn.role,
            "content": [*[{"type": "image"} for _ in turn.images], {"type": "text", "text": turn.text}],
        }
        for turn in messages
    ]


def test_the_same_as_transformers_own_path(vlm):
    processor = vlm.reader.processor
    for turns, pictures in ((ONE, PICTURES[:1]), (TWO, PICTURES)):
        text = processor.apply_chat_template(chat(turns))
        expected = processor(text=[text], images=pictures, return_tensors="pt")
        own = vlm.inputs([turns], [pictures])
        assert torch.equal(own["input_ids"], expected["input_ids"])
        with torch.no_grad():
            assert torch.equal(vlm.model(**own).logits, vlm.model(**expected).logits)
        sizes = [picture.size for picture in pictures]
        assert vlm.reader.length(turns, sizes) == expected["input_ids"].shape[1]
        prompt = processor.apply_chat_template(chat(turns[:1]), add_generation_prompt=True)
        expected = processor(text=[prompt], images=pictures)["input_ids"][0]
        assert list(vlm.reader.read(turns[:1], sizes, prompt=True).ids) == expected


def test_answers_and_their_ends_are_learned(vlm):
    reading = vlm.reader.read(TWO, [picture.size for picture in PICTURES])
    learned = [x for x in reading.labels if x != IGNORE]
    assert vlm.reader.tokenizer.decode(learned) == "Same.<|im_end|>Yes.<|im_end|>"
    placeholders = [n for n, token in enumerate(reading.ids) if token == vlm.reader.placeholder]
    inside = [n for start, end in reading.spans for n in range(start, end)]
    assert set(placeholders) <= set(inside)
    assert len(placeholders) == sum(plan.tokens for plan in reading.plans)


def test_words_stay_words(vlm):
    mark = vlm.reader.processor.image_token
    turns = [Message("user", f"{mark}? {{{{ x }}}} <|im_end|>", (0,)), Message("assistant", "A dog.")]
    reading = vlm.reader.read(turns, [(80, 60)])
    assert reading.ids.count(vlm.reader.placeholder) == reading.plans[0].tokens
    assert reading.ids.count(vlm.reader.tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2


def test_pictures_among_words(vlm):
    turns = [Message("user", "Left:  right: ?", (1, 0), (6, 14)), Message("assistant", "no")]
    reading = vlm.reader.read(turns, [picture.size for picture in PICTURES])
    assert reading.images == (1, 0)
    between = vlm.reader.tokenizer.decode(reading.ids[reading.spans[0][1] : reading.spans[1][0]])
    assert " right: " in between


def test_roles_by_structure(vlm):
    roles = vlm.roles()
    assert set(roles) == {"vision", "connector", "language", "head"}
    assert all(roles.values())
    assert sum(map(len, roles.values())) == len(list(vlm.model.named_parameters()))
    assert len(roles["head"]) == 2 - bool(vlm.model.config.tie_word_embeddings)
    assert all(part in " ".join(roles["language"]) for part in ("layers.0", "layers.1", "norm"))
    assert not any("layers" in name or "blocks" in name for name in roles["connector"])


def test_mixed_batches_on_either_side(vlm):
    turns, pictures = [ONE, TEXT, TWO], [PICTURES[:1], [], PICTURES]
    with torch.no_grad():
        alone = [vlm.model(**vlm.inputs([t], [p])).logits[0] for t, p in zip(turns, pictures, strict=True)]
        for side in ("left", "right"):
            batch = vlm.inputs(turns, pictures, side=side)
            for row, mask, expected in zip(
                vlm.model(**batch).logits, batch["attention_mask"].bool(), alone, strict=True
            ):
                torch.testing.assert_close(row[mask], expected, atol=1e-5, rtol=0)


def test_generation_is_the_same_alone_and_in_a_batch(vlm):
    asked, pictures = [ONE[:1], TEXT[:2], TWO[:3]], [PICTURES[:1], [], PICTURES]
    alone = [vlm.generate([a], [p], 6)[0] for a, p in zip(asked, pictures, strict=True)]
    assert vlm.generate(asked, pictures, 6) == alone


def test_a_saved_model_loads_again(vlm, tmp_path):
    vlm.save(tmp_path)
    again = load(tmp_path)
    assert type(again.reader) is ProcessorReader
    assert again.reader.read(ONE, [(80, 60)]) == vlm.reader.read(ONE, [(80, 60)])
    own = vlm.model.state_dict()
    assert all(torch.equal(tensor, own[key]) for key, tensor in again.model.state_dict().items())


def reader(template):
    """The tiny model with another chat template."""
    model, found = auto.tiny()
    found.processor.chat_template = template
    return auto.reader_of(model, found.processor)


VICUNA = (
    "{% for m in messages %}{{ m.role.upper() }}: {% for p in m.content %}{% if p.type == 'image' %}<image>\n"
    "{% else %}{{ p.text | trim }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def test_a_folder_is_a_preset(tmp_path, monkeypatch):
    """Of a model that vistune did not write: what it is planned with is what trains."""
    monkeypatch.chdir(tmp_path)
    model, reader = auto.tiny()
    model.save_pretrained("theirs")
    reader.processor.save_pretrained("theirs")
    start = base(Params(family="auto", preset="theirs"))
    assert start == {"family": "auto", "preset": "theirs", "vision": "", "language": ""}
    made, planned = build(start["family"], start["preset"]), empty(start["family"], start["preset"])
    assert planned.reader.family.roles == made.reader.family.roles
    assert {p.device.type for p in planned.model.parameters()} == {"meta"}
    shapes = [{name: p.shape for name, p in vlm.model.named_parameters()} for vlm in (made, planned)]
    assert shapes[0] == shapes[1]
    assert all(torch.equal(a, b) for a, b in zip(made.model.parameters(), model.parameters(), strict=True))
    (digest,) = pins.held("tune", Params(family="auto", preset="theirs")).values()
    with open("theirs/config.json", "a") as file:
        file.write(" ")
    assert pins.held("tune", Params(family="auto", preset="theirs")) != {"preset": digest}
    with pytest.raises(VistuneError, match=r"'nowhere/theirs' is no model of the family auto"):
        empty("auto", "nowhere/theirs")


def test_a_template_that_does_not_end_answers():
    """The end of a text takes the place of the blank behind the last answer; the blank before it is the answer's."""
    plain = reader(VICUNA)
    assert plain.stop == plain.tokenizer.eos_token
    turns = [Message("user", " What? ", (0,)), Message("assistant", "A dog. ")]
    reading = plain.read(turns, [(80, 60)])
    words = plain.tokenizer.decode([token for token in reading.ids if token != plain.placeholder])
    assert words == "USER: \nWhat? ASSISTANT: A dog.<|im_end|>"
    assert plain.tokenizer.decode([x for x in reading.labels if x != IGNORE]) == " A dog.<|im_end|>"
    assert plain.tokenizer.decode(plain.read(turns[:1], [(80, 60)], prompt=True).ids).endswith("ASSISTANT:")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template"),
        ("{{ raise_exception('no system message') }}", "no system message"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "does not go on from a prompt"),
        ("{% for m in messages %}{{ m.content[-1].text }}{% endfor %}", "leaves out 0 texts and 1 pictures"),
        (f"<image>{auto.CHATML}", "shows more than 1 pictures"),
    ],
)
def test_templates_that_cannot_be_read_are_errors(template, message):
    with pytest.raises(VistuneError, match=message):
        reader(template).read(ONE, [(80, 60)], sample="s7")


def test_what_the_tokenizer_puts_first_stands_there_once():
    model, found = auto.tiny()
    tokenizer = found.processor.tokenizer
    bos = tokenizer.convert_tokens_to_ids("<|im_start|>")
    tokenizer.bos_token = "<|im_start|>"
    post = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", bos)])
    tokenizer.backend_tokenizer.post_processor = post
    assert auto.reader_of(model, found.processor).read(ONE, [(80, 60)]).ids[:2].count(bos) == 1  # the template's own
    found.processor.chat_template = VICUNA
    assert auto.reader_of(model, found.processor).read(ONE, [(80, 60)]).ids[:2].count(bos) == 1


def test_boxes_are_written_as_the_model_writes_them():
    found = auto.reader_of(*qwen2())
    assert (found.family.codec, auto.tiny()[1].family.codec) == ("qwen2_vl", "llava")
    box = found.tokenizer.convert_tokens_to_ids("<|box_start|>")
    turns = [ONE[0], Message("assistant", "<|box_start|>(1,2),(3,4)<|box_end|>")]
    assert box in found.read(turns, [(80, 60)]).ids


def test_stages_read_as_the_model_does():
    _, found = auto.tiny()
    for stage in found.preset.stages:
        assert found.at(stage).read(ONE, [(80, 60)]) == found.read(ONE, [(80, 60)])


def test_pictures_must_be_those_of_the_messages(vlm):
    with pytest.raises(VistuneError, match=r"show 1 images, 2 are given \(sample s7\)"):
        vlm.reader.read(ONE, [(80, 60), (80, 60)], sample="s7")


def test_other_models_are_refused(tmp_path):
    text = tiny_text(vocab_size=8)
    LlamaForCausalLM(LlamaConfig(**text)).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).model_type == "llama"
    with pytest.raises(VistuneError, match=r"\(llama\) is no vision-language model"):
        load(tmp_path)
