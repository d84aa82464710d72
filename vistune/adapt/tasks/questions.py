"""Tasks made of the questions that people asked about the image, always in their own language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from vistune.adapt import Params
from vistune.adapt.choices import MOST, shuffle
from vistune.adapt.draws import Draws
from vistune.adapt.language import Language
from vistune.adapt.scene import Scene
from vistune.adapt.tasks.found import Candidate, Found, Refused
from vistune.records import Question

YES_NO = ("yes", "no")
"""VQA answers are lower case; yes and no are written as the presence task writes them."""

NUMBERS = 4
"""Choices of a question that asks for a number."""

MAX_NAMED = 40
"""Characters of an answer whose question can be guessed from it."""


def vqa(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """The data set's own questions. Those whose answer is text to be read are `extractive_qa`, those that come with a
    passage are `science_choice`."""
    questions, faults = scene.questions(language.code)
    for reason, detail in faults:
        yield Refused(reason, detail)
    usable = [q for q in questions if not q.extractive and _open(q)]
    for q in draws.pick(usable, params.per_image.vqa):
        given = q.answer.strip()
        polarity = given.lower() if given.lower() in YES_NO else ""
        kind = "short" if language.short(given) else "long"
        slots = {"question": q.text.strip(), "answer": polarity or given}
        yield Candidate(slots, (q.id,), (), kind, polarity)


def vqa_sentence(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Questions whose data set gives the answer as a sentence."""
    usable = [q for q in _asked(scene, language) if q.sentence and len(language.words.findall(q.sentence)) > 1]
    for q in draws.pick(usable, params.per_image.vqa_sentence):
        sentence = language.sentence(" ".join(q.sentence.split()))
        yield Candidate({"question": q.text.strip(), "answer": sentence}, (q.id,))


def vqa_choice(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """The data set's own choices; or yes and no; or, where a number is asked for, other numbers that nobody gave. No
    other answer is provably wrong."""
    usable = [q for q in _asked(scene, language) if not q.context and not q.extractive]
    for q, options, listed in islice(_with_choices(usable, draws), params.per_image.vqa_choice):
        choices = shuffle(options, options.index(q.answer) if listed else 0, draws)
        yield Candidate({"question": q.text.strip()}, (q.id,), choices=choices, listed=listed)


def _with_choices(questions: list[Question], draws: Draws) -> Iterator[tuple[Question, Sequence[str], bool]]:
    """Questions with the choices that they have or prove, and whether they are the source's own."""
    for q in draws.order(questions):
        listed = _listed(q)
        options = listed or _provable(q, draws)
        if options:
            yield q, options, bool(listed)


def question_generation(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Which question about the image has this answer? Every question that is answered by yes or no would do."""
    usable = [
        q
        for q in _asked(scene, language)
        if _open(q) and len(q.answer) <= MAX_NAMED and q.answer.strip().lower() not in YES_NO
    ]
    for q in draws.pick(usable, params.per_image.question_generation):
        yield Candidate({"question": q.text.strip(), "answer": q.answer.strip()}, (q.id,))


def extractive_qa(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Questions whose answer is text that can be read in the image."""
    usable = [q for q in _asked(scene, language) if q.extractive]
    for q in draws.pick(usable, params.per_image.extractive_qa):
        answer = " ".join(q.answer.split())
        yield Candidate({"question": q.text.strip(), "answer": answer}, (q.id,))


def science_choice(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Questions with choices, and a passage that has to be read along with the image."""
    usable = [(q, c) for q in _asked(scene, language) if q.context.strip() and (c := _listed(q))]
    for q, options in draws.pick(usable, params.per_image.science_choice):
        slots = {"question": q.text.strip(), "context": q.context.strip()}
        choices = shuffle(options, options.index(q.answer), draws)
        yield Candidate(slots, (q.id,), choices=choices, listed=True)


def science_reasoning(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Questions with choices that are answered by a rationale first and the choice after it."""
    usable = [
        (q, c, given)
        for q in _asked(scene, language)
        if (c := _listed(q)) and (given := [r.strip() for r in q.rationales if r.strip()])
    ]
    for q, options, rationales in draws.pick(usable, params.per_image.science_reasoning):
        slots = {"question": q.text.strip(), "rationale": rationales[draws.below(len(rationales))]}
        kind = "plain"
        if q.context.strip():
            slots["context"] = q.context.strip()
            kind = "context"
        choices = shuffle(options, options.index(q.answer), draws)
        yield Candidate(slots, (q.id,), kind=kind, choices=choices, listed=True)


def _asked(scene: Scene, language: Language) -> list[Question]:
    return scene.questions(language.code)[0]


def _open(q: Question) -> bool:
    """Whether the question can be asked without its choices: people answered it so, or it has none."""
    return not q.context and (not q.choices or len(q.answers) > 1)


def _listed(q: Question) -> tuple[str, ...]:
    """The source's choices, if they are a question at all."""
    usable = 2 <= len(q.choices) <= MOST and len(set(q.choices)) == len(q.choices) and q.answer in q.choices
    return q.choices if usable else ()


def _provable(q: Question, draws: Draws) -> Sequence[str]:
    """The answer and others that it proves wrong."""
    given = q.answer.strip()
    answers = {a.strip().casefold() for a in q.answers} | {given.casefold()}
    if given.casefold() in YES_NO:
        right = given.casefold()
        return (right, YES_NO[right == "yes"]) if len(answers & set(YES_NO)) == 1 else ()
    if given.isascii() and given.isdigit() and len(given) <= 2:
        near = [str(n) for n in range(max(int(given) - NUMBERS, 0), int(given) + NUMBERS + 1)]
        others = draws.pick([n for n in near if n not in answers and n != str(int(given))], NUMBERS - 1)
        return (given, *others) if len(others) == NUMBERS - 1 else ()
    return ()
