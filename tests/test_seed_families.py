"""The table of model families against the engine: each runs or is refused as it says."""

from __future__ import annotations

import inspect
import re

import pytest
import torch
import transformers as hf
from engine_families import FAMILIES, stated

from treeagent.backends.models.model import Model
from treeagent.backends.seed.executor.llama import LlamaDecoder
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.weights import Weights
from treeagent.errors import ModelError


def test_every_family_in_the_table_is_tried_here() -> None:
    """And no other."""
    assert set(stated()) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_runs_or_is_refused_as_the_table_says(family: str) -> None:
    """A tiny model with random weights; no window limits its context."""
    prefix, shape = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(hf, f"{prefix}Config")(**shape)
    network = hf.AutoModelForCausalLM.from_config(config).eval()
    arguments = frozenset(inspect.signature(network.forward).parameters)
    context = getattr(config, "max_position_embeddings", None)
    device, text = torch.device("cpu"), config.get_text_config(decoder=True)
    model = Model(network, text, device, frozenset({0}), context, arguments, network.num_parameters(), network.dtype)
    runs, how = stated()[family]
    if runs == "no":
        with pytest.raises(ModelError, match=re.escape(how)):
            ModelRunner(Weights(model, family), 10**7)
    else:
        runner = ModelRunner(Weights(model, family), 10**7)
        assert isinstance(runner.weights.decoder, LlamaDecoder) == ("own loop" in how)
        assert runner.context == context
