"""What `vistune evaluate --plan` says: counts of the questions, detectable differences, and what the gate will lack."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vistune.cli import app
from vistune.errors import VistuneError
from vistune.evaluate import Params, planned
from vistune.evaluate.planned import Planned, plan
from vistune.statistics import clustered_error, planned_error, score, student

REPOSITORY = Path(__file__).resolve().parents[2]


def test_questions_images_and_gate(data: Path, tmp_path: Path) -> None:
    made = plan(Params(suite="quick", gate="llava15", data=str(data), limit=None), tmp_path, REPOSITORY / "eval", 0)
    found = {b.name: (b.items, len(b.sizes)) for b in made.benchmarks}
    assert found["gqa"] == (3, 2) and found["aokvqa_ranked"][0] == 2
    assert (made.runs, made.questions) == (5, 5 * sum(items for items, _ in found.values()))
    assert made.seconds(2.0) == made.questions / 2
    with pytest.raises(VistuneError, match="--rate is 0"):
        made.seconds(0)
    told = "\n".join(made.warnings)
    assert "gqa: its files hold 3 items, not 12,578 (the paper, not verified)" in told
    assert "f1 of pope_adversarial is" not in told and "perception of mme" not in told
    assert "the target vqav2 is not in this suite: the gate will fail" in told
    assert "the margin of gqa is 1 points" in told and "likely inconclusive" in told


def test_a_gate_that_no_answer_can_pass_is_told_before_the_run(data: Path, tmp_path: Path) -> None:
    for folder in ("gates", "suites"):
        (tmp_path / "eval" / folder).mkdir(parents=True)
    (tmp_path / "eval" / "tasks").symlink_to(REPOSITORY / "eval" / "tasks")
    (tmp_path / "eval" / "suites" / "mine.yaml").write_text("tasks: [chair, pope_random]\n")
    protected = "{benchmarks: [pope_random], metric: yes_ratio, margin: 0.01}, {benchmarks: [chair], margin: 0.01}"
    gate = f"target: {{benchmarks: [chair], metric: hallucinated}}\nprotected: [{protected}]\n"
    (tmp_path / "eval" / "gates" / "mine.yaml").write_text(gate)
    made = plan(Params(suite="mine", gate="mine", data=str(data), limit=None), tmp_path, tmp_path / "eval", 0)
    told = "\n".join(made.warnings)
    assert "yes_ratio of pope_random is neither better nor worse: the gate will fail" in told
    assert "accuracy of chair is not among chair_i, hallucinated, length, recall: the gate will fail" in told
    assert "hallucinated of chair" not in told


def test_published_sizes_give_the_published_detectable_differences() -> None:
    """Unclustered items, 80 % power, 5 % error: the field's table of minimum detectable effects."""
    for items, expected in ((218, (4.2, 6.0, 8.5)), (900, (2.1, 3.0, 4.2)), (5000, (0.9, 1.3, 1.8))):
        one = Planned("b", (1,) * items, 0.95)
        assert [round(100 * one.detectable(d), 1) for d in planned.DISCORDANCES] == pytest.approx(expected, abs=0.06)
    pope = Planned("pope", (18,) * 500, 0.95)
    alone = Planned("pope", (1,) * 9000, 0.95)
    assert (pope.detectable(0.1) / alone.detectable(0.1)) ** 2 == pytest.approx(1 + 17 * 0.2)
    assert pope.margin(0.1) < pope.detectable(0.1)


def test_power_is_as_planned() -> None:
    """Pairs of models that differ by the planned effect, items of an image agreeing as assumed: found 4 times in 5."""
    generator = np.random.default_rng(0)
    images, size, discordance, runs = 150, 6, 0.1, 3000
    least = Planned("b", (size,) * images, 0.95).detectable(discordance)
    wins = (discordance + least) / 2
    # Two items of an image agree by design when both copy its draw: with probability root x root.
    copied = generator.random((runs, images, size)) < np.sqrt(planned.CORRELATION)
    own, shared = generator.random((runs, images, size)), generator.random((runs, images, 1))
    draw = np.where(copied, shared, own)
    values = (draw < wins).astype(float) - (draw > 1 - (discordance - wins))
    sums = values.sum(2)
    means = sums.sum(1) / (images * size)
    errors = np.sqrt(((sums - size * means[:, None]) ** 2).sum(1) * images / (images - 1)) / (images * size)
    assert errors.mean() == pytest.approx(planned_error((size,) * images, discordance, planned.CORRELATION), rel=0.05)
    assert np.mean(means > student(0.975, images - 1) * errors) == pytest.approx(planned.POWER, abs=0.04)
    clusters = [image for image in range(images) for _ in range(size)]
    assert clustered_error(values[0].ravel(), clusters) == pytest.approx(errors[0])
    assert score(values[0].ravel()) == pytest.approx(means[0])


def test_command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["evaluate", "--plan", "--suite", "quick", "--data", str(data), "--params"]
    arguments += [str(REPOSITORY / "params.yaml"), "--rate", "0.01", "--price", "2"]
    result: Any = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "gqa" in result.output and "hours at 0.01 questions a second" in result.output
    assert not (tmp_path / "outputs").exists()
