"""lm-eval's view of our models: log-likelihoods and greedy answers about images.

lm-eval hands over single (question, answer, image) requests. Here they are grouped by image, questions and answers
of one image share one packed row, and rows are batched by length. Visuals are image references, opened only when
their features are needed, so no decoded picture waits in memory. `sequences` serves the families that this form does
not fit.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from vistune.errors import VistuneError
from vistune.evaluate import engine
from vistune.evaluate.images import Features, Shown
from vistune.evaluate.packing import Ask, Row, batches, lay_out, split
from vistune.evaluate.responses import ResponseLog
from vistune.hashing import digest
from vistune.models.generation import decode_greedy
from vistune.progress import Progress
from vistune.records import ImageRef

ROW_TOKENS = 512
"""Rows longer than this are split at a question: attention over a row costs its square."""

GENERATE_ROWS = 64

Key = tuple[str, str]  # digests of the images that are shown, joined by commas ("" for none); question


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


class VistuneLM(LM):
    """`fingerprint` names the model's weights and the code that runs them; it is part of every log key."""

    MULTIMODAL = True
    most_images = 1  # in one question

    def __init__(
        self,
        model: Any,
        features: Features,
        log: ResponseLog,
        fingerprint: str,
        shown: Shown = lambda image: image,
        batch_tokens: int = 2048,
        label: str = "evaluate",
    ) -> None:
        super().__init__()
        self.model, self.features, self.log, self.fingerprint = model, features, log, fingerprint
        self.shown, self.batch_tokens, self.label = shown, batch_tokens, label
        self.cost = {"tokens": 0, "batches": 0, "batches_from_log": 0, "questions": 0}

    def loglikelihood(self, requests: Sequence[Instance]) -> list[LogLikelihood]:
        wanted: dict[Key, dict[str, None]] = defaultdict(dict)  # question -> its answers, each once, in order
        images: dict[str, ImageRef] = {}
        where: list[tuple[Key, str]] = []
        for request in requests:
            context, continuation, visuals = self._parts(request)
            question = (self._note(visuals, images), context)
            wanted[question][continuation] = None
            where.append((question, continuation))

        planned = self._rows(wanted, images)
        scores: dict[tuple[Key, str], LogLikelihood] = {}
        with Progress(self.label, len(wanted), "questions") as progress:
            for batch in self._batches(planned):
                names = [(q, answer) for questions, _ in batch for q in questions for answer in wanted[q]]
                answers = self._score([row for _, row in batch], [qs[0][0] for qs, _ in batch], images)
                scores |= {name: LogLikelihood(*answer) for name, answer in zip(names, answers, strict=True)}
                progress.step(sum(len(questions) for questions, _ in batch))
        self.cost["questions"] += len(wanted)
        return [scores[name] for name in where]

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        wanted: dict[tuple[int, bool], dict[Key, None]] = defaultdict(dict)  # (longest answer, blind) -> questions
        images: dict[str, ImageRef] = {}
        where: list[tuple[tuple[int, Key], list[str]]] = []
        for request in requests:
            context, arguments, visuals = self._parts(request)
            if arguments.get("do_sample") or float(arguments.get("temperature") or 0) > 0:
                raise VistuneError(f"task {request.task_name} asks for sampling; evaluation decodes greedily only.")
            question = (self._note(visuals, images), context)
            longest = int(arguments.get("max_gen_toks", 32))
            wanted[longest, not visuals][question] = None
            stops = arguments.get("until") or []
            where.append(((longest, question), [stops] if isinstance(stops, str) else list(stops)))

        texts: dict[tuple[int, Key], str] = {}
        total = sum(map(len, wanted.values()))
        with Progress(f"{self.label}, free", total, "answers") as progress:
            for (longest, _), group in sorted(wanted.items()):
                questions = sorted(group)
                for start in range(0, len(questions), GENERATE_ROWS):
                    part = questions[start : start + GENERATE_ROWS]
                    answers = self._decode(part, images, longest)
                    texts |= {(longest, q): text for q, text in zip(part, answers, strict=True)}
                    progress.step(len(part))
        self.cost["questions"] += total
        return [_before(texts[name], stops) for name, stops in where]

    def _score(self, rows: Sequence[Row], shas: list[str], images: Mapping[str, ImageRef]) -> list[Any]:
        """One forward pass: `shas[n]` is the image of `rows[n]`; either all rows have one or none has."""

        def compute() -> list[Any]:
            features = self.features([images[sha] for sha in shas]) if shas[0] else None
            return [list(answer) for answer in engine.score(self.model, rows, features)]

        fed = [shas, [[r.ids, r.places, r.question, r.answer, r.reads] for r in rows]]
        self.cost["tokens"] += sum(len(r.ids) for r in rows)
        return self._once(["score", *fed], sum(len(r.lengths) for r in rows), compute)

    def _decode(self, questions: Sequence[Key], images: Mapping[str, ImageRef], longest: int) -> list[str]:
        """Free answers; either all questions show an image or none does."""
        prefix = self.model.chat.prefix(images=1 if questions[0][0] else 0)
        asked = [self.model.chat.question(text) for _, text in questions]
        shas = sorted({sha for sha, _ in questions})
        of = [shas.index(sha) for sha, _ in questions]

        def compute() -> list[list[int]]:
            features = self.features([images[sha] for sha in shas]) if shas != [""] else None
            return decode_greedy(self.model, prefix, features, asked, of, longest)

        answers = self._once(["generate", longest, prefix, shas, of, asked], len(asked), compute)
        self.cost["tokens"] += len(prefix) * len(shas) + sum(map(len, asked)) + sum(map(len, answers))
        return [self.model.chat.decode(answer) for answer in answers]

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        names = ", ".join(sorted({str(r.task_name) for r in requests}))
        raise VistuneError(
            f"perplexity of running text is not measured for image models (tasks {names}). "
            "Use tasks of type multiple_choice or generate_until."
        )

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The user's words of a zero-shot question. The template itself is applied to token ids, for every request,
        so that no text can turn into a control token. Raises VistuneError for system or few-shot turns."""
        if len(chat_history) != 1 or chat_history[0]["role"] != "user" or not add_generation_prompt:
            roles = ", ".join(turn["role"] for turn in chat_history)
            raise VistuneError(f"only single questions are evaluated (zero-shot); this prompt has the turns {roles}.")
        return chat_history[0]["content"]

    @property
    def tokenizer_name(self) -> str:
        return self.fingerprint

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return ""

    def _parts(self, request: Instance) -> tuple[str, Any, list[ImageRef]]:
        """(question, continuation or generation arguments, the images that are shown)."""
        context, second, *rest = request.args
        visuals = rest[0].get("visual", []) if rest else []
        if len(visuals) > self.most_images:
            raise VistuneError(f"task {request.task_name} shows {len(visuals)} images in one question; expected one.")
        try:
            images = [self.shown(ImageRef(**visual)) for visual in visuals]
        except TypeError:
            raise VistuneError(
                f"task {request.task_name} gives {type(visuals[0]).__name__} as its visual; expected an image "
                "reference (sha256, width, height, format, path), as vistune.evaluate.tasks.docs makes them."
            ) from None
        return context, second, [image for image in images if image is not None]

    def _note(self, shown: Sequence[ImageRef], images: dict[str, ImageRef]) -> str:
        images.update({image.sha256: image for image in shown})
        return ",".join(image.sha256 for image in shown)

    def _rows(
        self, wanted: Mapping[Key, Mapping[str, None]], images: Mapping[str, ImageRef]
    ) -> list[tuple[list[Key], Any]]:
        """The questions about each image in packed rows of at most ROW_TOKENS."""
        chat = self.model.chat
        planned = []
        for sha, group in itertools.groupby(sorted(wanted), key=lambda question: question[0]):
            questions = list(group)
            prefix = chat.prefix(images=1 if sha else 0)
            asks = [Ask(tuple(chat.question(q[1])), tuple(tuple(chat.answer(a)) for a in wanted[q])) for q in questions]
            for part in split(len(prefix), [ask.tokens for ask in asks], ROW_TOKENS):
                planned.append(([questions[n] for n in part], lay_out(prefix, [asks[n] for n in part])))
        return planned

    def _batches(self, planned: Sequence[tuple[list[Key], Any]]) -> Iterator[list[tuple[list[Key], Any]]]:
        """Rows with and without an image never share a batch: the model takes one image for every row, or none."""
        for blind in (False, True):
            chosen = [entry for entry in planned if (not entry[0][0][0]) == blind]
            for batch in batches([len(row.ids) for _, row in chosen], self.batch_tokens):
                yield [chosen[n] for n in batch]

    def _once(self, fed: list[Any], count: int, compute: Callable[[], list[Any]]) -> list[Any]:
        """The batch's answers from the log, else computed and logged."""
        key = digest([self.fingerprint, *fed])
        known = self.log.get(key, count)
        if known is not None:
            self.cost["batches_from_log"] += 1
            return known
        answers = compute()
        self.log.add(key, answers)
        self.cost["batches"] += 1
        return answers


def code_digest() -> str:
    """Digest of the code that computes answers, and of the libraries under it."""
    import torch
    import transformers

    from vistune import models
    from vistune.files import files_under
    from vistune.hashing import file_digest

    here = Path(__file__).parent
    sources = [here.parent / "models" / "generation.py"] + [
        here / name for name in ("engine.py", "packing.py", "lm.py", "sequences.py", "images.py")
    ]
    sources += [p for p in files_under(Path(models.__file__).parent) if p.suffix == ".py"]
    return digest([[p.name, file_digest(p)] for p in sources] + [torch.__version__, transformers.__version__])


def _before(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string.

    >>> _before("a cat. A dog.", [".", "!"])
    'a cat'
    """
    ends = [text.index(stop) for stop in stops if stop and stop in text]
    return text[: min(ends)].strip() if ends else text
