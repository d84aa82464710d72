"""Conversations as token ids, with the spans that are learned.

ChatML, as SmolLM2, Qwen and others use it. Text of users and data never becomes a control token: it is encoded with
special tokens split, so a sample that contains "<|im_end|>" cannot end a turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vistune.records import Message

IMAGE = "<image>"
IGNORE = -100


class Chat:
    """Renders for one tokenizer. `tokens_per_image` placeholders stand for each image."""

    def __init__(self, tokenizer: Any, image_token_id: int, tokens_per_image: int) -> None:
        self.tokenizer = tokenizer
        self.image_token_id = image_token_id
        self.tokens_per_image = tokens_per_image
        self.end_id: int = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self._start = self._control("<|im_start|>")
        self._user = self._start + self.text("user\n")
        self._assistant = [self.end_id, *self.text("\n"), *self._start, *self.text("assistant\n")]
        self._newline = self.text("\n")

    def _control(self, token: str) -> list[int]:
        return [self.tokenizer.convert_tokens_to_ids(token)]

    def text(self, text: str) -> list[int]:
        """Ids of plain text; control tokens spelled in it stay text."""
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def prefix(self, images: int = 1) -> list[int]:
        """Everything before the first question: shared by all conversations about the same images."""
        picture = [self.image_token_id] * self.tokens_per_image + self._newline
        return self._user + picture * images

    def question(self, text: str) -> list[int]:
        """The user's words, the end of the turn, and the assistant's header."""
        return self.text(text) + self._assistant

    def answer(self, text: str) -> list[int]:
        """The assistant's words and the end of the turn."""
        return [*self.text(text), self.end_id]

    def turns(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """Ids and labels of a conversation after its `prefix`: labels are the ids of the assistant's words and
        ends of turn, IGNORE elsewhere. Raises ValueError unless user and assistant alternate."""
        ids: list[int] = []
        labels: list[int] = []
        for n, message in enumerate(messages):
            expected = "user" if n % 2 == 0 else "assistant"
            if message.role != expected:
                raise ValueError(f"message {n} has the role {message.role}; expected {expected}")
            if expected == "user":
                lead = [*self._newline, *self._user] if n else []
                part = lead + self.question(message.text)
                labels += [IGNORE] * len(part)
            else:
                part = self.answer(message.text)
                labels += part
            ids += part
        if len(messages) < 2 or len(messages) % 2:
            raise ValueError(f"{len(messages)} messages; expected questions with an answer each")
        return ids, labels

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()
