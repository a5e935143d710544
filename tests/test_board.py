"""The progress board of evaluations and benchmarks, and the option groups of commands."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from typer.testing import CliRunner

from treeagent.cli.option_groups import with_option_groups
from treeagent.display.board import BoardStep, StepBoard


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    """A console and what is written to it."""
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=120), out


def test_steps_are_lines_without_a_terminal() -> None:
    """Each step has a line with its number, and nothing steers a terminal."""
    where, out = console(terminal=False)
    board = StepBoard(where, steps=2)
    for title in ("load [a]", "run"):
        with board.step(title, parts=3) as step:
            step.advance()
    assert out.getvalue() == "[1/2] load [a] ...\n[2/2] run ...\n"


def test_a_terminal_has_a_bar_with_the_count() -> None:
    """The count and the detail stand in the bar."""
    where, out = console(terminal=True)
    with StepBoard(where).step("run", parts=3, completed=1) as step:
        step.show(2, "1 right")
    assert "2/3" in out.getvalue()
    assert "1 right" in out.getvalue()


def test_a_quiet_board_writes_nothing() -> None:
    """On a terminal or elsewhere."""
    for terminal in (True, False):
        where, out = console(terminal=terminal)
        board = StepBoard(where, quiet=True)
        with board.step("run") as step:
            step.advance()
        board.say("done")
        assert out.getvalue() == ""


def test_the_line_of_a_step_has_count_and_detail() -> None:
    """Unknown counts and empty details are left out."""
    step = BoardStep("run", 3)
    assert step.line == "run: 0 s"
    step.show(2, "1 right")
    assert step.line == "run: 0 s, 2 of 3 done, 1 right"


@dataclass(frozen=True)
class Size:
    """A group of two options."""

    width: Annotated[int, typer.Option(help="Columns.")]
    height: Annotated[int, typer.Option(help="Rows.")] = 3


def test_an_option_group_becomes_the_options_of_a_command() -> None:
    """In place of the group, in the order of its fields, with their defaults and whether they are required."""
    app = typer.Typer()
    sizes: list[tuple[str, Size]] = []

    @app.command()
    @with_option_groups
    def draw(*, name: str, size: Size, colour: str = "red") -> None:
        sizes.append((name + colour, size))

    parameters = typer.main.get_command(app).params
    assert [parameter.name for parameter in parameters if parameter.name != "help"][:4] == [
        *("name", "width", "height", "colour")
    ]
    runner = CliRunner()
    assert runner.invoke(app, ["a", "--width", "7"]).exit_code == 0
    assert sizes == [("ared", Size(7))]
    assert runner.invoke(app, ["a"]).exit_code == 2
