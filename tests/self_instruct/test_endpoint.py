"""The openai teacher against a real HTTP server that misbehaves."""

import json
import threading
import time
from collections import Counter

import pytest

from vistune.endpoint import api_key, retry_after
from vistune.errors import VistuneError
from vistune.ledger import Ledger, ledger_path
from vistune.self_instruct import Params
from vistune.self_instruct.asking import Asker
from vistune.self_instruct.facts import Facts
from vistune.self_instruct.generate import generate
from vistune.self_instruct.teachers import build_teacher
from vistune.store import read_rejects, read_samples

KEY = "sk-planted-4711"
KINDS = {"conversation": 1.0, "negative": 1.0}


@pytest.fixture
def few(images):
    return [image for image in images[:12] if len(image.things) > 1][:4]


@pytest.fixture
def ask(server, context, few, tmp_path, monkeypatch):
    """`ask(**params)` runs the stage on a few images against the server and returns its summary."""
    monkeypatch.setenv("TEACHER_KEY", KEY)
    server.teach(few)
    runs = []

    def run(images=few, **changes):
        params = {
            "teacher": "openai",
            "model": "fake-1",
            "base_url": server.url,
            "api_key_env": "TEACHER_KEY",
            "kinds": KINDS,
            "backoff": 0.01,
            "timeout": 20.0,
            "max_retries": 2,
            **changes,
        }
        runs.append(tmp_path / f"out{len(runs)}")
        with build_teacher(Params(**params), context) as teacher:
            return generate(images, [], teacher, Params(**params), runs[-1], context)

    run.outputs = runs
    return run


def asked(server):
    """How often each request arrived, by (last message, seed)."""
    return Counter((b["messages"][-1]["content"], b["seed"]) for b in server.bodies)


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def reasons(folder):
    return Counter(r.reason for r in read_rejects(folder))


def first_time(action):
    """Misbehaves when a request comes for the first time."""
    return lambda body, n: action if n == 0 else None


def negatives(action):
    """Misbehaves on every request for negatives."""
    return lambda body, n: action if "Verified absent" in body["messages"][-1]["content"] else None


def test_well_behaved(ask, server, few):
    summary = ask()
    assert len(server.bodies) == 2 * len(few) == summary["measured"]["requests_sent"]
    assert summary["measured"]["retries"] == 0 and set(summary["counts"]["rejected"]) == set()
    assert summary["metrics"]["prompt_tokens"] == 100 * len(server.bodies)
    assert summary["metrics"]["completion_tokens"] == 20 * len(server.bodies)
    body = server.bodies[0]
    assert body["model"] == "fake-1" and body["temperature"] == 0.7 and body["max_tokens"] == 1024
    assert [m["role"] for m in body["messages"]][:2] == ["system", "user"]
    assert server.keys == {f"Bearer {KEY}"}
    lineage = next(read_samples(ask.outputs[0])).lineage
    assert lineage.teacher == "openai:fake-1" and lineage.request and lineage.prompt_sha256


def test_parameters_of_the_request(ask, server):
    ask(
        temperature=None,
        max_tokens=None,
        extra={"response_format": {"type": "json_object"}, "max_completion_tokens": 9},
    )
    body = server.bodies[0]
    assert "temperature" not in body and "max_tokens" not in body
    assert body["response_format"] == {"type": "json_object"} and body["max_completion_tokens"] == 9


@pytest.mark.parametrize(
    "action",
    [
        ("status", 429, {"Retry-After": "0"}, {"error": {"message": "slow down"}}),
        ("status", 500, {}, {"error": {"message": "oops"}}),
        ("reset",),
        ("raw", b"<html>a proxy's page</html>"),
        ("raw", b'{"choices": []}'),
        ("raw", b'{"choices": [{"message": "text"}]}'),
    ],
    ids=lambda a: str(a[0]) + str(a[1])[:20] if len(a) > 1 else a[0],
)
def test_what_passes_is_retried_and_paid_once(ask, server, few, action):
    server.misbehave = first_time(action)
    summary = ask()
    assert set(asked(server).values()) == {2}  # each once in vain, once answered
    assert (
        len(server.answered) == 2 * len(few) == summary["measured"]["requests_sent"] == summary["measured"]["retries"]
    )
    assert summary["counts"]["rejected"] == {}


def test_retry_after_is_honoured(ask, server, few):
    server.misbehave = first_time(("status", 429, {"Retry-After": "1"}, {}))
    start = time.monotonic()
    ask(images=few[:1], kinds={"conversation": 1.0})
    assert time.monotonic() - start >= 1.0 and len(server.bodies) == 2


def test_retry_after_in_all_its_forms():
    from email.utils import formatdate

    assert retry_after({"Retry-After": "2"}) == 2.0
    assert retry_after({"retry-after-ms": "1500", "retry-after": "9"}) == 1.5
    assert 25 < retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)}) <= 30
    assert retry_after({"retry-after": formatdate(time.time() - 30, usegmt=True)}) == 0.0
    assert [retry_after({"retry-after": text}) for text in ("", "soon", "-5", "nan", "inf")] == [0.0] * 5
    assert retry_after({}) == 0.0
    assert retry_after({"retry-after": "86400"}) == 600.0


def test_a_timeout_is_retried(ask, server, few):
    server.misbehave = first_time(("sleep", 1.5))
    summary = ask(images=few[:1], kinds={"conversation": 1.0}, timeout=0.5)
    assert summary["measured"]["retries"] == 1 and summary["counts"]["rejected"] == {}


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_unfinished_reply_is_kept_counted_and_not_asked_again(ask, server, few, reason):
    half = json.dumps({"turns": [{"question": "What?", "answer": "A"}]})
    server.misbehave = lambda body, n: (
        ("finish", reason, half) if "Verified absent" in str(body["messages"][-1]) else None
    )
    summary = ask()
    assert summary["counts"]["rejected"] == {reason: len(few)}
    assert {s.task for s in read_samples(ask.outputs[0])} == {"conversation"}
    rows = [json.loads(line) for line in (ask.outputs[0] / "requests.jsonl").read_text().splitlines()]
    assert Counter(row["status"] for row in rows) == {"ok": len(few), reason: len(few)}
    assert all(row["reply"] == half for row in rows if row["status"] == reason)
    before = len(server.bodies)
    ask()
    assert len(server.bodies) == before


@pytest.mark.parametrize(
    "text", ['{"turns": [{"question": "Wh', '{"dialogue": "none"}', "No JSON here.", '{"turns": []}', ""]
)
def test_an_unusable_reply_is_asked_for_again_with_another_seed(ask, server, few, text):
    seeds = {}

    def misbehave(body, n):
        with server.mutex:
            own = seeds.setdefault(body["messages"][-1]["content"], [])
            own.append(body["seed"])
            return ("text", text) if len(own) == 1 else None

    server.misbehave = misbehave
    summary = ask()
    assert all(len(own) == len(set(own)) == 2 for own in seeds.values())
    assert summary["counts"]["rejected"] == {} and summary["metrics"]["requests_repeated"] == 2 * len(few)
    rows = [json.loads(line) for line in (ask.outputs[0] / "requests.jsonl").read_text().splitlines()]
    assert Counter((r["attempt"], r["status"]) for r in rows) == {(0, "unparsable"): 8, (1, "ok"): 8}


def test_what_stays_unusable_is_rejected(ask, server, few):
    server.misbehave = lambda body, n: (
        ("text", "Nothing useful.") if "Verified absent" in str(body["messages"][-1]) else None
    )
    summary = ask(reasks=1)
    assert summary["counts"]["rejected"] == {"unparsable": len(few)}
    assert sorted(asked(server).values()) == [1] * (3 * len(few))  # conversation once, negatives with two seeds
    (reject,) = [r for r in read_rejects(ask.outputs[0]) if r.key.startswith(f"{few[0].id}/")]
    assert "Nothing useful." in reject.detail and "not JSON" in reject.detail


@pytest.mark.parametrize("status, hint", [(400, "extra"), (401, "api_key_env"), (403, "may not"), (404, "base_url")])
def test_what_will_not_pass_ends_the_stage(ask, server, few, status, hint):
    said = {"error": {"message": f"no: {KEY} is wrong", "code": None}}
    server.misbehave = lambda body, n: ("status", status, {}, said)
    with pytest.raises(VistuneError, match=f"status {status}") as error:
        ask(concurrency=2)
    assert hint in str(error.value) and KEY not in str(error.value) and "\n" not in str(error.value)
    assert len(server.bodies) <= 2  # nothing new is sent after the first refusal


def test_an_empty_account_is_no_passing_matter(ask, server):
    error = {"error": {"message": "exceeded your quota", "code": "insufficient_quota"}}
    server.misbehave = lambda body, n: ("status", 429, {}, error)
    with pytest.raises(VistuneError, match="no credit"):
        ask(concurrency=1)
    assert len(server.bodies) == 1


def test_a_few_requests_may_stay_unanswered(ask, server, few):
    text = next(last for _, last in server.truth if "Verified absent" in last)
    server.misbehave = lambda body, n: ("status", 500, {}, {}) if body["messages"][-1]["content"] == text else None
    summary = ask(max_unanswered=1)
    assert summary["counts"]["rejected"] == {"unanswered": 1}
    assert asked(server)[next(k for k in asked(server) if k[0] == text)] == 3  # max_retries 2
    server.misbehave = lambda body, n: None
    before = len(server.bodies)
    assert ask()["counts"]["rejected"] == {} and len(server.bodies) == before + 1


def test_a_dead_server_ends_the_stage_with_its_reason(ask, server):
    server.misbehave = lambda body, n: ("reset",)
    with pytest.raises(VistuneError, match=r"3 requests .* without an answer after 0 retries.*no connection"):
        ask(max_unanswered=2, max_retries=0)


def test_a_run_that_fails_half_way_pays_nothing_twice(ask, server, few):
    """The server refuses after three answers; the second run asks for the missing ones only and ends like one that
    was never disturbed."""
    server.misbehave = lambda body, n: ("status", 401, {}, {}) if len(server.answered) >= 3 else None
    with pytest.raises(VistuneError):
        ask(concurrency=2)
    paid = {(b["messages"][-1]["content"], b["seed"]) for b in server.answered}
    server.misbehave = lambda body, n: None
    del server.bodies[:]
    summary = ask()
    assert not paid & set(asked(server)) and len(server.bodies) == 2 * len(few) - len(paid)
    assert summary["measured"]["requests_reused"] == len(paid)
    assert max(Counter((b["messages"][-1]["content"], b["seed"]) for b in server.answered).values()) == 1
    ask()
    assert contents(ask.outputs[1]) == contents(ask.outputs[2])


def test_an_early_end_of_the_caller_still_records_what_is_under_way(ask, server, context, few, monkeypatch):
    """An exception in our own code between two replies: what was paid for is in the ledger all the same."""
    server.misbehave = lambda body, n: ("sleep", 0.1)
    taken = []

    def fail(self, exchange, reply):
        taken.append(reply)
        raise RuntimeError("a defect")

    monkeypatch.setattr(Asker, "_parsed", fail)
    with pytest.raises(RuntimeError):
        ask()
    with Ledger(ledger_path(context.home, "fake-1")) as ledger:
        assert len(ledger) == len(server.answered) == 2 * len(few)


def test_order_of_arrival_means_nothing(ask, server, context):
    """Replies come in any order under concurrency; the release is the same to the byte."""
    server.misbehave = lambda body, n: ("sleep", (body["seed"] % 7) / 50)
    ask(concurrency=8)
    ledger_path(context.home, "fake-1").unlink()
    server.misbehave = lambda body, n: ("sleep", (body["seed"] % 5) / 100)
    ask(concurrency=1)
    assert contents(ask.outputs[0]) == contents(ask.outputs[1])
    assert len(server.bodies) == 16


def test_concurrency_is_bounded(ask, server):
    running, most, changed = [0], [0], threading.Condition()

    def misbehave(body, n):
        with changed:
            running[0] += 1
            most[0] = max(most[0], running[0])
            changed.notify_all()
            changed.wait_for(lambda: most[0] >= 3, timeout=10)
            changed.wait_for(lambda: most[0] > 3, timeout=0.1)  # time for one too many
            running[0] -= 1

    server.misbehave = misbehave
    ask(concurrency=3)
    assert most[0] == 3


def test_answers_are_reused_by_another_run(ask, server, few):
    """A second release with more images asks only about those; a changed sampling is another request."""
    ask(images=few[:2])
    assert len(server.bodies) == 4
    ask(images=few)
    assert len(server.bodies) == 8
    ask(images=few, temperature=0.1)
    assert len(server.bodies) == 16


def test_the_budget_is_kept(ask, server, few):
    with pytest.raises(VistuneError, match=r"need 8 requests.*allows 7.*Nothing was sent"):
        ask(max_requests=7)
    assert server.bodies == []
    server.misbehave = negatives(("text", "no"))
    summary = ask(max_requests=10)
    assert len(server.bodies) == summary["metrics"]["requests"] == 10
    assert summary["counts"]["rejected"] == {"unparsable": 4}


def test_the_key_is_in_no_file(ask, server, context, few, tmp_path):
    """Not even when the server repeats it."""
    echo = json.dumps({"turns": [{"question": f"Is {KEY} there?", "answer": f"Yes, {KEY} is."}]})
    server.misbehave = lambda body, n: ("text", echo if body["seed"] % 2 else f"{KEY} is no JSON")
    with pytest.raises(VistuneError) as error:
        ask(reasks=0, kinds={"reasoning": 1.0, "negative": 1.0})
    assert KEY not in str(error.value)
    server.misbehave = lambda body, n: None
    ask()
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert any("ledger" in p.parts for p in files) and any(p.name == "requests.jsonl" for p in files)
    for path in files:
        assert KEY.encode() not in path.read_bytes()
    for reject in read_rejects(ask.outputs[-1]):
        assert KEY not in reject.detail


def test_a_word_that_stands_for_a_key_is_left_alone(ask, server, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "a")  # what one tells a local server
    assert ask()["counts"]["rejected"] == {}
    assert server.keys == {"Bearer a"}


def test_a_missing_key_or_model_is_an_error_before_any_work(context, tmp_path, monkeypatch):
    from vistune.self_instruct import run

    monkeypatch.delenv("MY_KEY", raising=False)
    params = Params(teacher="openai", model="m", api_key_env="MY_KEY")
    with pytest.raises(VistuneError, match="MY_KEY is not set") as error:
        run(params, {"sources": tmp_path / "missing"}, tmp_path / "out", context)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists() and not context.home.exists()
    monkeypatch.setenv("MY_KEY", "x")
    with pytest.raises(VistuneError, match=r"self_instruct\.model"):
        api_key(Params(teacher="openai", api_key_env="MY_KEY"), "self_instruct")


def test_an_asker_notices_a_lost_reply(few, context):
    class Forgetful:
        name = model = "forgetful@1"

        def ask(self, requests):
            return iter(())

    asker = Asker(Forgetful(), Params(kinds=KINDS), 0, 8)
    with pytest.raises(VistuneError, match="gave no reply to 8 of 8"):
        asker.ask([Facts(image) for image in few], None)
