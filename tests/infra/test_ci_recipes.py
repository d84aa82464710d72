"""infra/ci: recipes whose commands exist, that publish the scorecard whatever happens and fail on the verdict."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def github() -> tuple[list[str], dict, str]:
    text = (ROOT / "infra/ci/github-actions.yml").read_text()
    (job,) = yaml.safe_load(text)["jobs"].values()
    return [step["run"] for step in job["steps"] if "run" in step], job["env"], text


def gitlab() -> tuple[list[str], dict, str]:
    text = (ROOT / "infra/ci/gitlab-ci.yml").read_text()
    (job,) = yaml.safe_load(text).values()
    return [*job["script"], *job["after_script"]], job["variables"], text


@pytest.fixture(params=[github, gitlab], ids=["github", "gitlab"])
def recipe(request):
    return request.param()


def test_every_command_exists(recipe):
    commands, _, _ = recipe
    targets = set(re.findall(r"^([\w-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = [command.split()[1] for command in commands if command.startswith("make ")]
    assert made == ["setup", "pipeline-run"] and set(made) <= targets
    scripts = [part for command in commands for part in command.split() if part.endswith(".py")]
    assert scripts and all((ROOT / script).is_file() for script in scripts)


def test_it_waits_and_takes_the_verdict_for_the_exit_status(recipe):
    _, environment, text = recipe
    assert environment.get("WAIT") != "0" and environment["VISTUNE_RELEASE"] == "1"
    for name in ("KFP_ENDPOINT", "KFP_TOKEN", "VISTUNE_IMAGE"):
        assert name in text
    assert "|| true" not in text and "continue-on-error" not in text and "allow_failure" not in text
    used = (ROOT / "pipelines/submit.py").read_text() + (ROOT / "pipelines/placing.py").read_text()
    assert all(name in used for name in ("KFP_ENDPOINT", "KFP_TOKEN", '"WAIT"', "VISTUNE_RELEASE"))


def test_the_scorecard_is_published_also_when_the_verdict_is_not_pass():
    steps = yaml.safe_load((ROOT / "infra/ci/github-actions.yml").read_text())["jobs"]["pipeline"]["steps"]
    after = steps[next(n for n, s in enumerate(steps) if s.get("run") == "make pipeline-run") + 1 :]
    assert all(step["if"] == "always()" for step in after)
    assert any("upload-artifact" in step.get("uses", "") for step in after)
    job = yaml.safe_load((ROOT / "infra/ci/gitlab-ci.yml").read_text())["pipeline"]
    assert job["artifacts"] == {"when": "always", "paths": ["scorecard"]}


def test_no_secret_is_written_down(recipe):
    _, environment, _ = recipe
    for name, value in environment.items():
        if re.search("TOKEN|PASSWORD|KEY", name):
            assert re.fullmatch(r"\$\{\{ secrets\.\w+ \}\}", value)


def test_the_scorecard_of_a_commit(mlflow_store, tmp_path, monkeypatch, capsys):
    from vistune.tracking.runs import connect
    from vistune.tracking.runs import experiment as of

    client = connect()
    experiment = of(client)
    (tmp_path / "model_card.md").write_text("# Scores\n61.2 % [58, 64]\n")
    for stage, sha, value in (("evaluate", "a" * 40, 0.6), ("promote", "a" * 40, 1), ("evaluate", "b" * 40, 0.1)):
        run = client.create_run(experiment, tags={"git.sha": sha}, run_name=stage).info.run_id
        client.log_metric(run, "accuracy", value)
        client.log_artifact(run, str(tmp_path / "model_card.md"))
        client.set_terminated(run)

    def script(sha: str) -> int:
        command = ["scorecard.py", "--output", str(tmp_path / sha[0]), "--git-sha", sha]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "infra/ci/scorecard.py"), run_name="__main__")
        return ended.value.code

    assert script("a" * 40) == 0
    assert (tmp_path / "a/scorecard.md").read_text().startswith("# Scores")
    assert json.loads((tmp_path / "a/scorecard.json").read_text())["metrics"] == {"accuracy": 0.6}
    assert script("b" * 40) == 1
    assert "no finished run of promote for commit bbbbbbbbbbbb" in capsys.readouterr().err
