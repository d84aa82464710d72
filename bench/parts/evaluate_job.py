"""What the arms of the evaluate bench are given: a LLaVA with random weights, pictures, questions, task files.

The model has the shape of LLaVA-1.5 (336 pixels, 576 visual tokens, CLIP and a Llama), small enough for a CPU core and
large enough that computing, not Python, takes the time. transformers' processor beside it writes the same prompts.
"""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

SETS = {"pope_like": (6, 18), "gqa_like": (4, 30)}  # pictures, questions about each

HOME = Path(__file__).resolve().parents[2] / ".vistune"

LONGEST = 4
"""Tokens of an answer: yes, no, one word or phrase. Random weights do not end their answers earlier."""

VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 192,
}
TEXT = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}

THINGS = ["person", "car", "dog", "cat", "chair", "cup", "bench", "umbrella", "bird", "boat", "clock", "kite", "bowl"]
PLACES = ["on the left", "on the right", "in front of the window", "behind the table", "near the door", "at the top"]

SUFFIX = "\nAnswer the question using a single word or phrase."

MARKED = '"<image>\\n{{question}}"'

TASK = """task: {name}
output_type: generate_until
custom_dataset: !function parts.evaluate_job.documents
dataset_kwargs: {{folder: {folder}, name: {name}}}
test_split: test
num_fewshot: 0
fewshot_config: {{samples: []}}
doc_to_image: !function parts.evaluate_job.{visuals}
doc_to_text: {words}
doc_to_target: answer
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: {longest}}}
process_results: !function parts.evaluate_job.equal
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1}}
"""


LMMS_TASK = """task: {name}
output_type: generate_until
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/{name}.json}}, cache_dir: {folder}/cache}}
test_split: test
num_fewshot: 0
doc_to_visual: !function functions.opened
doc_to_text: question
doc_to_target: answer
generation_kwargs: {{max_new_tokens: {longest}, do_sample: false}}
process_results: !function functions.equal
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: [{{version: 1}}]
"""


def prepare(folder: Path) -> None:
    """Writes model/, pictures/, NAME.json and the tasks of all arms."""
    from PIL import Image, ImageDraw

    from vistune.store import describe_image

    model(folder / "model")
    (folder / "pictures").mkdir()
    drawn = random.Random(0)
    for name, (pictures, questions) in SETS.items():
        rows = []
        for n in range(pictures):
            image = Image.new("RGB", (336, 336), tuple(drawn.randrange(256) for _ in range(3)))  # as the model sees it
            pen = ImageDraw.Draw(image)
            for _ in range(20):
                x, y = drawn.randrange(300), drawn.randrange(300)
                box = (x, y, x + drawn.randrange(20, 120), y + drawn.randrange(20, 120))
                pen.rectangle(box, fill=tuple(drawn.randrange(256) for _ in range(3)))
            path = f"pictures/{name}{n}.jpg"
            image.save(folder / path, quality=90)
            ref = asdict(describe_image(folder, path))
            rows += [
                {"question": text + SUFFIX, "answer": "yes", "image": ref, "folder": str(folder)}
                for text in asked(name, questions, drawn)
            ]
        (folder / f"{name}.json").write_text(json.dumps(rows))
        for arm, visuals, words in (("ours", "references", "question"), ("theirs", "opened", MARKED)):
            (folder / arm).mkdir(exist_ok=True)
            task = TASK.format(name=name, folder=folder, visuals=visuals, words=words, longest=LONGEST)
            (folder / arm / f"{name}.yaml").write_text(task)
        (folder / "lmms").mkdir(exist_ok=True)
        (folder / "lmms" / f"{name}.yaml").write_text(LMMS_TASK.format(name=name, folder=folder, longest=LONGEST))
    functions = "from parts.evaluate_job import equal, opened  # it looks for functions beside the task\n"
    (folder / "lmms" / "functions.py").write_text(functions)


def asked(name: str, count: int, drawn: random.Random) -> list[str]:
    if name == "pope_like":
        return [f"Is there a {drawn.choice(THINGS)} {n} in the image?" for n in range(count)]
    kinds = ["What is the {} {} made of?", "Which kind of {} is {}?", "Is the {} {} large or small?"]
    return [kinds[n % 3].format(drawn.choice(THINGS), drawn.choice(PLACES)) + f" ({n})" for n in range(count)]


def model(folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    from vistune.models import family
    from vistune.models.families.llava import Settings, processor
    from vistune.models.reader import Reader, prepared
    from vistune.models.vlm import Vlm, drawn
    from vistune.models.weights import resolve

    kind = family("llava")
    settings = Settings(vision=VISION)
    values = replace(kind.preset("tiny"), settings=settings, text=TEXT, template="vicuna_v1", begin=False, limit=2048)
    tokenizer = AutoTokenizer.from_pretrained(resolve("package:smollm2-135m-instruct", HOME))
    tokenizer = prepared(tokenizer, values)
    torch.manual_seed(0)
    made = drawn(kind, values, tokenizer, TEXT)
    for weights in made.parameters():
        if weights.ndim > 1:
            weights.data *= 3  # as drawn, a model says the same about everything, and its logits are close together
    made.generation_config.eos_token_id = tokenizer.eos_token_id
    reader = Reader(kind, values, tokenizer)
    Vlm(made.eval(), reader).save(folder)
    beside = processor(values, tokenizer)
    beside.chat_template = chat_template(reader)
    beside.save_pretrained(folder)


def chat_template(reader: Any) -> str:
    """Writes what our template writes around one question about one picture."""
    from vistune.records import Message

    text = reader.template.render([Message("user", "QUESTION", (0,))], prompt=True).text
    begin, _, end = text.partition("QUESTION")
    assert begin.endswith("<image>\n"), begin
    words = "messages[0].content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join | trim"
    return begin + "{{ " + words + " }}" + end


def documents(folder: str, name: str, **_: Any) -> Any:
    from datasets import Dataset

    rows = json.loads((Path(folder) / f"{name}.json").read_text())
    return {"test": Dataset.from_list(rows)}


def references(doc: dict[str, Any]) -> list[Any]:
    return [doc["image"]]


def opened(doc: dict[str, Any]) -> list[Any]:
    from PIL import Image

    return [Image.open(Path(doc["folder"]) / doc["image"]["path"]).convert("RGB")]


def equal(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    return {"exact_match": float(results[0] == doc["answer"])}
