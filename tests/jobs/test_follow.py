"""A job from its creation to its end, over HTTP: never green when it failed, never left behind, never twice."""

import threading
import time

import pytest
import yaml
from operators import both, fail, gone, stop_when, succeed

from vistune.errors import Interrupted, VistuneError
from vistune.jobs import follow


@both
def test_success(kubernetes, backend, work, plural, home, capsys):
    kubernetes.operator = lambda k, job: succeed(k, job, work, [f"step {n}" for n in range(200)])
    backend().run(work)
    (job,) = kubernetes.all(plural)
    name = job["metadata"]["name"]
    kept = yaml.safe_load((home / "jobs" / f"{name}.yaml").read_text())
    assert kept["spec"] == job["spec"], "what was submitted is kept"
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"tune: {kept['kind']} team-a/{name} created"
    assert [line for line in out if line.startswith("step")] == [f"step {n}" for n in range(200)]
    assert kubernetes.asked("persistentvolumeclaims") == 0, "a job makes no volume, so none can be leaked"
    assert kubernetes.asked("DELETE") == 0, "it stays to be looked at, and goes away with its owner"


@pytest.mark.parametrize(
    ("ends", "lines", "said"),
    [
        (((137, "OOMKilled"), 143), (), ["exit code 137 (OOMKilled)", "Raise the step's memory limit"]),
        ((1, 1), ("[Rank 1] Watchdog caught collective operation timeout: ALLREDUCE",), ["NCCL gave up"]),
        ((1, 1), ("torch.OutOfMemoryError: CUDA out of memory",), ["The GPU's memory is full"]),
        ((1, 143), ("RuntimeError: of our own",), ["exit code 1", "RuntimeError: of our own"]),
    ],
)
def test_a_failed_job_is_an_error_that_says_why(kubernetes, backend, work, plural, ends, lines, said):
    lines = (*(f"line {n}" for n in range(80)), *lines)
    kubernetes.operator = lambda k, job: fail(k, job, *ends, lines=lines)
    with pytest.raises(VistuneError) as error:
        backend().run(work)
    text = str(error.value)
    for part in (*said, "failed", "Failed: BackoffLimitExceeded: pods failed", lines[-1]):
        assert part in text
    assert "line 79" in text and f"line {80 - 50}" not in text.split(), "the last 50 lines"
    assert gone(kubernetes, plural)
    assert kubernetes.asked("POST") == 1, "a failure of its own is not tried again"


def test_a_job_that_succeeded_without_a_result_is_an_error(kubernetes, backend, work):
    def operator(k, job):
        succeed(k, job, work)
        work.result.unlink()

    kubernetes.operator = operator
    with pytest.raises(VistuneError, match=r"succeeded, but .*summary.json is not there.*same volume"):
        backend().run(work)


@both
def test_a_job_that_someone_deletes_is_an_error(kubernetes, backend, work, plural):
    def operator(k, job):
        for n in (0, 1):
            k.pod(job, n)
        time.sleep(0.1)
        k.delete(plural, job["metadata"]["name"])

    kubernetes.operator = operator
    with pytest.raises(VistuneError, match="was deleted while it ran"):
        backend().run(work)


@both
def test_sigterm_deletes_the_job(kubernetes, backend, work, plural):
    kubernetes.operator = lambda k, job: [k.pod(job, n) for n in (0, 1)]
    stop_when(lambda: len(kubernetes.all("pods")) == 2)
    with pytest.raises(Interrupted, match="is deleted") as stopped:
        backend().run(work)
    assert stopped.value.status == 143
    assert gone(kubernetes, plural), "no GPU stays taken"
    assert kubernetes.asked("propagationPolicy=Foreground") == 1


@both
def test_sigterm_suspends_the_job_which_goes_on_when_the_step_is_repeated(kubernetes, backend, work, plural, sort):
    kubernetes.operator = lambda k, job: [k.pod(job, n) for n in (0, 1)]
    stop_when(lambda: len(kubernetes.all("pods")) == 2)
    with pytest.raises(Interrupted, match="is suspended"):
        backend(when_stopped="suspend").run(work)
    (job,) = kubernetes.all(plural)
    held = job["spec"] if sort == "trainjob" else job["spec"]["runPolicy"]
    assert held["suspend"] is True
    work.result.write_text("{}")
    threading.Timer(0.2, succeed, (kubernetes, job, work)).start()
    backend(when_stopped="suspend").run(work)
    (again,) = kubernetes.all(plural)
    assert again["metadata"]["uid"] == job["metadata"]["uid"]
    assert (again["spec"] if sort == "trainjob" else again["spec"]["runPolicy"])["suspend"] is False


def test_sigterm_deletes_the_job_though_the_api_fails_at_first(kubernetes, backend, work, plural):
    kubernetes.operator = lambda k, job: [k.pod(job, n) for n in (0, 1)]
    kubernetes.fail("DELETE", 503, times=3)
    kubernetes.drop("DELETE", times=4)
    stop_when(lambda: len(kubernetes.all("pods")) == 2)
    with pytest.raises(Interrupted):
        backend().run(work)
    assert gone(kubernetes, plural)


def test_sigterm_before_the_job_is_created(kubernetes, backend, work, plural):
    """The request hangs, its answer is lost, and the job is there all the same."""
    kubernetes.delay("POST", 0.5)
    kubernetes.drop("POST", times=1, after=True)
    stop_when(lambda: kubernetes.asked("POST") == 1)
    with pytest.raises(Interrupted):
        backend().run(work)
    assert gone(kubernetes, plural)


def test_what_cannot_be_stopped_is_named(kubernetes, backend, work, monkeypatch, capsys):
    monkeypatch.setattr("vistune.jobs.submit.STOPPING", 0.3)
    kubernetes.operator = lambda k, job: [k.pod(job, n) for n in (0, 1)]
    kubernetes.fail("DELETE", 403, times=99, reason="Forbidden")
    stop_when(lambda: len(kubernetes.all("pods")) == 2)
    with pytest.raises(Interrupted):
        backend().run(work)
    assert "could not be stopped" in (out := capsys.readouterr().out) and "it may hold GPUs" in out


def pending(k, job):
    about = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    for n in (0, 1):
        k.pod(job, n, "Pending", conditions=[{**about, "message": "0/4 nodes: 4 Insufficient nvidia.com/gpu"}])


def pulling(k, job):
    for n in (0, 1):
        k.pod(job, n, "Pending", waiting=("ImagePullBackOff", "not found"))


def wrong_name(k, job):
    k.pod(job, 0, "Pending", waiting=("InvalidImageName", "bad"))


def running(k, job):
    for n in (0, 1):
        k.pod(job, n)


def queued(k, job):
    plural = "trainjobs" if job["kind"] == "TrainJob" else "pytorchjobs"
    body = k.get(plural, job["metadata"]["name"])
    (body["spec"] if plural == "trainjobs" else body["spec"]["runPolicy"])["suspend"] = True
    k.put(plural, body)


@pytest.mark.parametrize(
    ("operator", "limit", "said"),
    [
        (queued, "queue_deadline", "the queue did not admit it"),
        (pending, "start_deadline", "No node has what a pod asks for"),
        (pulling, "start_deadline", "The image cannot be pulled"),
        (wrong_name, "", "its pods can never run"),
        (running, "run_deadline", "it ran longer than tune.job.run_deadline=1"),
    ],
)
def test_each_phase_has_its_own_deadline(kubernetes, backend, work, plural, operator, limit, said, capsys):
    kubernetes.operator = operator
    limits = {"queue_deadline": 0, "start_deadline": 0, "run_deadline": 0} | ({limit: 1} if limit else {})
    start = time.monotonic()
    with pytest.raises(VistuneError, match=said):
        backend(**limits).run(work)
    assert time.monotonic() - start > (1.0 if limit else 0.0)
    assert gone(kubernetes, plural)
    if operator in (queued, pending, pulling):
        assert capsys.readouterr().out.count("tune: waiting: ") == 1, "said once"


@both
def test_time_in_the_queue_is_not_time_to_start(kubernetes, backend, work, plural):
    def operator(k, job):
        queued(k, job)
        time.sleep(1.1)
        body = k.get(plural, job["metadata"]["name"])
        (body["spec"] if plural == "trainjobs" else body["spec"]["runPolicy"])["suspend"] = False
        k.put(plural, body)
        succeed(k, job, work)

    kubernetes.operator = operator
    backend(start_deadline=1, run_deadline=5, queue="gpus").run(work)


def test_the_result_may_be_late_on_network_storage(kubernetes, backend, work, monkeypatch):
    monkeypatch.setattr(follow, "SETTLE", 5.0)

    def operator(k, job):
        succeed(k, job, work)
        work.result.unlink()
        time.sleep(0.5)
        work.result.write_text("{}")

    kubernetes.operator = operator
    backend().run(work)
