"""TRL's SFTTrainer on a job of the tune bench: run by the interpreter of an environment that has it.

python bench/parts/tune_trl.py JOB prints one JSON line: the processor time at the end of every step, its loss and its
real tokens. What differs from TRL's defaults: no gradient checkpointing, float32, no truncation, the frozen tower and
the learning rates of ours, samples in the given order. With "labelled", the head skips positions without a label, as
TRL does on a GPU and not on a CPU; with "grouped", samples of like length share a batch.
"""

import json
import sys
import time
from pathlib import Path

import torch
import transformers
import trl
from datasets import Dataset, List
from datasets import Image as Picture
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback


class Clock(TrainerCallback):
    def __init__(self):
        self.times = []

    def on_step_end(self, *_, **__):
        self.times.append(time.process_time())


class Trainer(trl.SFTTrainer):
    factors: list[float]

    def create_scheduler(self, num_training_steps, optimizer=None):
        factors = [*self.factors, 0.0]
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factors.__getitem__)
        return self.lr_scheduler

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.tokens.append(int(inputs["attention_mask"].sum()))
        self.places.append(inputs["attention_mask"].numel())
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        self.losses.append(float(loss.detach()))
        return loss


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(job["folder"])
    if job["labelled"]:
        trl.trainer.utils._use_triton = lambda device: True  # only decides there which positions are scored
    rows = json.loads((folder / "rows.json").read_text())
    data = Dataset.from_list([{**row, "length": n} for row, n in zip(rows, job["lengths"], strict=True)])
    data = data.cast_column("images", List(Picture()))
    model = AutoModelForImageTextToText.from_pretrained(folder / "model", dtype=torch.float32)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("model.vision_tower."))
    settings = trl.SFTConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        max_length=None,
        gradient_checkpointing=False,
        per_device_train_batch_size=job["batch"],
        max_steps=job["steps"],
        learning_rate=job["rate"],
        train_sampling_strategy="group_by_length" if job["grouped"] else "sequential",
        remove_unused_columns=not job["grouped"],  # it would remove the lengths
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    clock = Clock()
    Trainer.factors, Trainer.tokens, Trainer.places, Trainer.losses = job["factors"], [], [], []
    trainer = Trainer(
        model=model,
        args=settings,
        processing_class=AutoProcessor.from_pretrained(folder / "model"),
        train_dataset=data,
        callbacks=[clock],
    )
    if job["inputs"]:
        batches = [batch for batch, _ in zip(trainer.get_train_dataloader(), range(2), strict=False)]
        torch.save([dict(batch) for batch in batches], job["inputs"])
        return
    trainer.train()
    found = {"times": clock.times, "losses": trainer.losses, "tokens": trainer.tokens, "places": trainer.places}
    versions = {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    print(json.dumps({**found, "versions": versions}))


if __name__ == "__main__":
    main()
