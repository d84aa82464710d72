"""infra/k8s: known fields only, the restricted profile, least privilege, and every name that is used is there."""

import ast
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from crd import missing, problems
from operators import both, fail, stop_when, succeed

from vistune.errors import Interrupted, VistuneError
from vistune.jobs import JobParams, pods, torchrun

ROOT = Path(__file__).parents[2]
BASE = ROOT / "infra" / "k8s" / "base"
PLACING = (ROOT / "pipelines/placing.py").read_text(encoding="utf-8")  # what the pipeline gives its steps

VERSIONS = ("1.31", "1.37")  # of Kubernetes: the oldest that docs/kubeflow.md names, and the newest


def invalid(body: dict, version: str) -> str:
    """What the schema of a Kubernetes version, with no field beyond it, has against an object; empty: nothing."""
    validate = pytest.importorskip(
        "kubernetes_validate",
        reason="THE MANIFESTS OF infra/k8s ARE NOT CHECKED AGAINST KUBERNETES' SCHEMAS: kubernetes-validate is missing",
    )
    try:
        validate.validate(body, version, strict=True)
    except validate.ValidationError as error:
        return f"{body['kind']} {body['metadata']['name']}: {list(error.path)}: {error.message}"
    return ""


def templates(objects: list[dict]) -> dict[str, dict]:
    """Pod templates by the name of what makes them."""
    makers = ("Deployment", "StatefulSet", "Job")
    return {o["metadata"]["name"]: o["spec"]["template"] for o in objects if o["kind"] in makers}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(overlay, version):
    assert [found for body in overlay if (found := invalid(body, version))] == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("spec", "template", "spec", "containers", 0, "resource"), {}, "'resource' was unexpected"),
        (("spec", "replicas"), "1", "'1' is not of type"),
        (("spec", "selector"), None, "'selector' is a required property"),
    ],
)
def test_the_check_finds_mistakes(path, value, said):
    body = next(b for b in yaml.safe_load_all((BASE / "mlflow.yaml").read_text()) if b["kind"] == "Deployment")
    *parents, last = path
    inner = body
    for key in parents:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    assert said in invalid(body, VERSIONS[-1])


@missing
def test_the_runtime_is_one(runtime):
    assert problems("clustertrainingruntimes", runtime) == []


VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}

RESTRICTED = {  # of the Pod Security Standards: what is wrong, in a pod's spec and in a container of it
    "hostNetwork": lambda pod, c: pod.get("hostNetwork"),
    "hostPID": lambda pod, c: pod.get("hostPID"),
    "hostIPC": lambda pod, c: pod.get("hostIPC"),
    "hostPath and other volumes": lambda pod, c: [
        v for v in pod.get("volumes", [])
        if not v.keys() & VOLUMES
    ],
    "hostPort": lambda pod, c: [p for p in c.get("ports", []) if p.get("hostPort")],
    "privileged": lambda pod, c: c["securityContext"].get("privileged"),
    "allowPrivilegeEscalation": lambda pod, c: c["securityContext"].get("allowPrivilegeEscalation") is not False,
    "capabilities dropped": lambda pod, c: c["securityContext"].get("capabilities", {}).get("drop") != ["ALL"],
    "capabilities added": lambda pod, c: (
        set(c["securityContext"]["capabilities"].get("add", [])) - {"NET_BIND_SERVICE"}
    ),
    "runAsNonRoot": lambda pod, c: not {**pod.get("securityContext", {}), **c["securityContext"]}.get("runAsNonRoot"),
    "runAsUser 0": lambda pod, c: {**pod.get("securityContext", {}), **c["securityContext"]}.get("runAsUser") == 0,
    "seccomp": lambda pod, c: pod["securityContext"].get("seccompProfile", {}).get("type") != "RuntimeDefault",
    "sysctls": lambda pod, c: pod["securityContext"].get("sysctls"),
    "procMount": lambda pod, c: c["securityContext"].get("procMount", "Default") != "Default",
}  # fmt: skip
OURS = {  # and what we ask of our own pods on top
    "root file system": lambda pod, c: not c["securityContext"].get("readOnlyRootFilesystem"),
    "token": lambda pod, c: pod.get("automountServiceAccountToken") is not False,
    "secret in plain sight": lambda pod, c: [
        e for e in c.get("env", []) if re.search("PASSWORD|SECRET|TOKEN|KEY", e["name"]) and "value" in e
    ],
}


def breaches(pod: dict, rules: dict) -> list[str]:
    return [f"{c['name']}: {name}" for c in pod["containers"] for name, broken in rules.items() if broken(pod, c)]


def test_the_restricted_profile(overlay, runtime):
    node = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    for name, template in {**templates(overlay), "runtime": node}.items():
        assert breaches(template["spec"], {**RESTRICTED, **OURS}) == [], name


def test_the_pods_of_a_pytorchjob_too(kubernetes, home, work):
    from vistune.jobs import backend_for

    made = backend_for(JobParams("pytorchjob", 2), home).manifest("j", work)
    assert breaches(made["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"], RESTRICTED) == []


@pytest.mark.parametrize("rule", RESTRICTED)
def test_every_rule_can_be_broken(rule):
    """A pod that does everything wrong breaks each."""
    container = {
        "name": "c",
        "ports": [{"hostPort": 1}],
        "securityContext": {"privileged": True, "capabilities": {"add": ["SYS_ADMIN"]}, "procMount": "Unmasked"},
    }
    pod = dict.fromkeys(("hostNetwork", "hostPID", "hostIPC"), True)
    pod |= {"volumes": [{"name": "v", "hostPath": {}}], "containers": [container]}
    pod["securityContext"] = {"runAsUser": 0, "sysctls": [1]}
    assert breaches(pod, {rule: RESTRICTED[rule]})


def rules() -> list[dict]:
    (role,) = [b for b in yaml.safe_load_all((BASE / "pipeline-role.yaml").read_text()) if b["kind"] == "Role"]
    return role["rules"]


def allowed(verb: str, group: str, resource: str) -> bool:
    return any(verb in r["verbs"] and group in r["apiGroups"] and resource in r["resources"] for r in rules())


def test_the_role_has_no_right_that_no_backend_uses(overlay):
    for rule in rules():
        assert "secrets" not in rule["resources"]
        assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
    assert not [o for o in overlay if o["kind"].startswith("ClusterRole")]
    assert not allowed("delete", "", "pods") and not allowed("create", "", "pods")
    used = set(re.findall(r'_listed\("(\w+)"', (ROOT / "vistune/preflight/cluster.py").read_text()))
    assert used == {r for rule in rules() for r in rule["resources"] if rule["verbs"] == ["list"]}, "preflight's"


@both
def test_the_role_has_every_right_that_the_backends_use(kubernetes, backend, work, plural, monkeypatch):
    """The backends' whole life against an API that enforces the Role."""
    kubernetes.allowed = allowed
    pod = kubernetes.put("pods", {"metadata": {"name": "step"}, "status": {}})
    monkeypatch.setenv("KFP_POD_NAME", "step")
    monkeypatch.setenv("KFP_POD_UID", pod["metadata"]["uid"])
    attempts = []

    def operator(k, job):
        attempts.append(job)
        if len(attempts) == 1:
            fail(k, job, 1, {"reason": "Evicted"})
        elif len(attempts) == 2:
            [k.pod(job, n) for n in (0, 1)]
        elif len(attempts) == 3:
            succeed(k, job, work)
        else:
            fail(k, job, 1, 1)

    kubernetes.operator = operator
    stop_when(lambda: len(attempts) == 2 and len(kubernetes.pods(attempts[1]["metadata"]["name"])) == 2)
    with pytest.raises(Interrupted):
        backend(when_stopped="suspend").run(work)
    kubernetes.remove(plural, attempts[1]["metadata"]["name"])
    backend().run(work)
    kubernetes.remove(plural, attempts[1]["metadata"]["name"])
    with pytest.raises(VistuneError, match="exit code 1"):
        backend().run(work)
    kubernetes.allowed = lambda verb, group, resource: verb != "create"
    with pytest.raises(VistuneError, match=r"lacks the rights of infra/k8s/base/pipeline-role.yaml"):
        backend().run(work)
    assert (BASE / "pipeline-role.yaml").is_file()


def test_names_agree_with_the_code(overlay, runtime):
    assert runtime["metadata"]["name"] == JobParams().runtime
    node = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]
    assert node["name"] == "node", "which Trainer puts the processes in"
    assert node["template"]["metadata"]["labels"]["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer"
    spec = node["template"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["name"] == "node"
    assert torchrun.SHUTDOWN < spec["terminationGracePeriodSeconds"] == pods.GRACE
    assert node["template"]["spec"]["template"]["metadata"]["labels"] == pods.labels(JobParams())
    claims = {o["metadata"]["name"] for o in overlay if o["kind"] == "PersistentVolumeClaim"}
    assert re.search(r'"VISTUNE_CLAIM", "([\w-]+)"', PLACING)[1] in claims


def test_a_preempted_pod_starts_all_pods_again(runtime):
    """As JobSet reads it: FailJob on DisruptionTarget gives reason PodFailurePolicy, which the rule waits for."""
    jobset = runtime["spec"]["template"]["spec"]
    job = jobset["replicatedJobs"][0]["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule == {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    (restart,) = jobset["failurePolicy"]["rules"]
    assert restart["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert restart["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert jobset["failurePolicy"]["maxRestarts"] == job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never", "a pod failure policy needs it"


def step_labels() -> dict[str, str]:
    """What the pipeline puts on the pods of its steps."""
    return ast.literal_eval(re.search(r"^LABELS = (\{.*?\})", PLACING, re.MULTILINE)[1])


def selects(selector: dict, labels: dict) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items()


def test_network_policies(overlay, runtime):
    """Every pod of ours is selected in both directions; who must reach whom can, and training reaches nobody else."""
    policies = {o["metadata"]["name"]: o["spec"] for o in overlay if o["kind"] == "NetworkPolicy"}
    node = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    labels = {name: t["metadata"]["labels"] for name, t in templates(overlay).items()}
    labels |= {"training": node["metadata"]["labels"], "step": step_labels()}
    for name, own in labels.items():
        found = [p for p in policies.values() if selects(p["podSelector"], own)]
        assert found and all("Ingress" in p["policyTypes"] for p in found), name

    def reach(source: str, target: str, port: int) -> bool:
        def via(direction: str, peer: str, own: str, other: str) -> bool:
            found = [
                p for p in policies.values() if selects(p["podSelector"], labels[own]) and direction in p["policyTypes"]
            ]
            return not found or any(
                any(
                    selects(one.get("podSelector", {"matchLabels": {"no": "pod"}}), labels[other])
                    for one in rule.get(peer, [])
                )
                and (not rule.get("ports") or port in [x["port"] for x in rule["ports"]])
                for p in found
                for rule in p.get(direction.lower()) or []
            )

        return via("Egress", "to", source, target) and via("Ingress", "from", target, source)

    assert reach("step", "vistune-mlflow", 5000)
    assert reach("vistune-mlflow-user", "vistune-mlflow", 5000)
    assert reach("vistune-mlflow", "vistune-postgres", 5432)
    assert not reach("vistune-mlflow-user", "vistune-postgres", 5432)
    assert reach("training", "training", 29500) and reach("training", "training", 41234)
    assert not reach("step", "vistune-postgres", 5432)
    assert not reach("training", "vistune-mlflow", 5000)
    assert not reach("vistune-postgres", "vistune-mlflow", 5000)
    if "vistune-s3" in labels:
        assert reach("vistune-mlflow", "vistune-s3", 8333) and not reach("step", "vistune-s3", 8333)


def printed_secrets() -> list[dict]:
    """What secrets.sh makes."""
    command = ["bash", str(ROOT / "infra/k8s/secrets.sh"), "ns"]
    done = subprocess.run(command, env={**os.environ, "DRY_RUN": "1"}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["items"]


def test_everything_that_is_named_is_made(overlay):
    made = {m["metadata"]["name"]: set(m["stringData"]) for m in printed_secrets()}
    configs = {o["metadata"]["name"] for o in overlay if o["kind"] == "ConfigMap"}
    for template in templates(overlay).values():
        pod = template["spec"]
        for volume in pod["volumes"]:
            assert "secret" not in volume or volume["secret"]["secretName"] in made
        for c in pod["containers"]:
            for source in c.get("envFrom", []):
                assert source.get("secretRef", {}).get("name", "vistune-s3") in made
                assert source.get("configMapRef", {}).get("name", "vistune-mlflow") in configs
            for env in c.get("env", []):
                if reference := env.get("valueFrom", {}).get("secretKeyRef"):
                    assert reference["key"] in made[reference["name"]]
    services = {o["metadata"]["name"]: o["spec"]["selector"] for o in overlay if o["kind"] == "Service"}
    for name, selector in services.items():
        assert selects({"matchLabels": selector}, templates(overlay)[name]["metadata"]["labels"])
    assert made["vistune-mlflow"] == {"tracking_uri", "username", "password"}, "as the pipeline's steps read it"
    assert all(f'"{key}"' in PLACING for key in made["vistune-mlflow"])


@pytest.mark.parametrize(
    ("there", "status", "said"),
    [(0, 0, "created"), (5, 0, "there already"), (2, 1, "share passwords with the others: delete them first")],
)
def test_secrets_are_made_together_or_not_at_all(there, status, said, tmp_path):
    """One that is left from before would keep a password that the others do not know."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f'#!/bin/sh\ntest "$1" = get || {{ cat >/dev/null; echo created; exit; }}\nyes one | head -n {there}\n'
    )
    kubectl.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", str(ROOT / "infra/k8s/secrets.sh"), "ns"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert said in done.stdout + done.stderr


def test_only_the_server_and_what_makes_the_users_know_the_administrator(overlay):
    """The steps' secret is of another user, with a password of its own."""
    made = {m["metadata"]["name"]: m["stringData"] for m in printed_secrets()}
    server, steps = made["vistune-mlflow-server"], made["vistune-mlflow"]
    assert steps["username"] != server["MLFLOW_AUTH_ADMIN_USERNAME"]
    for name, values in made.items():
        knows = server["MLFLOW_AUTH_ADMIN_PASSWORD"] in json.dumps(values)
        assert knows == (name == "vistune-mlflow-server"), name
    assert "default_permission = READ\n" in made["vistune-mlflow-auth"]["basic_auth.ini"]
    holders = {name for name, t in templates(overlay).items() if '"vistune-mlflow-server"' in json.dumps(t)}
    assert holders == {"vistune-mlflow", "vistune-mlflow-user"}
    assert "vistune-mlflow-server" not in PLACING


def test_every_image_of_others_is_named_by_digest(overlay):
    images = {c["image"] for t in templates(overlay).values() for c in t["spec"]["containers"]}
    others = {image for image in images if "vistune-mlflow" not in image}
    assert others and all(re.fullmatch(r"[\w./-]+:[\w.]+@sha256:[0-9a-f]{64}", image) for image in others), others


def test_passwords_are_new_each_time_and_never_in_the_repository(overlay):
    def values() -> set[str]:
        return set(re.findall(r"[\w-]{43}", json.dumps(printed_secrets())))

    assert len(values()) >= 4 and not values() & values()
    assert "Secret" not in {o["kind"] for o in overlay}


@pytest.mark.slow
def test_the_servers_flags_exist(overlay):
    from mlflow.cli import cli

    (server,) = [t for name, t in templates(overlay).items() if name == "vistune-mlflow"]
    (container,) = server["spec"]["containers"]
    known = {opt for p in cli.commands["server"].params for opt in (*p.opts, *p.secondary_opts)}
    assert {arg.partition("=")[0] for arg in container["args"]} <= known
    variables = {p.envvar for p in cli.commands["server"].params}
    assert {"MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"} <= variables
