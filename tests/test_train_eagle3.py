"""The script that trains an EAGLE-3 head for any Llama-style model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from device import DEVICE
from head_tools import PlainHead, save_head
from seed_tools import FAMILIES, Naive, ask, fixed_costs, request, save_model, told

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.training import train_eagle3
from treeagent.backends.training.eagle3_loss import PairBatch, draft_loss, target_states, unrolled

LINE = "Use the numbers to make 24. Steps: 4 + 5 = 9, left: 6 9.\n"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model."""
    return save_model(tmp_path_factory.mktemp("whole") / "target", FAMILIES["llama"])


def test_each_unrolled_step_is_what_the_head_says_when_it_drafts(target: str, tmp_path: Path) -> None:
    """Of packed texts, at every learnt position: as the plain head over that text alone, with the drafted tokens."""
    plain = PlainHead(save_head(tmp_path / "head", target, drafted=100), target, torch.float64)
    torch.manual_seed(0)
    first, second, third = (torch.randint(1, 250, (size,)).tolist() for size in (6, 5, 7))
    texts = [(first + own, [0.0] * 5 + [1.0] * len(own) + [0.0]) for own in (second, third)]
    batch = PairBatch.of(texts)
    assert len(batch.tokens) == 5 + 6 + 8  # the common beginning without its last token, which both have
    states, final = target_states(plain.target, batch, plain.config.features_of(2))
    with torch.inference_mode():
        steps = unrolled(plain.network, plain.target.model.embed_tokens, batch, states, 3)
        for place, row in enumerate(batch.places().tolist()):
            text = texts[int(batch.owner[row]) - 1][0]
            at = int(batch.positions[row])
            for step, logits in enumerate(steps):
                if float(batch.step_weights(batch.places(), step)[place]):
                    alone = plain.logits(text[: at + 2], text[at + 2 : at + 2 + step])
                    assert torch.allclose(logits[place], alone, atol=1e-9)
        loss, agreed = draft_loss(steps, batch, final, plain.target.lm_head.weight[plain.ids])
    assert float(loss) > 0
    assert [whole for _, whole in agreed] == [10.0, 8.0, 6.0]


def test_a_trained_head_drafts_for_its_target(target: str, tmp_path: Path) -> None:
    """The loss falls, an interrupted run goes on, and the engine accepts tokens of the result in texts of its own."""
    text, out = tmp_path / "text.txt", tmp_path / "head-draft"
    text.write_text(LINE * 40)
    words = f"--model {target} --out {out} --text {text} --length 40 --lr 0.01 --unroll 2 --draft-vocab 200".split()
    train_eagle3.main([*words, "--steps", "21"])
    train_eagle3.main([*words, "--steps", "41"])
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 20, 40]  # 0 to 20 were not made again
    assert lines[1]["loss"] < lines[0]["loss"]
    assert len(lines[1]["agreed"]) == 2
    with fixed_costs():
        backend = SeedBackend(target, draft=str(out), drafter="model", draft_tokens=3, device=DEVICE)
        backend.load()
    asked, read = request(0, 0, max_tokens=24), backend.meter()
    assert told(ask(backend, asked)) == Naive(target, "float32").expected([asked])
    assert read()["drafted"] > 0


@pytest.mark.exhaustive
def test_a_head_of_mini_learns_from_texts_of_mini(tmp_path: Path) -> None:
    """From texts that the model writes; most first drafted tokens agree with the model's after 120 steps."""
    out = tmp_path / "head"
    words = f"--model mini --out {out} --own 24 --kinds mini --group 4 --steps 121 --lr 0.002 --unroll 2"
    train_eagle3.main([*words.split(), "--draft-vocab", "300"])
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert last["agreed"][0] > 0.5


@pytest.mark.parametrize("words", ["", "--own 8 --unroll 0", "--own 8 --kinds gsm8"])
def test_wrong_options_are_told(target: str, tmp_path: Path, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, before anything is loaded."""
    with pytest.raises(SystemExit):
        train_eagle3.main(f"--model {target} --out {tmp_path / 'head'} {words}".split())
    said = capsys.readouterr().err
    assert "nothing to learn from" in said or "--unroll must be at least 1" in said or "'gsm8k'" in said
