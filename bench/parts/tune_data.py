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


def sample(n: int, question: str, answer: str, images: tuple[Any, ...]) -> Any:
    """The nth sample, about the images (ImageRef) if there are any."""
    from vistune.records import Lineage, Message, Sample, conversation

    asked, answered = conversation([(question, answer)])
    return Sample(
        id=f"vt1:{n:06d}",
        dataset="mix",
        split="train",
        task="conversation",
        method="adapt",
        instruction=question,
        input="",
        response=answer,
        messages=(asked if images else Message("user", question), answered),
        images=images,
        lineage=Lineage(f"mix/{n}", (), ()),
        licence="CC0-1.0",
        group=str(n),
    )


def noise(release: Path, n: int, size: tuple[int, int]) -> Any:
    """The ImageRef of a smooth picture drawn from n, of so many pixels, in the store of `release`."""
    from PIL import Image

    from vistune import store

    path = release / f"incoming/{n}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        coarse = Image.frombytes("RGB", (8, 6), random.Random(n).randbytes(8 * 6 * 3))
        coarse.resize(size, Image.Resampling.BICUBIC).save(path)
    return store.add_image(release, path, store.describe_image(release, f"incoming/{n}.png"))


def write(folder: Path, count: int) -> Path:
    """folder/model, with processor and tokenizer; folder/release with samples and pictures, which ours reads;
    folder/rows.json with the same, which TRL reads."""
    from transformers import AutoProcessor

    from vistune import store

    vlm().save(folder / "model")
    processor = AutoProcessor.from_pretrained(folder / "model")
    processor.chat_template = CHATML
    processor.save_pretrained(folder / "model")
    release = folder / "release"
    samples, rows = [], []
    for n, (question, answer, shown) in enumerate(texts(count)):
        images = (noise(release, n, (80, 60)),) if shown else ()
        samples.append(sample(n, question, answer, images))
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
