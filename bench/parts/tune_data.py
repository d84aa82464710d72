"""The tiny LLaVA and the samples that both trainers of the tune bench read. Nothing is downloaded."""

import json
import random
from pathlib import Path
from typing import Any

VOCABULARY = 32_064
WITH_IMAGE = 0.88
MEDIAN, SPREAD = 60, 0.7
"""Of the text of a sample, in tokens: log-normal. Every other token of it is an answer's."""
TEMPLATE = 22
"""Tokens of the template around question and answer, of the 60."""
LONGEST = 1_000
LETTERS = "abcdefghijklmnopqrstuvwxyz "

CHATML = (
    "{{ bos_token }}{% for message in messages %}{% if not loop.first %}{{ '\\n' }}{% endif %}<|im_start|>"
    "{{ message.role }}\n"
    "{% for piece in message.content %}{% if piece.type == 'image' %}<image>\n{% else %}{{ piece.text }}{% endif %}"
    "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}{{ '\\n' }}<|im_start|>assistant\n{% endif %}"
)
"""Our template `chatml` as transformers writes templates."""

TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
VISION: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 56,
    "projection_dim": 64,
}


def vlm() -> Any:
    """LLaVA of 9.2 million parameters with random weights: CLIP of 56 pixels, so 16 tokens a picture; Llama of 4
    layers of 128 channels; a vocabulary of 32,064, of which a tokenizer of one token a byte uses the first."""
    from dataclasses import replace

    import torch

    from vistune.models import family
    from vistune.models.encoders.sizes import tiny_clip
    from vistune.models.families.llava import Settings
    from vistune.models.reader import Reader, prepared
    from vistune.models.tiny import tiny_text, tokenizer_for
    from vistune.models.vlm import Vlm, drawn

    llava = family("llava")
    text = tiny_text(vocab_size=VOCABULARY, **TEXT)
    settings = Settings({**tiny_clip(28, 2), **VISION})
    preset = replace(llava.preset("tiny"), settings=settings, text=text, template="chatml")
    tokenizer = prepared(tokenizer_for(preset), preset)
    torch.manual_seed(0)
    return Vlm(drawn(llava, preset, tokenizer, text), Reader(llava, preset, tokenizer))


def texts(count: int) -> list[tuple[str, str, bool]]:
    """Question, answer, and whether the sample shows a picture."""
    rng, found = random.Random(0), []
    for _ in range(count):
        length = min(round(MEDIAN * 2.718281828 ** rng.gauss(0, SPREAD)), LONGEST)
        free = max(length - TEMPLATE, 8)
        question, answer = (
            "".join(rng.choices(LETTERS, k=k - 2)).join(rng.choices(LETTERS[:26], k=2))
            for k in (free - free // 2, free // 2)
        )
        found.append((question, answer, rng.random() < WITH_IMAGE))
    return found


def write(folder: Path, count: int) -> Path:
    """folder/model, with processor and tokenizer; folder/release with samples and pictures, which ours reads;
    folder/rows.json with the same, which TRL reads."""
    from PIL import Image
    from transformers import AutoProcessor

    from vistune import store
    from vistune.records import ImageRef, Lineage, Message, Sample, conversation

    vlm().save(folder / "model")
    processor = AutoProcessor.from_pretrained(folder / "model")
    processor.chat_template = CHATML
    processor.save_pretrained(folder / "model")
    release = folder / "release"
    (release / "incoming").mkdir(parents=True)
    samples, rows = [], []
    for n, (question, answer, shown) in enumerate(texts(count)):
        asked = conversation([(question, answer)])
        images: tuple[ImageRef, ...] = ()
        if shown:
            noise = Image.frombytes("RGB", (8, 6), random.Random(n).randbytes(8 * 6 * 3))
            noise.resize((80, 60), Image.Resampling.BICUBIC).save(release / f"incoming/{n}.png")
            described = store.describe_image(release, f"incoming/{n}.png")
            images = (store.add_image(release, release / f"incoming/{n}.png", described),)
        samples.append(
            Sample(
                id=f"vt1:{n:06d}",
                dataset="mix",
                split="train",
                task="conversation",
                method="adapt",
                instruction=question,
                input="",
                response=answer,
                messages=asked if shown else (Message("user", question), asked[1]),
                images=images,
                lineage=Lineage(f"mix/{n}", (), ()),
                licence="CC0-1.0",
                group=str(n),
            )
        )
        rows.append(
            {
                "prompt": [{"role": "user", "content": question}],
                "completion": [{"role": "assistant", "content": answer}],
                "images": [str(release / image.path) for image in images],
            }
        )
    store.write_samples(release, samples)
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder
