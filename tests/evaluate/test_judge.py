"""Judges against a real HTTP server on this machine."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vistune.errors import VistuneError
from vistune.evaluate import Judge, judge
from vistune.evaluate.scorers import judged

KEY = "sk-judge-0815-planted"


class Server:
    """Replies what `say(body)` returns; None is a refusal with status 500."""

    def __init__(self) -> None:
        self.say: Callable[[dict[str, Any]], str | None] = lambda body: "1.0"
        self.bodies: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bodies.append(body)
                text = outer.say(body)
                choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                reply = {"id": "1", "object": "chat.completion", "created": 1, "model": f"{body['model']}-0613"}
                data = json.dumps({**reply, "choices": [choice]}).encode()
                self.send_response(200 if text is not None else 500)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


@pytest.fixture
def session(server: Server, tmp_path: Path) -> Callable[..., Any]:
    def open_(**changes: Any) -> Any:
        settings = {"model": "gpt-4", "base_url": server.url, "api_key_env": "JUDGE_KEY", "backoff": 0.01, **changes}
        return judge.in_session(Judge(**settings), tmp_path, 0)

    return open_


def doc(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"mm_vet/{number}", "question": f"What is x{number}?", "answer": "-1<AND>-5", **more}


def cases(count: int) -> list[judge.Case]:
    return [judged.case("mm_vet", doc(n), f"x = {n}") for n in range(count)]


def test_scores_failures_and_spread_stand_apart(server: Server, session: Any) -> None:
    """Three answers, two votes each: 1.0 and 0.5; 0.5 and unreadable; both unreadable."""
    replies = {"x0": ["1.0", "0.5"], "x1": ["0.5", "Well,"], "x2": ["no idea", "1.5"]}

    def say(body: dict[str, Any]) -> str:
        name = next(n for n in replies if f"is {n}?" in body["messages"][-1]["content"])
        return replies[name].pop(0)

    server.say = say
    with session(votes=2, concurrency=1):
        assert judged.score(cases(3)) == pytest.approx((0.75 + 0.5) / 2), "unreadable replies are no zeros"
        assert judged.parse_failures(cases(3)) == pytest.approx(3 / 6)
        assert judged.spread(cases(3)) == pytest.approx(0.25), "of the answer that was read twice"
        assert judged.score(cases(1)) == pytest.approx(0.75)
        assert math.isnan(judged.score(cases(3)[2:])) and math.isnan(judged.spread(cases(3)[1:]))
        assert judge.about() == {"model": "gpt-4", "versions": ["gpt-4-0613"], "votes": 2}
    assert len(server.bodies) == 6, "each vote is asked for once, whatever is computed from it"
    assert len({body["seed"] for body in server.bodies}) == 6
    assert judge.about() is None


def test_nothing_is_paid_twice_and_the_key_is_in_no_file(server: Server, session: Any, tmp_path: Path) -> None:
    server.say = lambda body: f"0.5 {KEY}"
    with session():
        assert judged.score(cases(4)) == 0.5
    with session():
        assert judged.score(cases(5)) == 0.5
        assert judge.about() == {"model": "gpt-4", "versions": ["gpt-4-0613"], "votes": 1}
    assert len(server.bodies) == 5
    with session(temperature=0.7):  # another request
        judged.score(cases(1))
    assert len(server.bodies) == 6 and server.bodies[-1]["temperature"] == 0.7
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(KEY.encode() in path.read_bytes() for path in files)


def test_what_the_server_never_answers_is_a_failure_not_a_zero(server: Server, session: Any) -> None:
    server.say = lambda body: None if "x1?" in body["messages"][-1]["content"] else "1.0"
    with session(max_retries=1):
        assert judged.score(cases(3)) == 1.0 and judged.parse_failures(cases(3)) == pytest.approx(1 / 3)
    with session(max_retries=0, max_unanswered=0), pytest.raises(VistuneError, match="stayed without an answer"):
        judged.score(cases(3))


def test_prompts_are_the_authors_and_answers_cannot_change_them(server: Server) -> None:
    one = judged.case("mm_vet", doc(1), "x = {truth} | {question} \\1")
    said = one.messages[-1]["content"]
    assert said.endswith("What is x1? | -1 <AND> -5 | x = {truth} | {question} \\1 | ")
    assert said.startswith("Compare the ground truth and prediction from AI models")
    assert one.sampling == {"temperature": 0.0, "max_tokens": 3}
    system, user = judged.case("llava_bench", doc(1, captions="A street."), "a car").messages
    assert system["content"].startswith("You are a helpful and precise assistant")
    assert user["content"].startswith(
        "[Context]\nA street.\n\n[Question]\nWhat is x1?\n\n[Assistant 1]\n-1<AND>-5\n\n[End of"
    )
    assert "[Assistant 2]\na car\n\n[End of Assistant 2]" in user["content"] and user["content"].endswith(
        "judgment.\n\n"
    )
    (seen,) = judged.case("gavie", doc(1, seen="a tree X:1 Y:2 Width:30 Height:40"), "no").messages
    assert (
        "bounding box:\na tree X:1 Y:2 Width:30 Height:40\n" in seen["content"] and "Answer1: no\n" in seen["content"]
    )


def test_llava_bench_is_a_ratio_of_means(server: Server, session: Any) -> None:
    replies = iter(["8 4\nbecause", "10 8", "8, 7\ntwo spaces: unreadable"])
    server.say = lambda body: next(replies)
    with session(concurrency=1):
        three = [judged.case("llava_bench", doc(n, captions="c"), "a") for n in range(3)]
        assert judged.relative(three) == pytest.approx((4 + 8) / (8 + 10))
        assert judged.second(three) == pytest.approx(0.6) and judged.parse_failures(three) == pytest.approx(1 / 3)


def test_gavie_reads_both_scores(server: Server, session: Any) -> None:
    server.say = lambda body: (
        "Relevancy:\nscore of the answer1: 9\nreason: x\n\nAccuracy:\nscore of the answer1: 4\nreason:"
    )
    with session():
        one = [judged.case("gavie", doc(1, seen=""), "a")]
        assert (judged.score(one), judged.second(one)) == (0.9, 0.4)


def test_hallusionbench_takes_the_verdict_of_most_votes(server: Server, session: Any) -> None:
    replies = iter(["correct", "incorrect", "correct", "Incorrect", "unclear", "incorrect", "hm", "hm", "hm"])
    server.say = lambda body: next(replies)
    rows = [("VS", "0"), ("VS", "1"), ("VS", "2")]
    docs = [doc(n, category=c, subcategory="s", set="0", figure=f, question_id=str(n)) for n, (c, f) in enumerate(rows)]
    with session(votes=3, concurrency=1):
        three = [judged.case("hallusionbench", d, "yes") for d in docs]
        assert judged.aacc(three) == 0.5, "the third has no verdict and is left out"
        assert judged.facc(three) == 0.0 and judged.parse_failures(three) == pytest.approx(3 / 9)


def test_no_judge(server: Server) -> None:
    with judge.in_session(Judge(), Path("unused"), 0), pytest.raises(VistuneError, match="mm_vet needs a judge"):
        judged.score(cases(1))
