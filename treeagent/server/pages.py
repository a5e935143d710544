"""Pages for a browser: the list of searches, and the page of one, which follows it while it runs."""

from __future__ import annotations

import asyncio
import time
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from ..display.text import one_line
from ..viewer.page import page
from ..viewer.run_data import RunData, run_data
from .recent_runs import RecentRun
from .search_service import SearchService
from .watched_reply import JsonReply

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>treeagent serve</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .3rem .8rem .3rem 0 }
</style></head><body>
"""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
}  # fmt: skip
_EVERY = "2"
"""Seconds until a browser loads a page again that changes."""


class Pages:
    """The pages over the searches of a service."""

    def __init__(self, service: SearchService) -> None:
        self._service = service

    async def index(self, request: Request) -> Response:
        """``GET /``: the searches that are kept, newest first."""
        rows = "".join(map(_row, self._service.recent.newest_first))
        queue = self._service.queue
        counts = f"{queue.running} running, {queue.waiting} waiting, {len(self._service.models.names)} models"
        table = f"<table><tr><th>search<th>input<th>thoughts<th>state<th>began</tr>{rows}</table>" if rows else ""
        hint = "" if rows else "<p>No search yet. Send one to <code>/v1/chat/completions</code>.</p>"
        text = f"{_HEAD}<h1>treeagent serve</h1><p>{counts}</p>{hint}{table}</body></html>\n"
        return HTMLResponse(text, headers={**_HEADERS, "Refresh": _EVERY})

    async def run(self, request: Request) -> Response:
        """``GET /runs/ID``: the page of ``treeagent view``, which follows the search. Raises HttpError (404)."""
        run = self._service.find(request.path_params["id"])
        if not run.size:
            waiting = f"{_HEAD}<p>{escape(run.model)}: the search waits for its turn.</p></body></html>\n"
            return HTMLResponse(waiting, headers={**_HEADERS, "Refresh": _EVERY})
        headers = {name: value for name, value in _HEADERS.items() if name != "Content-Security-Policy"}
        return HTMLResponse(page([await _data(run)], follow=run.ended is None), headers=headers)

    async def data(self, request: Request) -> Response:
        """``GET /runs/ID/data?events=N``: what the page shows, once there are more than N events. Raises HttpError."""
        run = self._service.find(request.path_params["id"])
        known = request.query_params.get("events", "")
        ended = run.ended is not None
        fresh: dict[str, Any] = {"events": run.size, "ended": ended}
        if not ended and known == str(run.size):
            return JsonReply(fresh)
        data = await _data(run)
        return JsonReply({**fresh, "tree": data.tree, "replies": data.replies}, headers={"Cache-Control": "no-store"})


async def _data(run: RecentRun) -> RunData:
    """In a thread: a large tree takes long."""
    return await asyncio.to_thread(lambda: run_data(run.events, run.model))


def _row(run: RecentRun) -> str:
    thoughts = run.thoughts
    state = run.ended or ("running" if run.size else "waiting")
    began = time.strftime("%H:%M:%S", time.localtime(run.began))
    cells = (one_line(run.input, 60), str(thoughts), state, began)
    link = f'<a href="/runs/{escape(run.id)}">{escape(run.model)}</a>'
    return f"<tr><td>{link}" + "".join(f"<td>{escape(cell)}" for cell in cells) + "</tr>"
