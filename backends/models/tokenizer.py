"""Tokenizer and chat template of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import transformers
from pydantic import BaseModel, ConfigDict, ValidationError

from treeagent.chat import Chat
from treeagent.errors import BackendError, ModelError
from treeagent.reasoning import Thinking
from treeagent.text import clean

from .chat_template import ChatTemplate
from .llama_checkpoint import plain_config
from .sources import explained, source_of
from .token_codec import TokenCodec

ALONE = Chat()
"""A prompt without anything before or beside it."""


@dataclass(frozen=True, slots=True)
class ChatTokenizer:
    """A tokenizer, and how it is used."""

    tokenizer: Any
    chat: bool
    """Whether prompts are sent through the model's chat template, as the last message of the user."""
    thinking: Thinking | None = None
    """Marks of the thinking that is cut off completions."""
    _codec: TokenCodec = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_codec", TokenCodec(self.tokenizer))  # the class is frozen

    def prompt(self, prompt: str, chat: Chat = ALONE) -> list[int]:
        """Token ids of a prompt, never empty. Raises BackendError when there is no token to begin with."""
        ids = self._encode(self._rendered(prompt, chat))
        return ids or [self._beginning()]

    def _beginning(self) -> int:
        """The token that a text begins with where there is none to begin with."""
        for start in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if start is not None:
                return int(start)
        raise BackendError("an empty prompt cannot be completed: this model has no token that begins a text")

    def scored(
        self, prompt: str, continuations: Sequence[str], chat: Chat = ALONE
    ) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """For each continuation (given, scored) token ids: those of prompt and continuation, less the prompt's own.

        Where a continuation merges with the prompt's end into other tokens, all are scored from the last token on that
        all of them have in common with the prompt, so that they stay comparable. Raises BackendError.
        """
        given, text = self.prompt(prompt, chat), self._rendered(prompt, chat)
        wholes = [self._encode(text + continuation) for continuation in continuations]
        start = min((_common(given, whole) for whole in wholes), default=0)
        given = given[:start] or [self._beginning()]
        return [(tuple(given), tuple(whole[start:])) for whole in wholes]

    def part(self, text: str) -> list[int]:
        """Token ids of a part of a text, tokenised by itself."""
        return self._codec.encode(clean(text), add_special_tokens=False)

    def _rendered(self, prompt: str, chat: Chat) -> str:
        """The prompt as the model reads it. Raises BackendError."""
        if not self.chat:
            if chat.needs:
                raise BackendError(
                    "messages, thinking and arguments of a template need a chat; this model runs without"
                )
            return prompt
        return self.template.rendered(chat.as_messages(prompt), chat)

    @property
    def template(self) -> ChatTemplate:
        """The chat template of the model."""
        marks = () if self.thinking is None else (self.thinking.opening, self.thinking.closing)
        return ChatTemplate(self.tokenizer, marks)

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end a text by the tokenizer, and in a chat those that end an answer by the template."""
        own = self.tokenizer.eos_token_id
        tokens = frozenset([own] if isinstance(own, int) else own or ())
        return tokens | (self.template.ends() if self.chat else frozenset())

    def closing(self) -> tuple[int, ...]:
        """The tokens that end thinking. Raises BackendError where the model has no marks of it."""
        if self.thinking is None:
            raise BackendError("a number of tokens for thinking needs the marks of thinking: the option 'thinking'")
        return tuple(self._codec.encode(f"\n{self.thinking.closing}\n\n", add_special_tokens=False))

    def _encode(self, text: str) -> list[int]:
        """Token ids; a chat template writes special tokens itself. A lone surrogate is read as U+FFFD."""
        return self._codec.encode(clean(text), add_special_tokens=not self.chat)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; special tokens have none."""
        return self._codec(tokens)

    @property
    def decoder(self) -> TokenCodec:
        """:meth:`decode`, with the text of single tokens."""
        return self._codec


def _is_plain(where: Path | str) -> bool:
    """Whether transformers' own choice is known without its choosing, which imports its networks: 60 MiB, 1.5 s."""
    if isinstance(where, str) or plain_config(where) is None:
        return False
    try:
        return _TokenizerFile.model_validate_json((where / "tokenizer_config.json").read_bytes()).auto_map is None
    except (OSError, ValidationError):
        return False


class _TokenizerFile(BaseModel):
    """What is read of ``tokenizer_config.json``."""

    model_config = ConfigDict(extra="ignore", strict=True)

    tokenizer_class: Literal["TokenizersBackend"]
    auto_map: Any = None


def _common(given: Sequence[int], whole: Sequence[int]) -> int:
    """How many tokens the two have in common at their beginning."""
    pairs = zip(given, whole, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(given), len(whole)))


def load_tokenizer(where: Path | str, chat: bool | None = None) -> ChatTokenizer:
    """The tokenizer of a folder, a .gguf file or a hub id, without its chat template if so asked. Raises ModelError."""
    source = source_of(where)
    reader: Any = transformers.PreTrainedTokenizerFast if _is_plain(where) else transformers.AutoTokenizer
    with explained(where, "its tokenizer"):
        tokenizer = reader.from_pretrained(**source)
    template = bool(getattr(tokenizer, "chat_template", None))
    if chat and not template:
        raise ModelError(f"the model {where} has no chat template. Leave the option 'chat' out, or use a chat model.")
    return ChatTokenizer(tokenizer, chat=template and chat is not False)
