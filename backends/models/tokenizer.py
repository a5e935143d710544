"""Tokenizer and chat template of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from treeagent.errors import BackendError, ModelError
from treeagent.reasoning import Thinking

from .loader import _source, explained


@dataclass(frozen=True, slots=True)
class ChatTokenizer:
    """A tokenizer, and how it is used."""

    tokenizer: Any
    chat: bool
    """Whether prompts are sent through the model's chat template, as one user message."""
    thinking: Thinking | None = None
    """Marks of the thinking that is cut off completions."""

    def prompt(self, prompt: str) -> list[int]:
        """Token ids of a prompt, never empty. Raises BackendError when there is no token to begin with."""
        if self.chat:
            message = [{"role": "user", "content": prompt}]
            rendered = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
            ids = self.continuation(rendered)
        else:
            ids = list(self.tokenizer(prompt)["input_ids"])
        if ids:
            return ids
        for start in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if start is not None:
                return [start]
        raise BackendError("an empty prompt cannot be completed: this model has no token that begins a text")

    def continuation(self, text: str) -> list[int]:
        """Token ids of a text that follows a prompt, without special tokens of the tokenizer's own."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; special tokens have none."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


def load_tokenizer(where: Path | str, chat: bool | None = None) -> ChatTokenizer:
    """The tokenizer of a folder, a .gguf file or a hub id, without its chat template if so asked. Raises ModelError."""
    with explained(where, "its tokenizer"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(**_source(where))
    template = bool(getattr(tokenizer, "chat_template", None))
    if chat and not template:
        raise ModelError(f"the model {where} has no chat template. Leave the option 'chat' out, or use a chat model.")
    return ChatTokenizer(tokenizer, chat=template and chat is not False)
