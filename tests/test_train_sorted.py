"""The script that makes a sorted draft of any Llama-style model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from device import DEVICE
from seed_tools import SHAPE, Naive, ask, fixed_costs, request, save_model, told

from treeagent.backends.models import catalog as models
from treeagent.backends.models.loader import load_model
from treeagent.backends.models.tokenizer import load_tokenizer
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor.exit_policy import exits_of
from treeagent.backends.training import train_early_exit as train_sorted
from treeagent.backends.training.early_exit_loss import exit_logits, packed
from treeagent.backends.training.sampled_softmax import Candidates

CONFIG = transformers.LlamaConfig(**{**SHAPE, "num_hidden_layers": 4}, num_key_value_heads=2)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model of four layers."""
    return save_model(tmp_path_factory.mktemp("whole") / "target", CONFIG)


def words(target: str, out: Path, text: Path, steps: int) -> list[str]:
    return (
        f"--model {target} --layers 3 --exits 1,3 --out {out} --text {text} --steps {steps} --length 40 --lr 0.01"
    ).split()


def test_a_draft_of_first_layers_learns_and_drafts(target: str, tmp_path: Path) -> None:
    """Every exit's loss falls, an interrupted run goes on, and the engine drafts with the result."""
    text = tmp_path / "text.txt"
    text.write_text("Use the numbers to make 24. Steps: 4 + 5 = 9, left: 6 9.\n" * 60)
    out = tmp_path / "draft"
    train_sorted.main(words(target, out, text, 21))
    assert json.loads((out / "config.json").read_text())["exits"] == [1, 3]
    losses = {each["step"]: each["loss"] for each in map(json.loads, (out / "log.jsonl").read_text().splitlines())}
    assert losses[20] < losses[0]
    train_sorted.main(words(target, out, text, 41))
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == [0, 20, 40]  # 0 to 20 were not made again
    whole = load_model(Path(target), "float32", torch.device("cpu")).network
    draft = load_model(out, "float32", torch.device("cpu")).network
    assert torch.equal(whole.lm_head.weight, draft.lm_head.weight)
    with fixed_costs():
        backend = SeedBackend(target, draft=str(out), draft_tokens=4, device=DEVICE)
        backend.load()
    asked = request(0, 0, max_tokens=12)
    read = backend.meter()
    assert told(ask(backend, asked)) == Naive(target, "float32").expected([asked])
    assert len(read()["draft_exits"]) == 2


def test_it_learns_from_a_few_candidates_as_well(target: str, tmp_path: Path) -> None:
    """Losses fall over the whole vocabulary, too, which was never compared with as a whole."""
    text = tmp_path / "text.txt"
    text.write_text("Use the numbers to make 24. Steps: 4 + 5 = 9, left: 6 9.\n" * 60)
    out = tmp_path / "draft"
    train_sorted.main([*words(target, out, text, 30), "--drawn", "8"])
    ids = load_tokenizer(Path(target)).tokenizer(text.read_text()[:120], return_tensors="pt")["input_ids"]
    picked = torch.ones_like(ids, dtype=torch.bool)
    picked[:, -1] = False
    losses = []
    for folder in (Path(target), out):
        network = load_model(folder, "float32", torch.device("cpu")).network
        network.config.exits = [1, network.config.num_hidden_layers]
        with torch.inference_mode():
            exits = exit_logits(network, {"input_ids": ids}, picked)
        losses.append([float(torch.nn.functional.cross_entropy(logits, ids[0, 1:])) for logits in exits])
    assert all(after < before - 0.5 for before, after in zip(*losses, strict=True))


def test_texts_that_were_asked_for_otherwise_are_not_learnt_from(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder's texts are those of the model and the kinds that it was made for."""
    torch.save(
        {"asked": {"model": target, "kinds": ["gsm8k"], "own": 5, "group": 8}, "groups": []}, tmp_path / "own.pt"
    )
    with pytest.raises(SystemExit):
        train_sorted.main(
            f"--model {target} --layers 2 --exits 1,2 --own 5 --kinds writing --steps 1 --out {tmp_path}".split()
        )
    assert "another --out" in capsys.readouterr().err


def test_packed_texts_have_the_logits_of_texts_of_their_own(target: str) -> None:
    """A common beginning is read once; losses are where they were."""
    model = load_model(Path(target), "float32", torch.device("cpu")).network
    rows = [[5, 6, 7, 8, 9], [5, 6, 7, 11], [5, 6, 7, 12, 13, 14]]
    texts = [(ids, [0.0, 0.0, *[1.0] * (len(ids) - 3), 0.0]) for ids in rows]
    inputs, targets, weights = packed(texts)
    assert inputs["input_ids"].shape[1] == 2 + 3 + 2 + 4
    with torch.inference_mode():
        [together] = exit_logits(model, inputs, weights > 0)
        apart = [model(input_ids=torch.tensor([ids])).logits[0, 2:-1] for ids in rows]
    assert torch.allclose(together, torch.cat(apart), atol=1e-4)
    assert targets[weights > 0].tolist() == [8, 9, 11, 12, 13, 14]


def test_a_few_candidates_stand_for_all_tokens() -> None:
    """In the mean the sum of exponentials is that over the whole vocabulary; the right tokens are always among them."""
    torch.manual_seed(0)
    weight, states, seen = torch.randn(300, 8), torch.randn(4, 8) / 2, {3, 5, 299}
    whole, places = Candidates(weight, seen, None, seed=0).draw()
    assert torch.equal(whole(states), states @ weight.T)
    assert places.tolist() == list(range(300))
    candidates = Candidates(weight, seen, 40, seed=0)
    sums = []
    for _ in range(2_000):
        head, places = candidates.draw()
        logits = head(states)  # (4, 43)
        assert torch.allclose(logits[:, places[[3, 5, 299]]], states @ weight[[3, 5, 299]].T, atol=1e-5)
        sums.append(logits.exp().sum(dim=1))
    found, exact = torch.stack(sums), (states @ weight.T).exp().sum(dim=1)
    error = found.std(dim=0) / len(sums) ** 0.5
    assert ((found.mean(dim=0) - exact).abs() < 4 * error).all()
    assert (error < 0.02 * exact).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("--exits 1,2", "end with 3"),
        ("--exits 3,1", "ascending"),
        ("--exits a", "numbers of layers"),
        ("--layers 5 --exits 1,5", "has 4 layers"),
        ("--text nothing.txt", "cannot read"),
        ("--model minni", "mini"),
        ("--kinds gsm8", "gsm8k"),
        ("--drawn 0", "at least 1"),
    ],
)
def test_wrong_words_are_one_clear_line(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: str, message: str
) -> None:
    """Exit code 2, and what was expected."""
    text = tmp_path / "text.txt"
    text.write_text("a b c " * 40)
    with pytest.raises(SystemExit) as stopped:
        train_sorted.main([*words(target, tmp_path / "draft", text, 1), *changed.split()])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_card_of_the_bundled_models_tells_their_sizes() -> None:
    """Parameters and exits, by name."""
    card = (models.list_models()[0].where.parent / "MODEL_CARD.md").read_text()
    names, counts = (
        [cell.strip(" `") for cell in line.split("|")[2:-1]]
        for line in card.splitlines()
        if line.startswith(("| | `mini`", "| parameters"))
    )
    assert len(names) == 4
    for name, told_count in zip(names, counts, strict=True):
        where = models.resolve(name)
        assert isinstance(where, Path)
        network = load_model(where, "float32", torch.device("cpu")).network
        assert f"{sum(p.numel() for p in network.parameters()):,}" == told_count
        assert exits_of(network.config) == ((1, 2, 3) if name == "mini-sorted" else (network.config.num_hidden_layers,))
