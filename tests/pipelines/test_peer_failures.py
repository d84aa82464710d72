"""What the closest peers get wrong (pipelines of InstructLab and Open Data Hub), and the tests that show ours does not.

Where a failure is one of how a pipeline is compiled, the test is below; the others are where the code is.
"""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

FAILURES = {  # a peer's failure: the tests that show ours does not do it
    "a failed job leaves its step green": (
        "tests/jobs/test_follow.py::test_a_failed_job_is_an_error_that_says_why",
        "tests/jobs/test_follow.py::test_a_job_that_succeeded_without_a_result_is_an_error",
        "tests/jobs/test_training.py::test_a_failed_training_is_red_and_says_why",
    ),
    "one timeout for queue, start and run": (
        "tests/jobs/test_follow.py::test_each_phase_has_its_own_deadline",
        "tests/jobs/test_follow.py::test_time_in_the_queue_is_not_time_to_start",
    ),
    "the wait ends some time after the log breaks off": (
        "tests/jobs/test_watch.py::test_every_line_is_shown_once_though_connections_break",
        "tests/jobs/test_watch.py::test_a_log_that_may_not_be_read_stops_nothing",
    ),
    "terminate leaves the job burning GPUs": (
        "tests/jobs/test_follow.py::test_sigterm_deletes_the_job",
        "tests/jobs/test_training.py::test_terminating_the_step_ends_the_pods",
        "tests/jobs/test_submit.py::test_the_job_goes_away_with_the_run",
        "tests/jobs/test_cleanup.py::test_the_runs_own_unfinished_jobs_are_ended",
    ),
    "a failure leaks volumes": (
        "tests/pipelines/test_compiled.py::test_a_finished_run_goes_away_with_its_volume",
        "tests/pipelines/test_compiled.py::test_the_exit_handler_is_around_everything",
    ),
    "shared volumes are needed by every run": (
        "tests/pipelines/test_peer_failures.py::test_only_a_job_on_several_nodes_needs_a_shared_volume",
    ),
    "caching is off everywhere, and data are made again": (
        "tests/pipelines/test_instruction_tuning.py::test_caching_and_retries",
        "tests/components/test_components.py::test_on_a_cluster_each_stage_gets_the_ids_of_what_it_reads_besides",
    ),
    "nothing is tried again, or once less than it says": (
        "tests/pipelines/test_instruction_tuning.py::test_caching_and_retries",
        "tests/components/test_ending.py::test_a_notice_is_tried_again_and_its_failure_is_no_error",
    ),
    "a repeated step starts from nothing": (
        "tests/jobs/test_submit.py::test_a_repeated_step_adopts_the_running_job",
        "tests/jobs/test_training.py::test_a_preempted_node_costs_one_checkpoint_interval",
        "tests/pipelines/test_compiled.py::test_the_workspace_keeps_what_a_repeated_step_goes_on_from",
    ),
    "models travel as paths on a volume": (
        "tests/pipelines/test_peer_failures.py::test_data_and_models_travel_as_typed_artefacts",
    ),
    "registration is not gated": (
        "tests/pipelines/test_peer_failures.py::test_nothing_is_registered_without_its_scorecard",
        "tests/promote/test_promote.py::test_only_a_pass_makes_a_champion",
        "tests/promote/test_refusals.py::test_missing_evidence_or_lineage_registers_nothing",
    ),
    "parameters are put into shell commands": (
        "tests/pipelines/test_peer_failures.py::test_no_parameter_is_part_of_a_command",
    ),
    "secrets are read through the API, and tokens are in the environment": (
        "tests/pipelines/test_peer_failures.py::test_no_step_may_read_secrets_nor_holds_a_cluster_token",
        "tests/jobs/test_preflight_on_a_cluster.py::test_a_cluster_that_has_it_all",
    ),
    "branches and tags are taken for revisions": (
        "tests/components/test_fetched.py::test_references_that_lead_nowhere",
        "tests/pipelines/test_instruction_tuning.py::test_settings_that_cannot_be_meant_are_refused",
    ),
    "no revision of code or data is recorded": (
        "tests/promote/test_promote.py::test_code_that_is_not_committed_is_held_back",
        "tests/test_lineage.py::test_git_revision_and_dirty_flag",
        "tests/test_lineage.py::test_md5_is_the_one_dvc_records",
    ),
    "fields of the job that newer operators have removed": (
        "tests/jobs/test_manifests.py::test_valid_whatever_is_asked_for",
        "tests/jobs/test_preflight_on_a_cluster.py::test_a_field_that_the_version_does_not_know",
    ),
    "packages are installed when a step starts": (
        "tests/components/test_components.py::test_nothing_is_installed_when_a_step_starts",
    ),
    "what the cluster lacks is found after hours": (
        "tests/jobs/test_preflight_on_a_cluster.py::test_no_operator_or_an_old_one",
        "tests/pipelines/test_instruction_tuning.py::test_nothing_starts_before_the_preflight_is_through",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_every_failure_has_its_tests(failure):
    for where in FAILURES[failure]:
        file, _, name = where.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, where


def artefacts(task: dict) -> dict[str, str]:
    """Input -> task that made it."""
    found = task.get("inputs", {}).get("artifacts", {})
    return {name: source["taskOutputArtifact"]["producerTask"] for name, source in found.items() if len(source)}


def test_nothing_is_registered_without_its_scorecard(plain, large):
    """Every pipeline's `promote` is given the scorecard that was measured on the model it is given."""
    makers = {
        "instruction_tuning": {"evaluate"},
        "sweep": {"best"},
        "promote_only": {"importer", "importer-2", "importer-3", "importer-4"},
    }
    for made in (plain, large):
        holders = {name for name, one in made.items() if "promote" in one.tasks()}
        assert holders == set(makers)
        for name in holders:
            promote = made[name].tasks()["promote"]
            assert artefacts(promote)["scorecard"] in makers[name]
            assert not promote["cachingOptions"].get("enableCache"), "a promotion from the cache would be none"
        score = made["instruction_tuning"].tasks()["evaluate"]
        assert artefacts(score)["model"] == artefacts(made["instruction_tuning"].tasks()["promote"])["model"]


def test_data_and_models_travel_as_typed_artefacts(plain):
    kinds = {"release": "system.Dataset", "sources": "system.Dataset", "model": "system.Model"}
    looked = 0
    for made in plain.values():
        for name, component in made.spec["components"].items():
            inputs = component.get("inputDefinitions", {})
            if "executorLabel" not in component or name.startswith("comp-importer"):
                continue
            for given, about in inputs.get("artifacts", {}).items():
                if given in kinds:
                    assert about["artifactType"]["schemaTitle"] == kinds[given], (name, given)
                    looked += 1
            if name != "comp-fetch":
                assert not {"model", "release", "sources"} & set(inputs.get("parameters", {})), name
    assert looked > 15


def test_no_parameter_is_part_of_a_command(plain, large):
    """Commands and arguments are the same for every run: values reach a step as JSON, which nothing interprets."""
    for made in (*plain.values(), *large.values()):
        for name, container in made.containers().items():
            text = " ".join((*container["command"], *container["args"]))
            assert not re.search(r"\{\{\$\.?inputs", text), name
            assert container["args"][:2] == ["--executor_input", "{{$}}"], name


def test_no_step_may_read_secrets_nor_holds_a_cluster_token(plain, large):
    (role,) = [
        one
        for one in yaml.safe_load_all((ROOT / "infra/k8s/base/pipeline-role.yaml").read_text())
        if one["kind"] == "Role"
    ]
    assert not any("secrets" in rule["resources"] or "*" in rule["resources"] for rule in role["rules"])
    for made in (*plain.values(), *large.values()):
        for name, pod in made.pods().items():
            names = {key["envVar"] for secret in pod.get("secretAsEnv", []) for key in secret["keyToEnv"]}
            assert not any("TOKEN" in n or "KUBE" in n for n in names), name
            assert "secretAsVolume" not in pod, name


def test_only_a_job_on_several_nodes_needs_a_shared_volume(plain, large):
    assert not any(pod.get("pvcMount") for made in plain.values() for pod in made.pods().values())
    mounting = {name for made in large.values() for name, pod in made.pods().items() if pod.get("pvcMount")}
    assert mounting == {"tune-job"}
