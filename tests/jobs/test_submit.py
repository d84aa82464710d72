"""One job for one piece of work, whatever happens to the requests and to the step that makes them."""

import contextlib
import threading
import time

import pytest
from operators import both, fail, gone, stop_when, succeed

from vistune.errors import Interrupted, VistuneError
from vistune.jobs.submit import CONTENT, RUN


def created(kubernetes, plural):
    """How often an object was really made."""
    return sum(kind == "ADDED" and p == plural for _, p, kind, _ in kubernetes.history)


def running(k, job):
    for n in (0, 1):
        k.pod(job, n)


def interrupted_step(kubernetes, backend, work):
    """A step that was killed without a chance to stop its job: the job is there and runs."""
    kubernetes.operator = running
    attempt = threading.Thread(target=_swallowed, args=(backend(), work), daemon=True)
    attempt.start()
    while len(kubernetes.all("pods")) < 2:
        time.sleep(0.02)


def _swallowed(backend, work):
    with contextlib.suppress(VistuneError):
        backend.run(work)


def test_the_name_follows_from_the_place_alone(kubernetes, backend, work, plural):
    kubernetes.operator = lambda k, job: succeed(k, job, work)
    names = set()
    for _ in range(2):
        backend().run(work)
        (job,) = kubernetes.all(plural)
        names.add(job["metadata"]["name"])
        kubernetes.remove(plural, job["metadata"]["name"])
    assert len(names) == 1
    (name,) = names
    assert len(name) <= 40, "the operators append to it, and 63 is the limit"


@both
def test_a_repeated_step_adopts_the_running_job(kubernetes, backend, work, plural, capsys):
    interrupted_step(kubernetes, backend, work)
    (before,) = kubernetes.all(plural)
    threading.Timer(0.15, succeed, (kubernetes, before, work)).start()
    backend().run(work)
    (after,) = kubernetes.all(plural)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert created(kubernetes, plural) == 1
    assert "adopted: it was started by an earlier try of this step" in capsys.readouterr().out


def test_a_repeated_step_takes_a_finished_job_for_done(kubernetes, backend, work, plural):
    kubernetes.operator = lambda k, job: succeed(k, job, work)
    backend().run(work)
    backend().run(work)
    assert created(kubernetes, plural) == 1


@both
@pytest.mark.parametrize("left", ["failed", "complete without result"])
def test_a_leftover_is_made_again(kubernetes, backend, work, plural, left):
    kubernetes.operator = lambda k, job: succeed(k, job, work)
    backend().run(work)
    work.result.unlink()
    if left == "failed":
        (job,) = kubernetes.all(plural)
        kubernetes.condition(job, "Complete" if plural == "trainjobs" else "Succeeded", status="False")
        kubernetes.condition(job, "Failed")
    kubernetes.lingers = 0.15
    backend().run(work)
    assert created(kubernetes, plural) == 2
    assert len(kubernetes.all(plural)) == 1


def test_a_job_that_is_going_away_is_waited_for(kubernetes, backend, work, plural):
    kubernetes.operator = lambda k, job: succeed(k, job, work)
    backend().run(work)
    kubernetes.lingers = 0.15
    kubernetes.delete(plural, kubernetes.all(plural)[0]["metadata"]["name"])
    backend().run(work)
    assert created(kubernetes, plural) == 2


def test_another_job_of_the_name_is_neither_adopted_nor_deleted(kubernetes, backend, work, plural):
    kubernetes.operator = lambda k, job: succeed(k, job, work)
    backend().run(work)
    (job,) = kubernetes.all(plural)
    job["metadata"]["annotations"][CONTENT] = "of someone else"
    kubernetes.put(plural, job)
    with pytest.raises(VistuneError, match=f"exists with other content .* kubectl delete {plural} "):
        backend().run(work)
    assert len(kubernetes.all(plural)) == 1
    assert kubernetes.asked("DELETE") == 0


def test_a_lost_answer_makes_no_second_job(kubernetes, backend, work, plural):
    kubernetes.operator = lambda k, job: succeed(k, job, work)
    kubernetes.drop("POST", times=2, after=True)
    backend().run(work)
    assert created(kubernetes, plural) == 1


def test_a_busy_api_is_asked_again(kubernetes, backend, work, plural):
    kubernetes.operator = lambda k, job: succeed(k, job, work)
    kubernetes.fail("POST", 429, times=2, reason="TooManyRequests")
    kubernetes.fail("GET", 500, times=3, reason="InternalError")
    kubernetes.drop("GET", times=3)
    backend().run(work)
    assert created(kubernetes, plural) == 1


def test_an_api_that_is_away_is_an_error_in_the_end(kubernetes, backend, work, monkeypatch):
    monkeypatch.setattr("vistune.jobs.cluster.PATIENCE", 0.3)
    monkeypatch.setattr("vistune.jobs.submit.STOPPING", 0.3)
    kubernetes.close()
    with pytest.raises(VistuneError, match="the Kubernetes API does not answer: POST "):
        backend().run(work)


def launcher(kubernetes, monkeypatch, name, **metadata):
    """The pod that this process runs in."""
    pod = kubernetes.put("pods", {"metadata": {"name": name, **metadata}, "status": {}})
    monkeypatch.setenv("KFP_POD_NAME", name)
    monkeypatch.setenv("KFP_POD_UID", pod["metadata"]["uid"])
    return pod["metadata"]["uid"]


def test_the_job_goes_away_with_the_run(kubernetes, backend, work, plural, monkeypatch):
    workflow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run-x", "uid": "w-1"}
    owners = [{**workflow, "controller": True, "blockOwnerDeletion": True}]
    launcher(kubernetes, monkeypatch, "step-0", labels={RUN: "7f3"}, ownerReferences=owners)
    kubernetes.operator = lambda k, job: succeed(k, job, work)
    backend().run(work)
    (job,) = kubernetes.all(plural)
    assert job["metadata"]["ownerReferences"] == [workflow]
    assert job["metadata"]["labels"][RUN] == "7f3"


def test_without_a_workflow_it_goes_away_with_the_pods(kubernetes, backend, work, plural, monkeypatch):
    first = launcher(kubernetes, monkeypatch, "step-0")
    interrupted_step(kubernetes, backend, work)
    (job,) = kubernetes.all(plural)
    assert [o["uid"] for o in job["metadata"]["ownerReferences"]] == [first]
    second = launcher(kubernetes, monkeypatch, "step-1")
    threading.Timer(0.15, succeed, (kubernetes, job, work)).start()
    backend().run(work)
    (job,) = kubernetes.all(plural)
    assert [o["uid"] for o in job["metadata"]["ownerReferences"]] == [first, second], "whoever adopts it owns it too"


@both
@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (404, "NotFound", r"The cluster needs (Kubeflow Trainer 2\.2 or later|the training operator)"),
        (403, "Forbidden", "lacks the rights of infra/k8s/base/pipeline-role.yaml"),
        (403, "exceeded quota", "The namespace's quota is used up"),
        (400, 'unknown field "spec.runtimePatches"', "The manifest is in "),
        (422, "TrainingRuntime not found", "The cluster lacks the ClusterTrainingRuntime"),
    ],
)
def test_a_refusal_says_what_to_do(kubernetes, backend, work, status, reason, said):
    kubernetes.fail("POST", status, times=1, reason=reason)
    with pytest.raises(VistuneError, match=said) as error:
        backend().run(work)
    assert reason in str(error.value)


@both
@pytest.mark.parametrize("kind", ["DisruptionTarget", "Evicted", "told to end", "lost"])
def test_preempted_pods_are_no_failure(kubernetes, backend, work, plural, kind, capsys):
    """The job is made again and goes on from its newest checkpoint; the other process's error counts for nothing."""
    attempts = []

    def operator(k, job):
        attempts.append(job)
        if len(attempts) == 3:
            succeed(k, job, work, ["third"])
        elif kind == "DisruptionTarget":
            condition = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
            fail(k, job, 1, {"ended": 1, "conditions": [condition]})
        elif kind == "Evicted":
            fail(k, job, 1, {"reason": "Evicted"})
        elif kind == "told to end":
            fail(k, job, 143, 143)
        else:
            running(k, job)
            time.sleep(0.15)
            k.remove("pods", k.pods(job["metadata"]["name"])[1]["metadata"]["name"])
            time.sleep(0.15)
            k.pod(job, 0, "Failed", ended=1)
            k.condition(job, "Failed")

    kubernetes.operator = operator
    backend().run(work)
    assert len(attempts) == 3
    assert len(kubernetes.all(plural)) == 1, "an attempt is deleted before the next is made"
    out = capsys.readouterr().out
    assert "attempt 2 goes on from the newest checkpoint" in out and "attempt 3" in out
    assert "third" in out.splitlines(), "the log of the new pods is followed"


def test_a_lost_answer_to_a_restart_makes_no_third_job(kubernetes, backend, work, plural):
    def operator(k, job):
        if created(k, plural) == 1:
            k.drop("POST", times=1, after=True)
            fail(k, job, 1, {"reason": "Evicted"})
        else:
            succeed(k, job, work)

    kubernetes.operator = operator
    backend().run(work)
    assert created(kubernetes, plural) == 2


def test_told_to_end_while_an_old_job_goes_away(kubernetes, backend, work, plural):
    """It waits no longer, and makes no job that nobody would end."""
    kubernetes.operator = lambda k, job: succeed(k, job, work)
    backend().run(work)
    kubernetes.lingers = 5.0
    kubernetes.delete(plural, kubernetes.all(plural)[0]["metadata"]["name"])
    start = time.monotonic()
    stop_when(lambda: kubernetes.asked("POST") == 2)
    with pytest.raises(Interrupted):
        backend().run(work)
    assert time.monotonic() - start < 4.0
    assert created(kubernetes, plural) == 1


def test_restarts_are_counted(kubernetes, backend, work, plural):
    kubernetes.operator = lambda k, job: fail(k, job, 1, {"reason": "Evicted"})
    with pytest.raises(VistuneError, match=r"failed: lost .* \(Evicted\), after tune.job.restarts=2"):
        backend(restarts=2).run(work)
    assert created(kubernetes, plural) == 3
    assert gone(kubernetes, plural)


@pytest.mark.parametrize("how", ["preempted", "gone"])
def test_a_pod_the_operator_replaced_excuses_no_later_failure(kubernetes, backend, work, plural, how):
    """JobSet makes a lost pod again by itself; when the new one then fails, that is a failure."""

    def operator(k, job):
        running(k, job)
        pod = k.pods(job["metadata"]["name"])[1]
        time.sleep(0.15)
        if how == "preempted":
            condition = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
            k.pod(job, 1, "Failed", ended=1, conditions=[condition])
            time.sleep(0.15)
        k.remove("pods", pod["metadata"]["name"])
        time.sleep(0.15)
        k.pod(job, 1)
        time.sleep(0.15)
        fail(k, job, 1, 1, lines=["ValueError: ours"])

    kubernetes.operator = operator
    with pytest.raises(VistuneError, match="ValueError: ours"):
        backend().run(work)
    assert created(kubernetes, plural) == 1


def test_a_deadline_of_the_cluster_is_no_preemption(kubernetes, backend, work, plural):
    def operator(k, job):
        for n in (0, 1):
            k.pod(job, n, "Failed", ended=143)
        k.condition(job, "Failed", "DeadlineExceeded", "was active longer")

    kubernetes.operator = operator
    with pytest.raises(VistuneError, match=r"DeadlineExceeded.*[\s\S]*Raise tune.job.run_deadline"):
        backend(run_deadline=10).run(work)
    assert created(kubernetes, plural) == 1
