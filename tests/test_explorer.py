"""What the explorer does for every search: keys, filters, budgets, failures, and leaving nothing behind."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from synthetic import CheckedTask, TreeBackend, essence, named, solve, task

from treeagent import (
    Agent,
    Backend,
    BackendError,
    Budget,
    CapabilityError,
    Checker,
    ConfigError,
    Event,
    Explorer,
    InputError,
    Reply,
    Request,
    Result,
    Search,
    Thought,
    TreeagentError,
    ranked,
)
from treeagent.strategies.baselines import CoTSC
from treeagent.strategies.bfs import BFS
from treeagent.strategies.dfs import DFS

TREE = [[1, 2], [3, [4]], 5]


def scripted(**answers: str) -> Any:
    """Answers by node and verb; ``ra`` is what is proposed there, everything else comes from the tree."""

    def answer(request: Request) -> str | None:
        verb, *_, name = request.prompt.split()
        return answers.get(name) if verb == "children" else None

    return answer


class Steps(Search):
    """A search made of a function."""

    def __init__(self, steps: Any) -> None:
        self.steps = steps

    async def run(self, explorer: Explorer) -> Thought | None:
        """As the test says."""
        found = await self.steps(explorer)
        return found if isinstance(found, Thought) else None


def places(backend: TreeBackend, role: str) -> list[tuple[str, int]]:
    """Place and visit of each request of a role."""
    keys = [request.key for request in backend.requests if isinstance(request, Request)]
    return [(key.place, key.visit) for key in keys if key.role == role]


# Filters before the judge


def test_unparsed_illegal_and_duplicate_steps_never_reach_a_judge() -> None:
    """They are dropped and counted as they are read; only what is left is paid for."""
    events: list[Event] = []
    backend = TreeBackend(TREE, answer=scripted(r="ra\nWHAT?\nra\nx\nrc end\nra\n"))
    result = solve(backend, BFS(b=1), on_event=events.append)
    assert (result.counts.unparsed, result.counts.duplicates, result.counts.illegal) == (2, 2, 0)
    assert sorted(backend.prompts("value")[:2]) == ["value of ra\n", "value of rc\n"]
    assert len(backend.prompts("value")) == result.counts.judged == len(result.tree) - 1
    dropped = [(event.data["text"], event.data["why"]) for event in events if event.type == "dropped"]
    assert dropped == [("WHAT?", "unparsed"), ("ra", "duplicate"), ("x", "unparsed"), ("ra", "duplicate")]


def test_the_lowest_path_keeps_a_state_that_two_parents_reach() -> None:
    """Of equal states in one level the one on the lowest path stays, whichever reply came first."""
    anywhere = {"name.startswith(parent)": "true"}
    for order in range(6):
        backend = TreeBackend(TREE, order=order, answer=scripted(ra="rcc end\nraa end", rb="rcc end\nrba end"))
        backend._nodes["rcc"] = 9
        result = solve(backend, BFS(b=5), task=task(**anywhere))
        [kept] = [thought for thought in result.tree if thought.state == "rcc"]
        assert (kept.path, result.counts.duplicates) == ((0, 0), 1)
        assert backend.prompts("value").count("value of rcc\n") == 1


def test_a_step_back_to_the_root_is_a_duplicate() -> None:
    """The input itself is a state of the tree."""
    backend = TreeBackend(TREE, answer=scripted(r="rc end\nrr"))
    loop = task(**{'state: "{{ name }}"': "state: \"{{ 'r' if name == 'rr' else name }}\""})
    assert solve(backend, BFS(), task=loop).counts.duplicates == 1


def test_keys_are_equal_states_by_the_checker() -> None:
    """A checker decides what is the same state; the tree keeps the text that came first."""

    class Lengths(Checker):
        def key(self, state: str) -> str:
            return str(len(state))

    merged = CheckedTask(Lengths())
    result = solve(TreeBackend(TREE), BFS(), task=merged)
    assert [thought.state for thought in result.tree][:2] == ["r", "ra"]
    assert result.counts.duplicates == 2 + 1


def test_illegal_thoughts_are_dropped_unless_legality_is_off() -> None:
    """``legality=False`` keeps what the task calls illegal, judges it, and still counts it."""
    backend = TreeBackend(TREE, answer=scripted(r="rc end\nrxx end"))
    backend._nodes["rxx"] = 9
    never = task(**{"name.startswith(parent)": "name != 'rxx'"})
    strict = solve(backend, BFS(), task=never)
    loose = solve(backend, BFS(), task=never, legality=False)
    assert (strict.counts.illegal, strict.answer) == (1, "rc")
    assert (loose.counts.illegal, loose.answer) == (1, "rxx")


# Keys


def test_paths_count_siblings_as_generated() -> None:
    """A dropped step keeps its number, so filtering cannot move the keys of those after it."""
    backend = TreeBackend(TREE, answer=scripted(r="WHAT?\nra\nra\nrb"))
    solve(backend, BFS(b=9))
    assert sorted(places(backend, "propose")) == [("1", 0), ("3", 0), ("3.1", 0), ("root", 0)]


def test_evaluations_are_keyed_by_the_state() -> None:
    """The place of a judge's request is the state's key, so merged states share one judgement."""
    backend = TreeBackend([1, 2])
    solve(backend, BFS())
    assert places(backend, "value") == [("ra", 0), ("rb", 0)]


def test_a_second_expansion_gets_fresh_noise_and_new_paths() -> None:
    """``visit`` counts the expansions of a node; its children go on counting."""

    async def twice(explorer: Explorer) -> None:
        await explorer.expand([explorer.root], role="sample", n=1)
        await explorer.expand([explorer.root, explorer.root], role="sample", n=2)

    backend = TreeBackend([[1], [2], [3]])
    result = solve(backend, Steps(twice))
    assert places(backend, "sample") == [("root", 0), ("root", 1), ("root", 2)]
    assert len({request.id for request in backend.requests}) == 3
    assert [thought.path for thought in result.tree] == [(), (0,), (2,)]
    assert result.counts.duplicates == 3


def test_a_number_of_completions_may_be_given_for_each_thought() -> None:
    """Each thought has its own ``n``, in the order of the thoughts and not of their paths; one too few is refused."""

    async def steps(explorer: Explorer) -> None:
        [[first, second, _]] = await explorer.expand([explorer.root])
        await explorer.grow([second, first], role="sample", n=[3, 1])
        with pytest.raises(ValueError, match="zip"):
            await explorer.grow([second, first], role="sample", n=[3])

    backend = TreeBackend(TREE)
    solve(backend, Steps(steps))
    asked = [request for request in backend.requests if isinstance(request, Request) and request.key.role == "sample"]
    assert [(request.key.place, request.n) for request in asked] == [("1", 3), ("0", 1)]


@pytest.mark.parametrize("order", [None, 1, 2, 3])
def test_no_more_children_are_read_than_asked_for(order: int | None) -> None:
    """``most`` new thoughts a parent, dropped pieces not counted; what is left in the reply is not even read."""

    async def steps(explorer: Explorer) -> None:
        [children] = await explorer.grow([explorer.root], most=2)
        grown = await explorer.grow(children[::-1], most=[2, 1])
        assert [[thought.state for thought in each] for each in grown] == [["rba", "rbb"], ["raa"]]

    backend = TreeBackend(TREE, order=order, answer=scripted(r="WHAT?\nra\nra\nrb\nWHAT?\nrc end"))
    result = solve(backend, Steps(steps))
    assert [thought.state for thought in result.tree] == ["r", "ra", "rb", "raa", "rba", "rbb"]
    assert (result.counts.unparsed, result.counts.duplicates, result.counts.judged) == (1, 1, 5)


@pytest.mark.parametrize("order", [None, 1, 2, 3])
def test_branches_can_be_kept_apart(order: int | None) -> None:
    """With ``apart`` a state is a duplicate in its own branch only; a later expansion without it knows them all."""
    anywhere = {"name.startswith(parent)": "true"}
    anywhere['state: "{{ name }}"'] = "state: \"{{ 'r' if name == 'rr' else name }}\""
    lists = {"ra": "rx\nrx\nra\nrb\nrr", "rb": "rx\nrb", "rx": "rx\nry end\nra", "ry": ""}

    async def steps(explorer: Explorer) -> None:
        [[first, second, _]] = await explorer.grow([explorer.root])
        grown = await explorer.grow([first, second], apart=True)
        assert [[thought.state for thought in each] for each in grown] == [["rx", "rb"], ["rx"]]
        [below] = await explorer.grow(grown[1], apart=True)
        assert [thought.state for thought in below] == ["ry", "ra"]
        assert await explorer.grow(grown[0][:1]) == [[]]

    backend = TreeBackend(TREE, order=order, answer=scripted(**lists))
    backend._nodes |= {"rx": 7, "ry": 8}
    result = solve(backend, Steps(steps), task=task(**anywhere))
    assert result.counts.duplicates == 3 + 1 + 1 + 3


def test_an_answer_is_asked_for_once_even_with_an_old_record() -> None:
    """A search may keep records from before an answer was written; the tree knows better."""

    async def steps(explorer: Explorer) -> Thought | None:
        [children] = await explorer.grow([explorer.root])
        await explorer.finish(children)
        return await explorer.finish(children)

    backend = TreeBackend([1, 2])
    assert solve(backend, Steps(steps)).answer == "ra"
    assert len(backend.prompts("answer")) == 2


def test_a_run_is_a_function_of_its_seed() -> None:
    """Another seed gives every request another key; the same seed the same."""

    def ids(seed: int) -> list[str]:
        backend = TreeBackend(TREE)
        solve(backend, BFS(), seed=seed)
        return [request.id for request in backend.requests]

    assert ids(1) == ids(1)
    assert not set(ids(1)) & set(ids(2))


# Concurrency


def test_what_a_search_awaits_together_is_in_flight_together() -> None:
    """All expansions of a level are asked at once, and a child is judged while a later parent still has no reply."""
    backend, waiting, peak = TreeBackend(TREE), [], []

    async def held(request: Request) -> Reply:
        waiting.append(request.prompt)
        peak.append(len(waiting))
        for _ in range(15 if "of rb" in request.prompt else 3):
            await asyncio.sleep(0)
        if request.prompt == "children of rb\n":
            assert "value of raa\n" in [each.prompt for each in backend.requests]
        waiting.remove(request.prompt)
        return await TreeBackend.generate(backend, request)

    backend.generate = held  # type: ignore[method-assign]
    solve(backend, BFS(b=9))
    assert max(peak) >= 3


def test_two_runs_of_one_agent_at_once_do_not_meet() -> None:
    """One agent, several inputs at once, in one loop and in threads: each result is that of a run alone."""
    backend = TreeBackend(TREE, order=3)
    agent = Agent(task(), BFS(b=2), backend=backend)
    alone = {name: essence(Agent(task(), BFS(b=2), backend=TreeBackend(TREE)).solve(name)) for name in ("r", "rb")}

    async def both() -> list[Result]:
        return list(await asyncio.gather(agent.asolve("r"), agent.asolve("rb"), agent.asolve("r")))

    assert [essence(result) for result in asyncio.run(both())] == [alone["r"], alone["rb"], alone["r"]]

    results: dict[int, Result] = {}
    free = Agent(task(), BFS(b=2), backend=TreeBackend(TREE))
    threads = [threading.Thread(target=lambda i=i: results.update({i: free.solve("rb")})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [essence(results[i]) for i in range(4)] == [alone["rb"]] * 4


def test_a_backend_outlives_the_runs_that_use_it() -> None:
    """A run closes nothing that another may be using."""
    closed = []

    class Closing(TreeBackend):
        async def aclose(self) -> None:
            closed.append(True)

    agent = Agent(task(), BFS(), backend=Closing(TREE))
    agent.solve("r")
    agent.solve("r")
    assert not closed


def test_solve_inside_a_loop_says_what_to_call() -> None:
    """The blocking call names the awaitable one."""
    agent = Agent(task(), BFS(), backend=TreeBackend(TREE))

    async def inside() -> None:
        agent.solve("r")

    with pytest.raises(TreeagentError, match="asolve"):
        asyncio.run(inside())


# Budgets


def test_a_budget_that_ends_in_the_middle_keeps_what_was_paid_for() -> None:
    """Every reply that was paid for is in the tree, and the best attempt comes back."""
    for calls in range(1, 12):
        backend = TreeBackend(TREE)
        result = solve(backend, BFS(b=9), budget=Budget(calls=calls))
        asked = [request.prompt.split() for request in backend.requests]
        assert (result.usage.calls, len(asked)) == (calls, calls)
        assert result.ended == ("calls" if calls < 15 else "finished")
        states = {thought.state for thought in result.tree}
        expanded = {words[-1] for words in asked if words[0] == "children"}
        assert states == {name for name in named(TREE) if name == "r" or name[:-1] in expanded}
        judged = {words[-1] for words in asked if words[0] == "value"}
        assert judged == {thought.state for thought in result.tree if thought.judgement}
        assert result.path


def test_a_budget_of_nothing_is_an_ordinary_end() -> None:
    """No request, no tree, no answer, no error."""
    for budget in (Budget(calls=0), Budget(tokens=0), Budget(nodes=0), Budget(seconds=0)):
        backend = TreeBackend(TREE)
        result = solve(backend, BFS(), budget=budget)
        assert (result.answer, result.path, len(result.tree)) == (None, (), 1)
        assert budget.nodes == 0 or not backend.requests
        assert result.ended in ("calls", "tokens", "nodes", "seconds")


def test_a_short_budget_shortens_completions() -> None:
    """Where less is left than a role's ``max_tokens``, the last request gets what is left."""
    backend = TreeBackend(TREE)
    solve(backend, BFS(), budget=Budget(tokens=150), task=task())
    [first, *_] = backend.requests
    assert isinstance(first, Request)
    assert first.sampling.max_tokens == 150 - 64 - len(first.prompt)


def test_a_limit_in_dollars_without_a_price_is_refused_at_once() -> None:
    """The agent does not begin what it could not keep to."""
    with pytest.raises(ConfigError, match="price"):
        Agent(task(), BFS(), backend=TreeBackend(TREE), budget=Budget(dollars=1))


def test_an_answer_that_nobody_wrote_is_no_answer() -> None:
    """A verified path whose answer there was no budget to write is shown as the best attempt, and is not solved."""

    class Right(Checker):
        def verify(self, input: str, steps: Any, answer: str | None) -> bool:
            return "rc end" in (answer or "".join(steps))

    checked = CheckedTask(Right())
    result = solve(TreeBackend(TREE), BFS(), task=checked, budget=Budget(calls=2))
    assert (result.answer, result.solved, result.ended, result.path) == (None, False, "calls", ("rc end",))


def test_a_template_spells_the_answer_when_the_budget_is_gone() -> None:
    """Where no prompt writes the answer nothing has to be paid for it, and the answer itself is what is verified."""

    class Right(Checker):
        def verify(self, input: str, steps: Any, answer: str | None) -> bool:
            return answer == "rc end"

    free = CheckedTask(Right(), **{'  answer: "answer of {{ state }}\\n"\n': ""})
    result = solve(TreeBackend(TREE), BFS(), task=free, budget=Budget(calls=2))
    assert (result.answer, result.solved, result.ended) == ("rc end", True, "calls")


# Failure, time and cancellation


class Failing(TreeBackend):
    """Fails at one request; the others never answer unless they came before it."""

    at = 5

    async def generate(self, request: Request) -> Reply:
        """As the class says."""
        if len(self.requests) + 1 == self.at:
            self.requests.append(request)
            raise BackendError("the machine is on fire")
        return await super().generate(request)


def alone_in_loop() -> bool:
    return len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("search", [BFS(b=9), DFS(threshold=0), CoTSC(k=8)])
@pytest.mark.parametrize("order", [None, 1, 2])
def test_a_failing_backend_gives_an_error_with_the_best_attempt(search: Search, order: int | None) -> None:
    """BackendError carries a result; nothing is left running, and the failed call is on the bill."""

    async def run() -> None:
        backend = Failing(TREE, order=order)
        with pytest.raises(BackendError, match="on fire") as caught:
            await Agent(task(), search, backend=backend).asolve("r")
        result = caught.value.result
        assert result is not None
        assert (result.ended, result.seed) == ("failed", 0)
        assert result.usage.calls == len(backend.requests)
        assert alone_in_loop()

    asyncio.run(run())


class Silent(TreeBackend):
    """Answers the first ``answers`` requests, then never again."""

    answers = 3

    async def generate(self, request: Request) -> Reply:
        """As the class says."""
        if len(self.requests) < self.answers:
            return await super().generate(request)
        self.requests.append(request)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            for _ in range(20):  # closing a connection takes a while, too
                await asyncio.sleep(0)
        raise AssertionError


@pytest.mark.parametrize("search", [BFS(b=9), DFS(threshold=0), CoTSC(k=8)])
def test_a_backend_that_never_answers_ends_by_the_clock(search: Search) -> None:
    """The seconds run out ordinarily: what has been found comes back, and no task is left."""

    async def run() -> Result:
        result = await Agent(task(), search, backend=Silent(TREE), budget=Budget(seconds=0.05)).asolve("r")
        assert alone_in_loop()
        return result

    result = asyncio.run(run())
    assert result.ended == "seconds"
    assert len(result.tree) == 4
    assert result.seconds < 5


@pytest.mark.parametrize("answers", range(12))
def test_nothing_remains_of_a_cancelled_run(answers: int) -> None:
    """Cancelled from outside at any request, the run passes the cancellation on and no task stays."""

    class Stuck(Silent):
        async def generate(self, request: Request) -> Reply:
            if len(self.requests) >= self.answers:
                loop.call_soon(running.cancel)
            return await super().generate(request)

    backend = Stuck(TREE)
    backend.answers = answers

    async def run() -> None:
        nonlocal loop, running
        loop = asyncio.get_running_loop()
        running = asyncio.ensure_future(Agent(task(), BFS(b=9), backend=backend).asolve("r"))
        with pytest.raises(asyncio.CancelledError):
            await running
        assert alone_in_loop()

    loop: Any = None
    running: Any = None
    asyncio.run(run())


@pytest.mark.parametrize("early", [True, False])
def test_a_run_can_be_stopped(early: bool) -> None:
    """Stopping is an ordinary end, before the run has begun and in its midst; the first reason given counts."""

    async def run() -> Result:
        def on_event(event: Event) -> None:
            if not early and event.type == "judged":
                started.stop("interrupted")
                started.stop("seconds")

        started = Agent(task(), BFS(b=9), backend=TreeBackend(TREE)).run("r", on_event=on_event)
        if early:
            started.stop()
        result = await started.result()
        assert alone_in_loop()
        return result

    result = asyncio.run(run())
    assert result.ended == "interrupted"
    assert (len(result.tree) == 1) is early


def test_a_run_runs_once() -> None:
    """A second ``result()`` would mix two searches in one tree."""

    async def run() -> None:
        started = Agent(task(), BFS(), backend=TreeBackend(TREE)).run("r")
        await started.result()
        await started.result()

    with pytest.raises(RuntimeError, match="once"):
        asyncio.run(run())


def test_an_error_in_a_handler_is_not_swallowed_and_leaves_nothing() -> None:
    """A bug in the user's own event handler surfaces as it is."""

    async def run() -> None:
        def on_event(event: Event) -> None:
            if event.type == "judged":
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await Agent(task(), BFS(), backend=TreeBackend(TREE)).asolve("r", on_event=on_event)
        assert alone_in_loop()

    asyncio.run(run())


# The stream


def test_a_stream_gives_every_event_and_then_the_result() -> None:
    """The same events in the same order as a handler sees, then the result."""
    seen: list[Event] = []
    solve(TreeBackend(TREE), BFS(), on_event=seen.append)

    async def run() -> list[Any]:
        return [item async for item in Agent(task(), BFS(), backend=TreeBackend(TREE)).stream("r")]

    *events, result = asyncio.run(run())
    assert isinstance(result, Result)
    assert [event.type for event in events] == [event.type for event in seen]
    assert (events[0].type, events[-1].type) == ("run", "end")


@pytest.mark.parametrize("how", ["break", "cancel", "fail"])
def test_leaving_a_stream_stops_its_search(how: str) -> None:
    """Left early, cancelled while it waits, or failed: no task stays behind."""

    async def run() -> None:
        backend: Backend = {"break": TreeBackend, "cancel": Silent, "fail": Failing}[how](TREE)
        stream = Agent(task(), BFS(b=9), backend=backend).stream("r")

        async def read() -> None:
            async for item in stream:
                if how == "break" and isinstance(item, Event) and item.type == "judged":
                    break

        reading = asyncio.ensure_future(read())
        if how == "cancel":
            for _ in range(60):
                await asyncio.sleep(0)
            reading.cancel()
        try:
            await reading
        except (asyncio.CancelledError, BackendError):
            assert how != "break"
        await stream.aclose()  # type: ignore[attr-defined]
        assert alone_in_loop()

    asyncio.run(run())


# Before the first request


def test_what_cannot_work_is_refused_before_the_first_request() -> None:
    """Capabilities, prompts, inputs and options are checked first; nothing has been asked by then."""

    class Mute(TreeBackend):
        capabilities = frozenset({"generate"})

    backend = Mute(TREE)
    with pytest.raises(CapabilityError, match=r"choice.*score"):
        Agent(task(), BFS(), backend=backend, evaluator="choice")
    with pytest.raises(ConfigError, match=r"prompts.sample"):
        Agent(
            task(**{"  sample: \"a child of {{ state }} after {{ steps | join(', ') }}\\n\"\n": ""}),
            BFS(by="sample"),
            backend=backend,
        )
    with pytest.raises(ConfigError, match="uses no evaluator"):
        Agent(task(), "io", backend=backend, options={"evaluator.samples": 3})
    with pytest.raises(ConfigError, match="before the dot"):
        Agent(task(), "bfs", backend=backend, options={"foo.bar": 3})
    with pytest.raises(ConfigError, match="Backend"):
        Agent(task(), "bfs", backend="json:JSONDecoder")
    with pytest.raises(ConfigError, match="cannot import"):
        Agent(task(), ":BFS", backend=backend)
    for wrong in ("", "  \n", "q", "r r"):
        with pytest.raises(InputError, match="name of the root"):
            solve_input(backend, wrong)
    assert not backend.requests


def solve_input(backend: Backend, text: str) -> Result:
    return Agent(task(), BFS(), backend=backend).solve(text)


def test_an_input_that_the_checker_cannot_read_is_an_input_error() -> None:
    """A pattern that lets too much pass leads to no traceback: the checker is asked before anything begins."""

    class Numbers(Checker):
        def key(self, state: str) -> str:
            return str(int(state))

    checked = CheckedTask(Numbers())
    with pytest.raises(InputError, match="synthetic"):
        Agent(checked, BFS(), backend=TreeBackend(TREE)).solve("r")


def test_ranked_puts_unknown_values_last_and_keeps_the_order_of_equals() -> None:
    """Best value first."""
    from treeagent import Judgement

    values = [None, 0.0, 2.0, None, -1.0, 2.0]
    thoughts = [Thought(i, 0, "", "", "", 1, judgement=Judgement(value)) for i, value in enumerate(values)]
    assert [thought.id for thought in ranked(thoughts)] == [2, 5, 1, 4, 0, 3]


class Plain(Search):
    """Not a dataclass, so it has no options."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """As the test says."""
        return None


def test_a_third_partys_search_needs_no_dataclass() -> None:
    """It works by ``module:Class``, and says so when it is given options."""
    assert Agent(task(), f"{__name__}:Plain", backend=TreeBackend(TREE)).solve("r").answer is None
    with pytest.raises(ConfigError, match="no option 'b'"):
        Agent(task(), f"{__name__}:Plain", backend=TreeBackend(TREE), options={"b": 1})
