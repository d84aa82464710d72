"""lm-eval's view of a model: log-likelihoods and answers about images, each computed once.

lm-eval hands over single (question, answer, image) requests. Here equal ones are asked once, what the log knows is not
asked again, and the rest goes to an engine: one of our models (`engine`), or one behind a server (`server`). On
several processes (torch.distributed) each has all requests and computes a share of the batches; all have all answers
afterwards, in the order of the requests, so to lm-eval there is one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from vistune.errors import VistuneError
from vistune.evaluate import questions as asking
from vistune.evaluate.images import Pictures, Shown
from vistune.evaluate.questions import Question
from vistune.evaluate.ranks import Team, together
from vistune.evaluate.responses import ResponseLog
from vistune.hashing import digest
from vistune.progress import Progress

Part = tuple[int, int]


class Work(Protocol):
    """Values that are computed together."""

    @property
    def parts(self) -> list[Part]: ...

    def only(self, wanted: set[Part]) -> Self: ...


class Answering(Protocol):
    """`plan` is a pure function of the questions; `stream` gives the values of each batch once they are there, and
    gives them to `keep` before, in whatever thread."""

    fingerprint: str  # of the model and the code that runs it
    tokens: int  # planned so far
    note: str  # why nothing is shared between questions, if so
    spent: dict[str, float]  # what answering took in this run, by name

    def plan(self, questions: Sequence[Question]) -> list[list[Any]]: ...

    def stream(
        self, planned: Sequence[list[Any]], keep: Callable[[dict[Part, Any]], None]
    ) -> Iterator[tuple[list[Any], dict[Part, Any]]]: ...

    def windows(self, text: str) -> list[Question]: ...


class LogLikelihood(tuple[float, bool]):
    """lm-eval's (sum of log-probabilities, every token is the most likely one), and the number of tokens."""

    tokens: int

    def __new__(cls, total: float, greedy: bool, tokens: int) -> LogLikelihood:
        pair = super().__new__(cls, (total, greedy))
        pair.tokens = tokens
        return pair

    @property
    def mean(self) -> float:
        return self[0] / self.tokens


@register_model("vistune")
class VistuneLM(LM):
    """log: None to remember nothing; shown: what the model sees instead of an image; versions: of tasks, by name; team:
    the processes that answer together, else all that torch.distributed knows."""

    MULTIMODAL = True

    def __init__(
        self,
        engine: Answering,
        pictures: Pictures,
        log: ResponseLog | None = None,
        shown: Shown = lambda image: image,
        label: str = "evaluate",
        versions: Mapping[str, Any] | None = None,
        team: Team | None = None,
    ) -> None:
        super().__init__()
        self.team = team or together()
        self.engine, self.pictures, self.log, self.shown, self.label = engine, pictures, log, shown, label
        self.versions = dict(versions or {})
        self.cost = {"tokens": 0, "batches": 0, "batches_from_log": 0, "questions": 0}

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> VistuneLM:
        """For lm-eval's own door, after `import vistune.evaluate.lm`: model="vistune", model_args of `open_model`."""
        return open_model(**arg_dict)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> VistuneLM:
        from lm_eval.utils import simple_parse_args_string

        return open_model(**simple_parse_args_string(arg_string))

    def loglikelihood(self, requests: Sequence[Instance]) -> list[LogLikelihood]:
        """Of answers of the assistant, with what ends them; blanks around an answer belong to the chat template."""
        found: dict[str, tuple[Question, dict[str, int]]] = {}
        where: list[tuple[str, int]] = []
        for request in requests:
            question = self._asked(request)
            answers = found.setdefault(question.identity, (question, {}))[1]
            where.append((question.identity, answers.setdefault(request.args[1].strip(), len(answers))))
        values = self.values({name: replace(q, answers=tuple(answers)) for name, (q, answers) in found.items()})
        return [LogLikelihood(*values[name][part]) for name, part in where]

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        asked = [asking.wanted(self._asked(request), request.args[1]) for request in requests]
        values = self.values({question.identity: question for question in asked}, "free")
        return [values[question.identity][0][0] for question in asked]

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Of running text, without a chat template."""
        windows: list[list[Question]] = []
        for request in requests:
            if len(request.args) > 1 and request.args[1].get("visual"):
                raise VistuneError(f"task {request.task_name} asks for the perplexity of text with images.")
            task = str(request.task_name)
            found = self.engine.windows(request.args[0])
            windows.append([replace(w, task=task, version=str(self.versions.get(task, ""))) for w in found])
        values = self.values({w.identity: w for one in windows for w in one}, "text")
        return [sum(values[w.identity][0][0] for w in one) for one in windows]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The turns as a context. The template itself is applied to token ids, for every request, so that no text can
        turn into a control token."""
        return asking.written(chat_history, add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        return self.engine.fingerprint

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return ""

    def _asked(self, request: Instance) -> Question:
        context, _, *rest = request.args
        task = str(request.task_name)
        visuals = (rest[0].get("visual") or []) if rest else []
        images = [self.shown(self.pictures.take(visual, task)) for visual in visuals]
        return asking.asked(context, images, task, str(self.versions.get(task, "")))

    def values(self, asked: Mapping[str, Question], kind: str = "") -> dict[str, list[Any]]:
        """The values of each question by its identity: from the log, else computed, logged, and only then used. The
        others of a team are told what is asked, and call this with it."""
        if not self.team.rank:
            self.team.tell(("ask", (asked, kind, self.label)))
        names = sorted(asked, key=lambda name: (_order(asked[name]), name))  # whatever order lm-eval asks in
        questions = [asked[name] for name in names]
        keys = {
            (n, part): digest([self.engine.fingerprint, names[n], answer])
            for n, question in enumerate(questions)
            for part, answer in enumerate(question.answers or [""])
        }
        known = self._known({part: key for part, key in keys.items() if not questions[part[0]].temperature})
        before = self.engine.tokens
        planned = self.engine.plan(questions)
        missing = keys.keys() - known.keys()
        todo = [[w for work in batch if (w := work.only(missing)).parts] for batch in planned]
        todo = [batch for batch in todo if batch]
        mine = todo[self.team.rank :: self.team.size]
        values: dict[Part, Any] = dict(known)
        label = f"{self.label}, {kind}" if kind else self.label

        def keep(found: dict[Part, Any]) -> None:
            final = {p: v for p, v in found.items() if not questions[p[0]].temperature and _whole(v)}
            if self.log is not None and final:
                self.log.add({keys[part]: value for part, value in final.items()})

        ready = len({n for n, _ in known} - {n for n, _ in missing})
        share = len({n for batch in mine for work in batch for n, _ in work.parts})
        with Progress(label, 0 if self.team.rank else ready + share, "answers" if kind else "questions") as progress:
            if ready and not self.team.rank:
                progress.step(ready)
            for batch, found in self.engine.stream(mine, keep):
                values |= found
                if not self.team.rank:
                    progress.step(len({n for work in batch for n, _ in work.parts}))
        for others in self.team.gathered({part: values[part] for part in missing if part in values}):
            values |= others
        if lost := [questions[n] for n, part in sorted(missing) if (n, part) not in values]:
            raise VistuneError(
                f"{len(lost)} of {len(keys)} answers are missing, the first of task {lost[0].task}: the server gave "
                "none. Those it gave are kept: run again, and only the rest is asked."
            )
        self.cost["tokens"] += self.engine.tokens - before
        self.cost["questions"] += len(questions)
        self.cost["batches"] += len(todo)
        self.cost["batches_from_log"] += len(planned) - len(todo)
        return {name: [values[n, part] for part in range(questions[n].parts)] for n, name in enumerate(names)}

    def _known(self, keys: Mapping[Part, str]) -> dict[Part, Any]:
        """What the log holds; on several processes what it holds for the first, so that all plan the same."""
        if self.log is not None:
            self.log.refresh()
        found = {part: self.log.get(key) for part, key in keys.items()} if self.log is not None else {}
        return self.team.gathered({part: value for part, value in found.items() if value is not None})[0]


def open_model(
    pretrained: str, dtype: str = "auto", batch_tokens: int = 2048, evidence: str = "", log: str = "", images: str = "."
) -> VistuneLM:
    """pretrained: a folder; evidence: file of what other models saw in the images (MoAI); log: file of answers, from
    which a killed run goes on; images: folder of relative image paths."""
    from vistune.evaluate import engine
    from vistune.evaluate.digests import model_digest
    from vistune.files import tree_digest
    from vistune.models.vlm import load_model

    vlm, pictures = load_model(pretrained, dtype), Pictures(Path(images))
    aside = engine.read_evidence(evidence)
    folder = Path(pretrained)
    named = model_digest(folder, Path(log).parent) if log else tree_digest(folder)
    made = engine.Engine(vlm, pictures, fingerprint(named, vlm, evidence), batch_tokens, aside)
    return VistuneLM(made, pictures, ResponseLog(Path(log)).__enter__() if log else None)


def fingerprint(model: str, vlm: Any, evidence: str = "") -> str:
    """Names everything but the question that an answer of one of our models depends on. model: digest of its files."""
    from vistune.hashing import file_digest

    dtype = str(vlm.model.get_input_embeddings().weight.dtype).removeprefix("torch.")
    aside = [file_digest(Path(evidence))] if evidence else []
    return digest([model, dtype, vlm.model.device.type, code_digest(), *aside])


def code_digest() -> str:
    """Digest of the code that computes answers, and of the libraries under it."""
    import torch
    import transformers

    from vistune import models
    from vistune.files import files_under
    from vistune.hashing import file_digest

    names = ("engine", "decoding", "prefixes", "packing", "sequences", "questions", "lm", "images")
    sources = [Path(__file__).with_name(f"{name}.py") for name in names]
    sources += [p for p in files_under(Path(models.__file__).parent) if p.suffix == ".py"]
    return digest([[p.name, file_digest(p)] for p in sources] + [torch.__version__, transformers.__version__])


def _order(question: Question) -> tuple[list[str], list[str]]:
    return [image.sha256 for image in question.images], [turn.text for turn in question.turns]


def _whole(value: Any) -> bool:
    """Not an answer that a server withheld."""
    return not isinstance(value[0], str) or value[1] in ("stop", "length")
