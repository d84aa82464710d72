"""Peak memory of a loss over 4,096 tokens and a vocabulary of 32,064, in float32, half of the tokens answers.

python bench/parts/tune_memory.py PATH [MEGABYTES] prints one JSON line: what forward and backward pass add to this
process at their peak, gradients of head and states included, and their processor time. PATH: full (logits of all
tokens), answers (of answers, at once), chunked (the engine's own function; MEGABYTES is its budget of logits).
"""

import json
import sys
import time
from pathlib import Path

TOKENS, WIDTH, VOCABULARY = 4_096, 128, 32_064


def resident(kind: str) -> float:
    """In MB. kind: VmRSS now, VmHWM at its highest."""
    (line,) = (row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(kind))
    return int(line.split()[1]) / 1024


def main() -> None:
    import torch
    import torch.nn.functional as F

    from vistune.models.labels import IGNORE
    from vistune.tune.loss import BUDGET, answer_losses

    path = sys.argv[1]
    budget = int(sys.argv[2]) << 20 if len(sys.argv) > 2 else BUDGET
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
    states = torch.randn(TOKENS, WIDTH, requires_grad=True)
    labels = torch.randint(VOCABULARY, (TOKENS,))
    labels[::2] = IGNORE
    at = labels != IGNORE
    warm = answer_losses(torch.randn(8, WIDTH), torch.zeros(8, dtype=torch.long), head)  # loads what torch loads late
    warm.sum().backward()
    head.weight.grad = None
    del warm
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, began = resident("VmRSS"), time.process_time()
    if path == "full":
        loss = F.cross_entropy(head(states).float(), labels, reduction="sum", ignore_index=IGNORE)
    elif path == "answers":
        loss = F.cross_entropy(head(states[at]).float(), labels[at], reduction="sum")
    else:
        loss = answer_losses(states[at], labels[at], head, budget).sum()
    loss.backward()
    seconds = time.process_time() - began
    peak = resident("VmHWM") - before
    gradient = float(states.grad.norm()), float(head.weight.grad.norm())  # type: ignore[union-attr]
    print(
        json.dumps({"mb": round(peak), "cpu_s": round(seconds, 2), "loss": float(loss.detach()), "gradient": gradient})
    )


if __name__ == "__main__":
    main()
