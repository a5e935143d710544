"""What tests of searches over whole chains share."""

from __future__ import annotations

from typing import Any

from synthetic import TreeBackend, named

from treeagent import Request

LOOSE = {"'^answer": "'(?m)^answer"}


def leaves(tree: Any) -> list[str]:
    return [name for name, node in named(tree).items() if not isinstance(node, list)]


def samples(backend: TreeBackend) -> list[tuple[str, int]]:
    """The node and the number of samples of each expansion by the prompt ``sample``."""
    asked = [request for request in backend.requests if isinstance(request, Request) and request.key.role == "sample"]
    return [(request.prompt.split()[3], request.n) for request in asked]
