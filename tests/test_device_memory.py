"""A model that does not fit on its device: one line that says what to do, also where there are several GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from treeagent.backends.models import llama_checkpoint
from treeagent.backends.models.device_memory import fits_on
from treeagent.backends.models.sources import explained
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import ModelError


def no_memory(*_arguments: object) -> None:
    """As a device that is full."""
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")


def test_both_backends_say_that_the_model_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """While weights are read, and while they are moved; no line of torch's own is left."""
    with monkeypatch.context() as patch:
        patch.setattr(llama_checkpoint, "_network", no_memory)
        with pytest.raises(ModelError, match=r"does not fit into the memory of cpu\. Give dtype=bfloat16") as error:
            SeedBackend("mini", device="cpu").load()
    assert "\n" not in str(error.value)
    monkeypatch.setattr(torch.nn.Module, "to", no_memory)
    with pytest.raises(ModelError, match="does not fit into the memory of cpu"):
        TransformersBackend("mini", device="cpu").load()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_the_host_may_lack_memory_too(error: Exception) -> None:
    """Python and torch say it in other classes than for a GPU; that a file cannot be read would be wrong."""
    where, device = Path("large"), torch.device("cpu")
    with (
        pytest.raises(ModelError, match="the model large does not fit into the memory of cpu"),
        fits_on(where, device),
        explained(where, "its weights"),
    ):
        raise error
    with pytest.raises(ModelError, match=r"its tokenizer cannot be read .*memory"), explained(where, "its tokenizer"):
        raise error


@pytest.mark.parametrize(("count", "said"), [(1, False), (4, True)])
def test_several_gpus_are_a_servers_business(monkeypatch: pytest.MonkeyPatch, count: int, said: bool) -> None:
    """Tensor parallelism is vLLM's or SGLang's, also where a library wraps the error; other errors stay as they are."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    where, device = Path("large"), torch.device("cuda:0")
    with pytest.raises(ModelError) as error, fits_on(where, device), explained(where, "its weights"):
        no_memory()
    assert ("on all 4, serve the model with vLLM or SGLang" in str(error.value)) == said
    with pytest.raises(ModelError, match=r"^another fault$"), fits_on(where, device):
        raise ModelError("another fault")
