"""Preflight against the fake Kubernetes API: kinds of job, rights, a dry run of the job, quota, volume."""

import pytest

from vistune import preflight
from vistune.preflight import Needs

GPU = "nvidia.com/gpu"
CLAIM = {
    "metadata": {"name": "vistune-shared"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "100Gi"}}},
    "status": {"phase": "Bound"},
}


def quota(hard, used):
    name = f"requests.{GPU}"
    return {"metadata": {"name": "team"}, "spec": {"hard": {name: hard}}, "status": {"used": {name: used}}}


def storage(name, provisioner, default=False):
    told = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {"metadata": {"name": name, "annotations": told}, "provisioner": provisioner}


@pytest.fixture
def look(kubernetes, monkeypatch):
    kubernetes.put("persistentvolumeclaims", CLAIM)
    kubernetes.put("resourcequotas", quota("16", "4"))
    monkeypatch.delenv("VISTUNE_TASK_CONFIG", raising=False)

    def found(tree=None, **needs):
        given = {"gpus": 4, "train_on": "trainjob", "claim": "vistune-shared", "cpus": "8", "memory": "64Gi", **needs}
        made = preflight.run(tree or {"tune": {"job": {"nodes": 2}}}, Needs(image="registry.example/v", **given))
        cluster = ("kind of job", "rights", "job accepted", "GPU quota", "volume", "workspace")
        return {one.check: one for one in made if one.check in cluster}

    return found


def failed(found):
    return {name: one.said for name, one in found.items() if one.state == "failed"}


@pytest.mark.parametrize("kind", ["trainjob", "pytorchjob"])
def test_a_cluster_that_has_it_all(look, kubernetes, kind):
    kubernetes.put("storageclasses", storage("standard", "nfs.csi.k8s.io", default=True))
    made = look(train_on=kind, workspace="50Gi")
    assert made["workspace"].said == "50Gi of the default storage class standard (nfs.csi.k8s.io)"
    assert {one.state for one in made.values()} == {"ok"}, failed(made)
    assert made["GPU quota"].said == f"8 of 12 x {GPU} that quota team has left"
    assert made["volume"].said == "vistune-shared, 100Gi, bound"
    assert "on 2 nodes with 4 processes each" in made["job accepted"].said
    assert not kubernetes.all(f"{kind}s"), "nothing was made"
    assert kubernetes.asked("dryRun=All") == 1
    assert not kubernetes.asked("/secrets"), "no secret is read"


def test_no_operator_or_an_old_one(look, kubernetes):
    kubernetes.served = ("pods", "persistentvolumeclaims", "resourcequotas", "pytorchjobs")
    said = failed(look())
    assert set(said) == {"kind of job", "job accepted"}, "the other checks are made all the same"
    assert "Kubeflow Trainer 2.2 or later" in said["kind of job"]
    kubernetes.served = ("pods", "persistentvolumeclaims", "resourcequotas", "trainjobs")
    kubernetes.versions = {"trainer.kubeflow.org": ["v2beta1"]}
    assert "serves trainer.kubeflow.org in v2beta1" in failed(look())["kind of job"]


def test_a_field_that_the_version_does_not_know(look, kubernetes):
    """Trainer 2.0 and 2.1 call runtimePatches otherwise."""
    kubernetes.problems = lambda plural, body: ['unknown field "spec.runtimePatches"'] if plural == "trainjobs" else []
    said = failed(look())
    assert set(said) == {"job accepted"}
    assert "runtimePatches" in said["job accepted"] and "2.2 or later" in said["job accepted"]


def test_missing_rights_are_all_named(look, kubernetes):
    kubernetes.allowed = lambda verb, group, resource: verb not in ("delete",) and resource != "pods/log"
    said = failed(look())["rights"]
    assert "may not delete trainjobs, get pods/log in team-a" in said and "pipeline-role.yaml" in said


def test_quota(look, kubernetes):
    kubernetes.put("resourcequotas", quota("16", "10"))
    assert "the run asks for 8 x nvidia.com/gpu, and quota team has 6 of 16 left" in failed(look())["GPU quota"]
    assert "GPU quota" not in failed(look({"tune": {"job": {"nodes": 1}}}, train_on="pod"))
    assert look(gpus=0)["GPU quota"].state == "skipped"
    kubernetes.remove("resourcequotas", "team")
    assert look()["GPU quota"].said == f"no quota limits {GPU}; the run asks for 8"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spec": {"accessModes": ["ReadWriteOnce"]}}, "is ReadWriteOnce, and several nodes must mount it"),
        ({"status": {"phase": "Lost"}}, "has lost its volume"),
        ({"metadata": {"name": "other"}}, "there is no claim vistune-shared. There are other."),
    ],
)
def test_a_volume_that_does_not_serve(look, kubernetes, change, said):
    kubernetes.remove("persistentvolumeclaims", "vistune-shared")
    kubernetes.put("persistentvolumeclaims", {**CLAIM, **change})
    assert said in failed(look())["volume"]


@pytest.mark.parametrize(
    ("named", "default", "provisioner", "said"),
    [
        ("nfs", False, "nfs.csi.k8s.io", "there is no storage class nfs. There are disk"),
        ("", False, "nfs.csi.k8s.io", "the cluster has no default storage class. There are disk"),
        ("disk", False, "ebs.csi.aws.com", "disk (ebs.csi.aws.com) makes volumes for one node"),
        ("", True, "rook-ceph.rbd.csi.ceph.com", "in VISTUNE_WORKSPACE_CLASS"),
    ],
)
def test_a_workspace_that_no_class_makes(look, kubernetes, named, default, provisioner, said):
    kubernetes.put("storageclasses", storage("disk", provisioner, default))
    assert said in failed(look(workspace="50Gi", workspace_class=named))["workspace"]
    assert look(workspace="")["workspace"].state == "skipped"


def test_storage_classes_that_the_account_may_not_see(look, kubernetes):
    kubernetes.allowed = lambda verb, group, resource: resource != "storageclasses"
    one = look(workspace="50Gi")["workspace"]
    assert one.state == "skipped" and "with the verb list on storageclasses.storage.k8s.io" in one.said


@pytest.mark.parametrize(
    ("stages", "looked"),
    [
        (("sources", "adapt", "self_instruct", "validate"), set()),
        (("sources", "evaluate"), {"GPU quota"}),
        (("promote",), set()),
    ],
)
def test_a_pipeline_without_training_asks_nothing_about_it(look, kubernetes, stages, looked):
    kubernetes.served = ("pods", "resourcequotas")
    made = look(stages=stages)
    assert {name for name, one in made.items() if one.state != "skipped"} == looked
    assert not failed(made) and not kubernetes.asked("trainer.kubeflow.org")
    if looked:
        assert made["GPU quota"].said.startswith("4 of 12"), "not once for each node of training"


def test_what_the_account_may_not_see_is_skipped(look, kubernetes):
    kubernetes.allowed = lambda verb, group, resource: resource not in ("resourcequotas", "persistentvolumeclaims")
    made = look()
    assert {made[name].state for name in ("GPU quota", "volume")} == {"skipped"}
    assert "may not see which quotas there are" in made["GPU quota"].said


def test_training_in_the_steps_pod_needs_no_operator(look, kubernetes):
    kubernetes.served = ("pods", "resourcequotas")
    made = look({}, train_on="pod")
    assert failed(made) == {} and made["kind of job"].state == "skipped"


def test_an_api_that_stumbles_is_asked_again(look, kubernetes):
    kubernetes.fail("/apis/trainer.kubeflow.org", 503, times=2)
    kubernetes.drop("resourcequotas", times=1)
    assert failed(look()) == {}


def test_the_component_prints_the_table_and_fails(look, kubernetes, capsys):
    import importlib.util
    import json
    from pathlib import Path

    path = Path(__file__).parents[2] / "components/preflight/component.py"
    spec = importlib.util.spec_from_file_location("component_preflight", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kubernetes.remove("persistentvolumeclaims", "vistune-shared")
    needs = json.dumps({"image": "i", "gpus": 1, "train_on": "trainjob", "claim": "vistune-shared", "memory": "1Gi"})
    with pytest.raises(SystemExit) as stop:
        module.preflight.python_func("tune: {zero: 5}", "", 1, "", needs)
    out = capsys.readouterr().out
    assert stop.value.code == 1
    assert "FAILED   parameters" in out and "FAILED   volume" in out and "ok       kind of job" in out
    assert "checks failed, and nothing was started" in out
