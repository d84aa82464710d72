"""What operators and nodes do to a job of the fake cluster."""

import os
import signal
import threading
import time

import pytest

both = pytest.mark.parametrize("sort", ["trainjob", "pytorchjob"], indirect=True)


def succeed(kubernetes, job, work, lines=("first", "second")):
    """What an operator and two nodes do for a job that ends well."""
    pods = [kubernetes.pod(job, n) for n in (0, 1)]
    kubernetes.say(pods[0], *lines)
    time.sleep(0.05)
    work.result.write_text("{}")
    for n in (0, 1):
        kubernetes.pod(job, n, "Succeeded", ended=0)
    kubernetes.condition(job, "Complete" if job["kind"] == "TrainJob" else "Succeeded")


def fail(kubernetes, job, *ends, lines=()):
    """Pods that end with these exit codes, and with them the job."""
    for n in range(len(ends)):
        kubernetes.say(kubernetes.pod(job, n), *lines)
    for n, end in enumerate(ends):
        kubernetes.pod(job, n, "Failed", **(end if isinstance(end, dict) else {"ended": end}))
    kubernetes.condition(job, "Failed", "BackoffLimitExceeded", "pods failed")


def stop_when(condition, seconds=20):
    """Ends this process, as Kubernetes ends a pod, once the condition holds."""

    def wait():
        until = time.monotonic() + seconds
        while not condition() and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def gone(kubernetes, plural, seconds=3.0):
    until = time.monotonic() + seconds
    while kubernetes.all(plural) and time.monotonic() < until:
        time.sleep(0.02)
    return not kubernetes.all(plural) and not [p for p in kubernetes.all("pods") if p["metadata"].get("labels")]
