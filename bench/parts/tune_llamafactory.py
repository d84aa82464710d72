"""LLaMA-Factory's fine-tuning on a job of the tune bench: run by the interpreter of an environment that has it.

python bench/parts/tune_llamafactory.py JOB prints one JSON line: the processor time at the end of every step, its loss
and its real tokens. What differs from LLaMA-Factory's defaults: our chat template in its own words, no gradient
checkpointing, float32, no truncation, the connector trains, the learning rates of ours, samples in the given order.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import torch
import transformers
from llamafactory.data.formatter import EmptyFormatter, StringFormatter
from llamafactory.data.mm_plugin import get_mm_plugin
from llamafactory.data.template import register_template
from llamafactory.extras.env import VERSION
from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer
from llamafactory.train.tuner import run_exp
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

LONGEST = 4096


class Clock(TrainerCallback):
    def __init__(self):
        self.times = []

    def on_step_end(self, *_, **__):
        self.times.append(time.process_time())


def share_gpt(folder, rows):
    """The samples as LLaMA-Factory reads them, with the file that says so."""
    folder.mkdir(exist_ok=True)
    talks = []
    for row in rows:
        (asked,), (answered,) = row["prompt"], row["completion"]
        question = "<image>\n" * len(row["images"]) + asked["content"]
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answered["content"]}]
        talks.append({"conversations": turns, "images": row["images"]})
    (folder / "rows.json").write_text(json.dumps(talks))
    columns = {"messages": "conversations", "images": "images"}
    known = {"bench": {"file_name": "rows.json", "formatting": "sharegpt", "columns": columns}}
    (folder / "dataset_info.json").write_text(json.dumps(known))


def readable(model, copy):
    """The model with the names that transformers 5.6 knows, which LLaMA-Factory allows at most: transformers 5.23 saves
    those of the language model with its inner name, and an older one would take all of them for missing."""
    shutil.copytree(model, copy, dirs_exist_ok=True)
    state = load_file(model / "model.safetensors")
    renamed = {key.replace("language_model.model.", "language_model."): tensor for key, tensor in state.items()}
    save_file(renamed, copy / "model.safetensors", {"format": "pt"})
    return copy


def observe(job):
    """Lists of losses, real tokens and places that grow with every step."""
    losses, tokens, places = [], [], []
    plain = CustomSeq2SeqTrainer.compute_loss

    def compute_loss(self, model, inputs, *args, **kwargs):
        tokens.append(int(inputs["attention_mask"].sum()))
        places.append(inputs["attention_mask"].numel())
        loss = plain(self, model, inputs, *args, **kwargs)
        losses.append(float(loss.detach()))
        return loss

    def create_scheduler(self, num_training_steps, optimizer=None):
        factors = [*job["factors"], 0.0]
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factors.__getitem__)
        return self.lr_scheduler

    def keep(self, **_):
        batches = [batch for batch, _ in zip(self.get_train_dataloader(), range(2), strict=False)]
        torch.save([dict(batch) for batch in batches], job["inputs"])
        raise SystemExit

    CustomSeq2SeqTrainer.compute_loss = compute_loss
    CustomSeq2SeqTrainer.create_scheduler = create_scheduler
    if job["inputs"]:
        CustomSeq2SeqTrainer.train = keep
    return losses, tokens, places


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(job["folder"])
    share_gpt(folder / "llamafactory", json.loads((folder / "rows.json").read_text()))
    register_template(
        name="bench",
        format_user=StringFormatter(slots=["<|im_start|>user\n{{content}}<|im_end|>\n<|im_start|>assistant\n"]),
        format_assistant=StringFormatter(slots=["{{content}}<|im_end|>"]),
        format_prefix=EmptyFormatter(slots=[{"bos_token"}]),
        mm_plugin=get_mm_plugin(name="llava", image_token="<image>"),
    )
    losses, tokens, places = observe(job)
    clock = Clock()
    settings = {
        "model_name_or_path": str(readable(folder / "model", folder / "llamafactory" / "model")),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "freeze_multi_modal_projector": False,
        "dataset_dir": str(folder / "llamafactory"),
        "dataset": "bench",
        "template": "bench",
        "cutoff_len": LONGEST,
        "disable_shuffling": True,
        "output_dir": str(folder / "llamafactory" / "out"),
        "use_cpu": True,
        "bf16": False,
        "flash_attn": "sdpa",
        "disable_gradient_checkpointing": True,
        "per_device_train_batch_size": job["batch"],
        "max_steps": job["steps"],
        "learning_rate": job["rate"],
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    CustomSeq2SeqTrainer.save_model = lambda *_, **__: None
    run_exp(settings, [clock])
    found = {"times": clock.times, "losses": losses, "tokens": tokens, "places": places}
    versions = {"llamafactory": VERSION, "transformers": transformers.__version__, "torch": torch.__version__}
    print(json.dumps({**found, "versions": versions}))


if __name__ == "__main__":
    main()
