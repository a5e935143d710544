"""The chat template of a model: what it makes of messages, which arguments it reads, and how it ends an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from treeagent.chat import SWITCHES, Chat
from treeagent.errors import BackendError, did_you_mean

_ANSWER = "treeagent-answer"
"""A text that no template writes itself."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The chat template of a tokenizer of transformers."""

    tokenizer: Any
    marks: Sequence[str] = ()
    """The marks of thinking; none where thinking is not told from the text."""

    def rendered(self, messages: Sequence[dict[str, str]], chat: Chat) -> str:
        """The text that the model reads. Raises BackendError for what the template refuses or does not read."""
        self._check(chat)
        arguments = {**chat.arguments, "tokenize": False, "add_generation_prompt": True}
        try:
            rendered: str = self.tokenizer.apply_chat_template(list(messages), **arguments)
        except (TemplateError, TypeError, ValueError) as error:
            raise BackendError(f"the chat template of the model refuses the messages: {error}") from error
        return rendered

    def ends(self) -> frozenset[int]:
        """The special token that the template writes after an answer, where it writes one."""
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": _ANSWER}]
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except (TemplateError, TypeError, ValueError):  # a template that takes other messages
            return frozenset()
        after = text.rpartition(_ANSWER)[2].lstrip()
        special = [word for word in map(str, self.tokenizer.all_special_tokens) if word and after.startswith(word)]
        added = {str(token): place for place, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        special += [word for word in added if after.startswith(word)]
        token = self.tokenizer.convert_tokens_to_ids(max(special, key=len)) if special else None
        return frozenset([token] if isinstance(token, int) else ())

    def _check(self, chat: Chat) -> None:
        """Raise BackendError for an argument that the template does not read, which would change nothing."""
        if not chat.template and chat.thinking is not False:
            return
        source = str(self.tokenizer.chat_template)
        words = set(re.findall(r"[A-Za-z_]\w*", source))
        for name in chat.template:
            if name not in words:
                raise BackendError(
                    f"the chat template of the model reads no argument {name!r}.{did_you_mean(name, words)}"
                )
        if chat.thinking is False and words.isdisjoint(SWITCHES) and any(mark in source for mark in self.marks):
            raise BackendError(
                f"the chat template of the model opens thinking and cannot switch it off: it reads none of "
                f"{', '.join(SWITCHES)}. Leave sampling.ROLE.thinking out, or give a number of tokens"
            )
