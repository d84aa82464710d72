"""A model behind a real HTTP server that is slow, refuses, fails and hangs up."""

import base64
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from PIL import Image

from vistune.errors import VistuneError
from vistune.evaluate import Server
from vistune.evaluate.images import Pictures
from vistune.evaluate.lm import VistuneLM
from vistune.evaluate.responses import ResponseLog
from vistune.evaluate.server import ServerEngine
from vistune.params import parse
from vistune.records import ImageRef

KEY = "sk-planted-0815-long"


class Fake(ThreadingHTTPServer):
    """Answers with the mean red of the picture and the question. `misbehave(body, attempt)` may name something else."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.bodies: list[dict[str, Any]] = []
        self.attempts: Counter[str] = Counter()
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.misbehave: Callable[[dict[str, Any], int], str | None] = lambda body, attempt: None
        self.ranks = True
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Hanging up is asked for."""


def tokens(messages: list[dict[str, Any]], generate: bool) -> list[str]:
    """A chat template of characters."""
    text = ""
    for turn in messages:
        content = turn["content"]
        words = content if isinstance(content, str) else "".join(p.get("text", "I") for p in content)
        text += f"{turn['role'][0]}:{words}|\n"
    return list(text + ("a:" if generate else ""))


def red(messages: list[dict[str, Any]]) -> int:
    for turn in messages:
        for piece in turn["content"] if isinstance(turn["content"], list) else []:
            if piece["type"] == "image_url":
                data = base64.b64decode(piece["image_url"]["url"].removeprefix("data:image/png;base64,"))
                return Image.open(io.BytesIO(data)).resize((1, 1)).getpixel((0, 0))[0]
    return -1


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server, name = self.server, json.dumps(body, sort_keys=True)
        with server.lock:
            server.bodies.append(body)
            attempt = server.attempts[name]
            server.attempts[name] += 1
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            self.answer(body, server.misbehave(body, attempt))
        finally:
            with server.lock:
                server.now -= 1

    def answer(self, body: dict[str, Any], fault: str | None) -> None:
        if fault == "hang up":
            self.connection.close()
            return
        if fault == "slow":
            time.sleep(0.05)
        if fault and fault.isdigit():
            self.send(
                {"error": {"message": f"no {self.headers['Authorization']}"}}, int(fault), {"Retry-After": "0.01"}
            )
            return
        generate = body.get("add_generation_prompt", True)
        prompt = tokens(body["messages"], generate)
        text = f"{red(body['messages'])} {prompt[-4]}. And more."
        reply = {
            "model": "fake-1.3",
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": fault or "stop"}],
            "usage": {"prompt_tokens": len(prompt), "completion_tokens": 3},
        }
        if self.server.ranks and "prompt_logprobs" in body:
            listed = [{str(ord(c)): {"logprob": -ord(c) / 100, "rank": 1, "decoded_token": c}} for c in prompt]
            reply["prompt_logprobs"] = [None, *listed[1:]]
        self.send(reply, 200, {})

    def send(self, tree: dict[str, Any], status: int, headers: dict[str, str]) -> None:
        data = json.dumps(tree).encode()
        self.send_response(status)
        for header, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def make(fake: Fake, pictures: Any, tmp_path: Path, monkeypatch: Any) -> Callable[..., VistuneLM]:
    monkeypatch.setenv("SERVER_KEY", KEY)
    settings = Server(model="fake", base_url=fake.url, api_key_env="SERVER_KEY", backoff=0.01, max_retries=3)

    def lm(log: ResponseLog | None = None, **changes: Any) -> VistuneLM:
        given = Pictures(pictures[0])
        return VistuneLM(ServerEngine(replace(settings, **changes), given, "evaluate.servers.one"), given, log)

    return lm


def free(images: list[ImageRef], count: int = 4, **arguments: Any) -> list[Instance]:
    return [
        Instance(
            "generate_until",
            {},
            (f"Question {n}?", {"max_gen_toks": 5, **arguments}, {"visual": [asdict(i)]}),
            0,
            ("t", 0, 1),
        )
        for i in images
        for n in range(count)
    ]


def ranking(images: list[ImageRef]) -> list[Instance]:
    return [
        Instance("loglikelihood", {}, ("Cat?", choice, {"visual": [asdict(i)]}), 0, ("rank", 0, 1))
        for i in images
        for choice in ("yes", "no")
    ]


def test_pictures_and_arguments_reach_the_server(make: Any, fake: Fake, pictures: Any) -> None:
    found = make(extra={"seed": 7, "max_tokens": None, "max_completion_tokens": 5}).generate_until(
        free(pictures[1][:3], 1, until=[". "])
    )
    assert len(set(found)) == 3, "each answer is about its own picture"
    assert all(answer.endswith(" |") for answer in found), "cut at the stop string"
    body = fake.bodies[0]
    given = {name: body[name] for name in ("model", "temperature", "stop", "seed", "max_completion_tokens")}
    assert given == {"model": "fake", "temperature": 0.0, "stop": [". "], "seed": 7, "max_completion_tokens": 5}
    assert "max_tokens" not in body


def test_a_server_that_misbehaves_is_asked_again_within_bounds(make: Any, fake: Fake, pictures: Any) -> None:
    requests = free(pictures[1])
    calm = make().generate_until(requests)
    faults = ["429", "500", "hang up", "slow", "503"]
    fake.misbehave = lambda body, attempt: faults[len(fake.bodies) % 5] if attempt < 3 else "slow"
    fake.attempts.clear()
    fake.most = 0
    lm = make(concurrency=3)
    assert lm.generate_until(requests) == calm
    assert 1 < fake.most <= 3
    assert lm.engine.spent["retries"] > 0


def test_answers_are_kept_as_they_come_and_only_the_rest_is_asked(
    make: Any, fake: Fake, pictures: Any, tmp_path: Path
) -> None:
    requests = free(pictures[1])
    calm = make().generate_until(requests)
    fake.bodies.clear()
    fake.misbehave = lambda body, attempt: "400" if len(fake.bodies) > 10 else None
    with ResponseLog(tmp_path / "log.jsonl") as log:
        with pytest.raises(VistuneError, match=r"refused a request with status 400.*no Bearer \[key\]"):
            make(log, concurrency=2).generate_until(requests)
        kept = len(log)
        assert 9 <= kept <= 10
    assert KEY not in (tmp_path / "log.jsonl").read_text()
    fake.misbehave = lambda body, attempt: None
    fake.bodies.clear()
    with ResponseLog(tmp_path / "log.jsonl") as log:
        assert make(log).generate_until(requests) == calm
    assert len(fake.bodies) == len(requests) - kept


def test_only_complete_and_deterministic_answers_are_reused(
    make: Any, fake: Fake, pictures: Any, tmp_path: Path
) -> None:
    with ResponseLog(tmp_path / "log.jsonl") as log:
        make(log).generate_until(free(pictures[1][:1], 2, temperature=0.8))
        assert len(log) == 0, "a sampled answer is one of many"
        fake.misbehave = lambda body, attempt: "content_filter"
        make(log).generate_until(free(pictures[1][:1], 2))
        assert len(log) == 0, "a withheld answer may come tomorrow"
        fake.misbehave = lambda body, attempt: "length"
        make(log).generate_until(free(pictures[1][:1], 2))
        assert len(log) == 2, "one that is as long as was wanted is complete"
        make(log, model="other").generate_until(free(pictures[1][:1], 2))
        assert len(log) == 4, "another model answers for itself"


def test_what_stays_unanswered_is_no_score(make: Any, fake: Fake, pictures: Any, tmp_path: Path) -> None:
    fake.misbehave = lambda body, attempt: "500" if "Question 2" in str(body["messages"]) else None
    with ResponseLog(tmp_path / "log.jsonl") as log:
        with pytest.raises(VistuneError, match="1 of 4 answers are missing, the first of task t"):
            make(log, max_retries=1).generate_until(free(pictures[1][:1]))
        assert len(log) == 3
        with pytest.raises(VistuneError, match="1 requests to openai:fake stayed without an answer"):
            make(log, max_retries=1, max_unanswered=0).generate_until(free(pictures[1][:1]))


def test_choices_are_ranked_where_the_server_scores_prompts(make: Any, fake: Fake, pictures: Any) -> None:
    found = make().loglikelihood(ranking(pictures[1][:2]))
    for one, answer in zip(found, ["yes", "no"] * 2, strict=True):
        assert one[0] == pytest.approx(-sum(map(ord, f"{answer}|")) / 100) and one[1]
        assert one.tokens == len(answer) + 1, "the end of the turn counts, the blank behind it does not"


def test_a_server_that_cannot_rank_is_told_with_the_task(make: Any, fake: Fake, pictures: Any) -> None:
    fake.ranks = False
    with pytest.raises(
        VistuneError, match="task rank ranks choices by log-likelihood, and the server of fake does not"
    ):
        make().loglikelihood(ranking(pictures[1][:1]))
    with pytest.raises(VistuneError, match="no perplexity on a chat server"):
        make().loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("text",), 0, ("wiki", 0, 1))])


def test_keys_come_from_the_environment_alone(make: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("SERVER_KEY")
    with pytest.raises(VistuneError, match=r"evaluate.servers.one needs a key: .*SERVER_KEY is not set"):
        make()
    with pytest.raises(VistuneError, match=r"unknown parameter one\.api_key"):
        parse(Server, {"model": "m", "api_key": KEY}, "one")


def test_a_server_stands_beside_our_models_on_the_scorecard(
    make: Any, fake: Fake, demo_sources: Path, model_folders: Path, tmp_path: Path
) -> None:
    from vistune import evaluate, store
    from vistune.records import Lineage, Sample, conversation
    from vistune.stages import Context, repository

    talk = {"instruction": "?", "input": "", "response": "a", "messages": conversation([("?", "a")]), "task": "caption"}
    about = {"dataset": "d", "split": "train", "method": "adapt", "licence": "CC0", "group": "g"}
    release, output = tmp_path / "release", tmp_path / "out"
    release.mkdir()
    output.mkdir()
    image = ImageRef("ab" * 32, 8, 8, "png", "none.png")
    store.write_samples(release, [Sample(id="vt1:a", images=(image,), lineage=Lineage("d/1", (), ()), **talk, **about)])
    settings = {"model": "fake", "base_url": fake.url, "api_key_env": "SERVER_KEY", "concurrency": 8}
    tree = {"limit": 1, "generated_images": 1, "max_new_tokens": 3, "replicates": 50, "suite": "all", "gate": "all"}
    tree |= {"conditions": {"base": ["image"], "tuned": ["image"]}, "servers": {"other": settings}}
    params = parse(evaluate.Params, tree, "evaluate")
    inputs = {"sources": demo_sources, "tune": model_folders, "validate": release}
    summary = evaluate.run(params, inputs, output, Context(seed=1, home=tmp_path, root=repository()))
    card = json.loads((output / "scorecard.json").read_text())
    assert {row["model"] for row in card["benchmarks"][0]["scores"]} == {"base", "tuned", "other"}
    assert "other" in (output / "scorecard.html").read_text()
    assert summary["details"]["cost"]["other/image"]["questions"] > 0
    assert all(KEY not in path.read_text() for path in tmp_path.rglob("*.json*"))
    with pytest.raises(VistuneError, match=r"evaluate\.servers has base"):
        evaluate.run(
            replace(params, servers={"base": params.servers["other"]}),
            inputs,
            output,
            Context(1, tmp_path, repository()),
        )
