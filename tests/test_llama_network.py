"""The seed engine's own reading of plain Llama models, against transformers."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from treeagent.backends.models.catalog import resolve
from treeagent.backends.models.decoder import load_decoder
from treeagent.backends.models.llama_checkpoint import load_plain_llama
from treeagent.backends.models.llama_network import LlamaNetwork
from treeagent.backends.models.loader import load_model
from treeagent.backends.models.tokenizer import load_tokenizer
from treeagent.backends.seed.executor.forward_batch import make_forward_batch
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.weights import Weights
from treeagent.backends.seed.kv_cache.radix_tree import RadixCache

CPU = torch.device("cpu")
FOLDER = resolve("mini")


def copied(path, **changes):
    """A copy of mini whose config.json has other values; None takes one out."""
    shutil.copytree(FOLDER, path, dirs_exist_ok=True)
    config = {**json.loads((FOLDER / "config.json").read_text()), **changes}
    kept = {name: value for name, value in config.items() if value is not None or name == "bos_token_id"}
    (path / "config.json").write_text(json.dumps(kept))
    return path


def engine_logits(model):
    """Logits (40, V) of one pass of the engine's decoder over 40 tokens."""
    with torch.inference_mode():
        weights = Weights(model, FOLDER)
        pool = weights.new_pool(1 << 24)
        forest = RadixCache(pool)
        slots = forest.allocate(40)
        node, _ = forest.match_prefix([])
        tokens = [(7 * i + 3) % weights.vocabulary for i in range(40)]
        span = Segment(tokens, slots, slots[:0], node, wanted=range(40))
        return weights.decoder(make_forward_batch([span], weights.dtype, CPU, in_place=weights.in_place), pool)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int8", "int8+float32"])
@pytest.mark.parametrize("name", ["target", "draft", "sorted"])
def test_the_engine_computes_bit_by_bit_what_it_does_with_transformers(name, dtype):
    """The same facts of the model and the same logits, to the last bit, in every type of numbers."""
    where = FOLDER.parent / name
    own, theirs = load_decoder(where, dtype, CPU), load_model(where, dtype, CPU)
    assert isinstance(own.network, LlamaNetwork)
    facts = [(m.eos, m.context, m.parameters, m.attention_dtype, m.config.num_hidden_layers) for m in (own, theirs)]
    assert facts[0] == facts[1]
    assert getattr(own.config, "exits", None) == getattr(theirs.config, "exits", None)
    assert torch.equal(engine_logits(own), engine_logits(theirs))


@pytest.mark.parametrize(("dtype", "most"), [("float32", 2e-4), ("float64", 1e-9)])
def test_the_plain_forward_is_that_of_transformers(dtype, most):
    """What the decoder is held against at load is what transformers computes."""
    tokens = torch.arange(60).view(2, 30) * 13 % 1296
    with torch.inference_mode():
        own, theirs = (
            load(FOLDER, dtype, CPU).network(input_ids=tokens, use_cache=False).logits
            for load in (load_decoder, load_model)
        )
    assert float((own - theirs).abs().max()) < most


def test_the_plain_forward_sees_a_wrong_weight():
    """The trial at load still refuses a decoder that computes something else."""
    model = load_decoder(FOLDER, "float32", CPU)
    model.network.model.layers[1].self_attn.o_proj.register_forward_hook(lambda *_: torch.zeros(()))
    with pytest.raises(Exception, match="differ from its plain ones"):
        Weights(model, FOLDER)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "mistral", "architectures": ["MistralForCausalLM"]},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}},
        {"attention_bias": True},
        {"hidden_act": "gelu"},
        {"auto_map": {"AutoModelForCausalLM": "modeling.Own"}},
        {"quantization_config": {"bits": 4}},
        {"a_key_of_tomorrow": 1},
        {"tie_word_embeddings": False},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 10**12},
        {"vocab_size": 1295},
        {"head_dim": "32"},
        {"num_attention_heads": True},
        {"rms_norm_eps": None},
    ],
)
def test_any_other_model_is_left_to_transformers(tmp_path, changes):
    """Nothing is computed by a configuration that says more, less or other than a plain Llama model's."""
    assert load_plain_llama(copied(tmp_path, **changes), "float32", CPU) is None


def test_damaged_weights_are_left_to_transformers(tmp_path):
    """Which says what is wrong with them."""
    folder = copied(tmp_path)
    (folder / "model.safetensors").write_bytes(b"no tensors")
    assert load_plain_llama(folder, "float32", CPU) is None
    assert load_plain_llama("owner/name", "float32", CPU) is None


def test_an_untied_head_is_read(tmp_path):
    """Its own weights are used, and counted."""
    from safetensors.torch import load_file, save_file

    folder = copied(tmp_path, tie_word_embeddings=False)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] * 2
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    own, theirs = load_decoder(folder, "float32", CPU), load_model(folder, "float32", CPU)
    assert isinstance(own.network, LlamaNetwork)
    assert own.parameters == theirs.parameters
    assert torch.equal(engine_logits(own), engine_logits(theirs))


def test_the_tokenizer_is_the_one_that_transformers_chooses():
    """Of the same class, with the same tokens, for every model of the project."""
    import transformers

    text = "Input: 4 9 10 13\nümlaut 日本 <|endoftext|> 13 - 9 = 4"
    for name in ("target", "small", "draft", "sorted"):
        own = load_tokenizer(FOLDER.parent / name).tokenizer
        theirs = transformers.AutoTokenizer.from_pretrained(FOLDER.parent / name, trust_remote_code=False)
        assert type(own) is type(theirs)
        assert own(text)["input_ids"] == theirs(text)["input_ids"]
        assert own.eos_token_id == theirs.eos_token_id
        assert own.bos_token_id == theirs.bos_token_id


def test_networks_of_transformers_are_not_imported():
    """They and torch's compiler would take 100 MiB that a plain Llama model does not need."""
    program = (
        "import sys; from treeagent.backends.seed.backend import SeedBackend;"
        "from treeagent.backends.seed.executor import profiler; profiler.ENOUGH, profiler.COSTS = 0.1, -1;"
        "SeedBackend('mini', device='cpu').load();"
        "names = 'transformers.modeling_utils', 'torch._dynamo', 'accelerate';"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
