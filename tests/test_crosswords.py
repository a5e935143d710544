"""Mini crosswords: the grid keeps its letters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treeagent import InputError, Task
from treeagent.taskfile import dataset as data
from treeagent.tasks.crosswords import SLOTS, Crosswords, Grid, read, shares

CHECK = Crosswords()
TASK = Task.load("crosswords")
CLUES = tuple(f"clue {number}: so_so; it" for number in range(10))
GRIDS = st.text("ABCDE", min_size=25, max_size=25)


@given(GRIDS, st.permutations(SLOTS))
def test_the_words_of_one_grid_fill_it_in_any_order(grid: str, order: list[str]) -> None:
    """No word of the grid is ever refused before the grid is full, and the last letter fills it."""
    board, gold = Grid(CLUES), Grid(CLUES, grid)
    for slot in order:
        filled = board.filled(slot, gold.word(slot))
        assert (filled is None) == (board.word(slot) == gold.word(slot))
        board = filled or board
        assert board.word(slot) == gold.word(slot)
    assert board == gold
    assert board.text.endswith("The grid is full.")


@given(GRIDS, st.sampled_from(SLOTS), st.text("ABCDEZ", min_size=5, max_size=5), st.sets(st.integers(0, 24)))
def test_a_word_never_changes_a_letter_that_stands(grid: str, slot: str, word: str, gone: set[int]) -> None:
    """What stood before stands after; what was refused would have changed something or nothing at all."""
    board = Grid(CLUES, "".join("_" if at in gone else letter for at, letter in enumerate(grid)))
    filled = board.filled(slot, word)
    if filled is None:
        clash = any(old not in ("_", new) for old, new in zip(board.word(slot), word, strict=True))
        assert clash or board.word(slot) == word
    else:
        assert filled.word(slot) == word
        assert all(old in ("_", new) for old, new in zip(board.letters, filled.letters, strict=True))
        cells = sum(old != new for old, new in zip(board.letters, filled.letters, strict=True))
        assert cells == board.word(slot).count("_")


@given(GRIDS, st.sets(st.integers(0, 24)))
def test_a_state_is_read_back_and_keyed_by_its_letters(grid: str, gone: set[int]) -> None:
    """Clues may hold colons, semicolons and underscores."""
    board = Grid(CLUES, "".join("_" if at in gone else letter for at, letter in enumerate(grid)))
    assert read(board.text) == board
    assert CHECK.key(board.text) == board.letters


def test_across_and_down_must_agree_and_all_lines_be_there() -> None:
    """A state that contradicts itself is not read."""
    text = Grid(CLUES, "ABCDE" * 5).text
    for wrong in (text.replace("AAAAA", "AAAAB"), text.replace("h2", "h3"), "\n".join(text.splitlines()[:9]), ""):
        with pytest.raises(ValueError, match=r"agree|ten lines"):
            read(wrong)


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("h1. ACHES", None), ("h1. aches", None), ("H1: ACHES", None), ("- h1 ACHES (sure)", None), ("v1. ACHES", None),
        ("h1. ACHE", "unparsed"), ("h1. ACHESS", "unparsed"), ("h6. ACHES", "unparsed"), ("ACHES", "unparsed"),
        ("h1. _CHES", "unparsed"),
    ],
)  # fmt: skip
def test_steps_are_read_in_any_case(step: str, fault: str | None) -> None:
    """A slot and five letters; anything after them is a remark."""
    input = TASK.read_input(TASK.spec.input.examples[0])
    [piece] = TASK.read_thoughts("sample", step, input, TASK.root(input), [])
    assert piece.fault == fault


def test_a_clash_is_illegal_and_another_order_is_the_same_state() -> None:
    """Impossible grids never reach a judge, and no grid is judged twice."""
    input = TASK.read_input(TASK.spec.input.examples[0])
    root = TASK.root(input)
    assert CHECK.transition(root.state, "h1. ACHES") is not None
    across = CHECK.transition(root.state, "h1. ACHES") or ""
    assert CHECK.transition(across, "v2. HEDGE") is None
    assert CHECK.transition(across, "v2. CHEAT") is not None
    assert CHECK.transition(across, "h1. ACHES") is None
    down = CHECK.transition(root.state, "v2. CHEAT") or ""
    states = CHECK.transition(across, "v2. CHEAT"), CHECK.transition(down, "h1. ACHES")
    assert CHECK.key(states[0] or "") == CHECK.key(states[1] or "-")


def test_shares_count_letters_words_and_games() -> None:
    """One wrong letter costs one letter, two words and the game; what is missing is wrong."""
    gold = "ACHES CHEAT HEDGE EAGLE STEEL"
    assert (found := shares(gold.lower(), gold)).game
    assert (found.letters, found.words) == (1.0, 1.0)
    one = shares(gold.replace("STEEL", "STEEP"), gold)
    assert (one.letters, one.words, one.game) == (0.96, 0.8, False)
    part = shares("ACHES CHEAT", gold)
    assert (part.letters, part.words, part.game) == (0.4, 0.2, False)
    assert shares("", gold).letters == 0
    with pytest.raises(ValueError, match="has 4 letters"):
        shares(gold, "ABCD")


@pytest.mark.parametrize("text", ["a | b", "|".join("abcdefghij") + "|k", "a||b|c|d|e|f|g|h|i", "no clue"])
def test_other_than_ten_clues_are_refused(text: str) -> None:
    """The message counts them."""
    with pytest.raises(InputError, match=r"it has \d+ clues, not 10"):
        TASK.read_input(text)


def test_our_own_puzzles_are_real_ones() -> None:
    """Five words across and five down, each of 25 letters read both ways."""
    loaded = data.load(TASK)
    for row in loaded.rows:
        gold = loaded.gold._answers[row.number]
        assert shares(gold, gold).game
        board = read(TASK.root(row.input).state)
        for slot in SLOTS[:5]:
            board = board.filled(slot, Grid(board.clues, gold).word(slot)) or board
        assert TASK.path_answer(row.input, TASK.root(row.input), []) is not None
        assert board.letters == gold


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("ACHES\nCHEAT\nHEDGE\nEAGLE\nSTEEL\n", "ACHES CHEAT HEDGE EAGLE STEEL"),
        ("Words: h1. ACHES.\nGrid:\nACHES CHEAT HEDGE EAGLE STEEL", "ACHES CHEAT HEDGE EAGLE STEEL"),
        ("ACHES\nCHEAT\nHEDGE\nEAGLE", None),
    ],
)
def test_a_grid_is_read_from_a_completion(completion: str, answer: str | None) -> None:
    """Five words of five letters in a row."""
    found = TASK.read_answer(completion)
    assert (None if found is None else " ".join(found.split())) == answer
