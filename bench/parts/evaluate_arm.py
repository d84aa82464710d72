"""One arm of the evaluate bench: python bench/parts/evaluate_arm.py ours|theirs|lmms FOLDER LIMIT BATCH

Prints one JSON line: processor seconds from the start of the process to the first question that a model is asked
(`start`), of lm-eval's whole `evaluate` (`evaluate`), of the process (`all`), and the answers by question.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parts.evaluate_job import SETS

TIMES: dict[str, float] = {}


def noted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, noting the processor time of the process at its beginning, and what it took."""

    def noting(*args: Any, **kwargs: Any) -> Any:
        begun = TIMES.setdefault(f"{name} begun", time.process_time())
        result = call(*args, **kwargs)
        TIMES[name] = time.process_time() - begun
        return result

    return noting


def ours(folder: Path, limit: int | None, _: int) -> Any:
    """As the stage does, with all that the stage imports."""
    from vistune.evaluate.starting import import_stage

    import_stage()
    import torch
    from lm_eval import evaluate
    from lm_eval.tasks import TaskManager

    import vistune.evaluate.lm

    torch.set_num_threads(1)
    loaded = TaskManager(include_path=str(folder / "ours"), include_defaults=False).load(list(SETS))
    log, model = folder / "kept" / "answers.jsonl", str(folder / "model")
    lm = vistune.evaluate.lm.open_model(model, "float32", log=str(log), images=str(folder))
    lm.generate_until = noted("asked", lm.generate_until)  # type: ignore[method-assign]
    return noted("evaluate", evaluate)(lm=lm, task_dict=loaded, limit=limit, bootstrap_iters=0, log_samples=True)


def theirs(folder: Path, limit: int | None, batch: int) -> Any:
    """As lm-eval's command does."""
    import torch
    from lm_eval import evaluator
    from lm_eval.models.hf_vlms import HFMultimodalLM
    from lm_eval.tasks import TaskManager

    torch.set_num_threads(1)
    HFMultimodalLM.generate_until = noted("asked", HFMultimodalLM.generate_until)  # type: ignore[method-assign]
    evaluator.evaluate = noted("evaluate", evaluator.evaluate)
    return evaluator.simple_evaluate(
        model="hf-multimodal",
        model_args=f"pretrained={folder / 'model'},dtype=float32,max_images=1",
        device="cpu",
        batch_size=batch,
        tasks=list(SETS),
        task_manager=TaskManager(include_path=str(folder / "theirs")),
        limit=limit,
        bootstrap_iters=0,
        apply_chat_template=True,
        log_samples=True,
    )


def lmms(folder: Path, limit: int | None, batch: int) -> Any:
    """As lmms-eval's command does, in an environment that has it. Its model of LLaVA takes one question at a time."""
    import torch
    from lmms_eval import evaluator
    from lmms_eval.models.chat.llava_hf import LlavaHf
    from lmms_eval.tasks import TaskManager

    torch.set_num_threads(1)
    LlavaHf.generate_until = noted("asked", LlavaHf.generate_until)
    evaluator.evaluate = noted("evaluate", evaluator.evaluate)
    return evaluator.simple_evaluate(
        model="llava_hf",
        model_args=f"pretrained={folder / 'model'},dtype=float32,device_map=cpu",
        device="cpu",
        batch_size=batch,
        tasks=list(SETS),
        task_manager=TaskManager(include_path=str(folder / "lmms"), model_name="llava_hf"),
        limit=limit,
        bootstrap_iters=0,
        log_samples=True,
    )


ARMS: dict[str, Callable[[Path, int | None, int], Any]] = {"ours": ours, "theirs": theirs, "lmms": lmms}


def main() -> None:
    arm, folder, limit = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) or None
    results = ARMS[arm](folder, limit, int(sys.argv[4]))
    answers = {
        f"{task}/{sample['doc_id']}": sample["resps"][0][0].strip()
        for task, samples in results["samples"].items()
        for sample in samples
    }
    times = {"start": TIMES["asked begun"], "evaluate": TIMES["evaluate"], "all": time.process_time()}
    print(json.dumps({**times, "answers": answers}))


if __name__ == "__main__":
    main()
