"""What the authors' own label code computes where it is not what `labels.py` computes: for exact reproduction only.

Most training scripts find answers by counting tokens of pieces of the prompt, and ignore a whole conversation when the
counts do not add up; others search for the answer's tokens, split raw text, or shift labels in the data. Everything
here works on token ids and on a `count` of tokens, so it reproduces the authors' labels with any tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from vistune.errors import VistuneError
from vistune.models.labels import IGNORE

Count = Callable[[str], int]
"""Tokens of a text, with those that the tokenizer puts before every text (BOS)."""


@dataclass(frozen=True)
class Counting:
    """Arithmetic of one script. The text is split into rounds of question and answer at `end`; in each round, `count`
    of the part up to and with `header` is not learned. The pairs are what is added to a count in the first round and in
    later ones; `legacy` and `modern` are added to both counts for tokenizers of that kind."""

    header: str
    end: str
    start: int = 1
    rounds: Literal["answers", "first of three", "pairs"] = "answers"
    question: tuple[int, int] = (0, 0)
    whole: tuple[int, int] = (0, 0)
    legacy: tuple[int, int] = (0, 0)
    modern: tuple[int, int] = (0, 0)

    def split(self, text: str) -> list[str]:
        pieces = text.split(self.end)
        if self.rounds == "answers":
            return pieces
        first = 3 if self.rounds == "first of three" else 2  # the system message is a piece of its own
        starts = [0, *range(first, len(pieces), 2)]
        return [self.end.join(pieces[a:b]) for a, b in zip(starts, [*starts[1:], len(pieces)], strict=True)]


_VICUNA = Counting(" ASSISTANT: ", "</s>", question=(-2, -2), modern=(0, -1))
_LLAMA_2 = Counting("[/INST] ", "</s>", question=(-2, -2))
_MPT = Counting("<|im_end|><|im_start|>assistant\n", "<|im_end|>", rounds="first of three")

COUNTING: dict[str, Counting] = {
    "vicuna": _VICUNA,  # LLaVA, NeXT, MGM, mPLUG-Owl2
    "older_vicuna": Counting(" ASSISTANT: ", "</s>", question=(-2, -2)),  # LLaVA-HR, LLaVA-UHD, ViP-LLaVA
    "llama_2": _LLAMA_2,
    "llava_mpt": Counting(_MPT.header, _MPT.end, 0, _MPT.rounds, question=(-1, -1), legacy=(0, 1)),
    "next_mpt": Counting(_MPT.header, _MPT.end, 1, _MPT.rounds, question=(-1, -1), legacy=(0, 1)),
    "next_gemma": Counting(
        "<end_of_turn>\n<start_of_turn>model\n", "<end_of_turn>\n", rounds="pairs", question=(-1, -1), whole=(1, 1)
    ),
    "mgm_mpt": Counting(_MPT.header, _MPT.end, 0, _MPT.rounds, question=(-1, -1), legacy=(1, 1)),
    "mgm_llama_3": Counting(
        "<|eot_id|><|start_header_id|>system<|end_header_id|>\n\n",
        "<|eot_id|>",
        rounds="first of three",
        question=(-1, -1),
    ),
    "mgm_gemma": Counting("<start_of_turn>model\n", "<eos>", question=(-1, -1)),
    "internvl_mpt": Counting(_MPT.header, _MPT.end, 0, _MPT.rounds, whole=(1, 1)),
    "internvl_phi3": Counting(
        "<|end|><|assistant|>\n", "<|end|>", 1, "first of three", question=(-1, -2), whole=(0, -1)
    ),
}


class Counted(NamedTuple):
    learned: list[bool]  # of each token, before the check
    matches: bool  # the counts add up to the conversation's length; else the authors ignore it all


def counted(text: str, tokens: int, rule: Counting, count: Count, legacy: bool = True, limit: int = 2048) -> Counted:
    """Which of a conversation's `tokens` (BOS included, cut at `limit`) are learned.
    The check is for conversations whose count stays under `limit`."""
    learned = [False] * tokens
    at = rule.start
    extra = rule.legacy if legacy else rule.modern
    for n, part in enumerate(rule.split(text)):
        sides = part.split(rule.header)
        if len(sides) != 2:
            break
        later = int(n > 0)
        question = count(sides[0] + rule.header) + rule.question[later] + extra[later]
        end = at + count(part) + rule.whole[later] + extra[later]
        for t in range(at, min(end, tokens)):
            learned[t] = t >= at + question
        at = end
    return Counted(learned, at >= limit or at == tokens)


def searched(ids: Sequence[int], answers: Sequence[Sequence[int]], ignored: int = 0) -> list[int]:
    """Labels of SPHINX: each answer (with its end) is looked for in the tokens after the one before, so an answer that
    its question ends with is learned there; what is not learned has the label 0, and token 0 can never be learned."""
    labels, at = [ignored] * len(ids), 0
    for answer in answers:
        places = range(at, len(ids) - len(answer) + 1)
        found = next((t for t in places if list(ids[t : t + len(answer)]) == list(answer)), None)
        if found is None:
            raise ValueError(
                f"the answer of {len(answer)} tokens is not among the {len(ids)} tokens of the conversation"
            )
        at = found + len(answer)
        labels[found:at] = answer
    return labels


def headed(ids: Sequence[int], header: Sequence[int], end: int) -> list[bool]:
    """Learned tokens of MiniCPM-V 2.5 and 2.6: from behind each header of an answer to the first `end` that is not the
    very next token. So an empty answer is not learned, and the question after it is."""
    found = [False] * len(ids)
    for start in range(len(header), len(ids)):
        if list(ids[start - len(header) : start]) == list(header) and end in ids[start + 1 :]:
            stop = list(ids).index(end, start + 1) + 1
            found[start:stop] = [True] * (stop - start)
    return found


def shifted(ids: Sequence[int], labels: Sequence[int], end: int) -> list[int]:
    """Targets of MiniCPM-V: position t holds what t + 1 is, for a loss that does not shift; and the token after each
    answer is replaced by its end, also where the answer has that end already."""
    targets = [*labels[1:], IGNORE]
    for t in range(1, len(ids)):
        if labels[t] == IGNORE and labels[t - 1] != IGNORE:
            targets[t - 1] = end
    return targets


def cogvlm_limit(context: int, images: int, features: int, limit: int) -> int:
    """Tokens of a conversation of CogVLM, its EOS included, whose `context` (BOS, images, question) is so long. The
    authors count an image as one token when they cut, but leave room for one. Raises VistuneError for a context that
    leaves fewer than 10 tokens of `limit`."""
    if context > limit - 10:
        raise VistuneError(f"a question of {context} tokens leaves no room for an answer; the limit is {limit}.")
    return limit - features - 5 + images * (features + 1) + 1


def completion(text: str, media: int, room: int, encode: Callable[[str], list[int]], bos: int, eos: int) -> Completion:
    """mPLUG-Owl's raw text: every piece after "AI: " is an answer and gets an end, also where an answer itself says
    "AI: " and where its end is cut off. `media` tokens (ids -1) an image; one that does not fit ends the text."""
    shows = "<image>" in text
    marks = ["<image>", "AI: ", "\nHuman: "] if shows else ["AI: ", "\nHuman: "]
    pieces = re.split(f"({'|'.join(map(re.escape, marks))})", text)
    if shows:
        pieces = [piece for piece in pieces if piece]  # so an empty answer has no end
    ids = [bos, *encode(pieces[0])]
    learned = [False] * len(ids)
    for before, piece in pairwise(pieces):
        if shows and len(ids) > room:
            break
        if piece == "<image>":
            if len(ids) + media > room + 1:
                break
            ids += [-1] * media
            learned += [False] * media
            continue
        answer, added = before == "AI: ", encode(piece)
        space = room - len(ids) + (not answer)
        full = len(added) >= space
        added = (added[:space] if full else added) + [eos] * answer
        ids += added
        learned += [answer] * len(added)
        if full and not shows:
            break
    return Completion(ids, learned)


class Completion(NamedTuple):
    ids: list[int]
    learned: list[bool]
