"""One arm of the evaluate bench: python bench/parts/evaluate_arm.py ours|theirs FOLDER LIMIT [BATCH]

Prints one JSON line: processor seconds from the start of the process to the first question that a model is asked
(`start`), of lm-eval's whole `evaluate` (`evaluate`), of the process (`all`), and the answers by question.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parts.evaluate_job import SETS


def first_call(lm: Any) -> list[float]:
    """Notes when generation is first asked for."""
    when: list[float] = []
    real = lm.generate_until

    def generate_until(requests: Any) -> Any:
        when.append(time.process_time())
        return real(requests)

    lm.generate_until = generate_until
    return when


def ours(folder: Path) -> Any:
    import vistune.evaluate.lm as lm

    return lm.open_model(str(folder / "model"), "float32", log=str(folder / "log.jsonl"), images=str(folder))


def theirs(folder: Path, batch: int) -> Any:
    from lm_eval.api.registry import get_model

    settings = {"pretrained": str(folder / "model"), "dtype": "float32", "max_images": 1}
    more = {"batch_size": batch, "device": "cpu"}
    return get_model("hf-multimodal").create_from_arg_obj(settings, more)


def main() -> None:
    arm, folder, limit = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    import torch

    torch.set_num_threads(1)
    from lm_eval import evaluate
    from lm_eval.tasks import TaskManager

    mine = arm == "ours"
    manager = TaskManager(include_path=str(folder / arm), include_defaults=not mine)  # theirs: as its command does
    loaded = manager.load(list(SETS))
    lm = ours(folder) if mine else theirs(folder, int(sys.argv[4]))
    asked = first_call(lm)
    begun = time.process_time()
    results = evaluate(
        lm=lm, task_dict=loaded, limit=limit or None, bootstrap_iters=0, apply_chat_template=not mine, log_samples=True
    )
    done = time.process_time()
    answers = {
        f"{task}/{sample['doc_id']}": sample["resps"][0][0].strip()
        for task, samples in results["samples"].items()
        for sample in samples
    }
    found = {"start": asked[0], "evaluate": done - begun, "all": done, "answers": answers}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
