"""Following a rollout: through pauses, restarts of control, and to the end."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from rich.console import Console

from gateway.errors import ConnectFailed, RequestError
from rollout.cli.client import AdminClient
from rollout.cli.watching import follow


def _status(phase: str) -> dict[str, Any]:
    return {
        "name": "v7",
        "generation": 1,
        "route": "r",
        "baseline": "a",
        "candidate": "b",
        "phase": phase,
        "why": "because",
        "next": "what follows",
        "needs": [],
        "step": 1,
        "steps": 1,
        "weight": 5,
        "revision": 1,
        "finished_at": None,
        "time_to_zero": None,
        "plan": [{"label": "5%"}],
        "progress": None,
        "log10_e_harm": 0.0,
        "rollback_at": 1.3,
        "promote_at": 1.3,
        "metrics": [],
        "funnel": {},
    }


def _transition(number: int, to_phase: str) -> dict[str, Any]:
    return {
        "number": number,
        "at": 0.0,
        "actor": "controller",
        "event": f"event{number}",
        "to_phase": to_phase,
        "weight_before": 0,
        "weight_after": 0,
        "reason": "r",
    }


class Script:
    """A control that answers as a test says: one entry for each look."""

    def __init__(self, *looks: tuple[str, int] | Exception | httpx.Response) -> None:
        self._looks: Iterator[Any] = iter(looks)
        self._transitions = 0
        self.generations: list[str | None] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request for the status or for the transitions after a cursor."""
        if request.url.path.endswith("/transitions"):
            after = int(request.url.params["cursor"])
            numbers = range(after + 1, self._transitions + 1)
            page = [_transition(number, "shadowing") for number in numbers]
            return httpx.Response(200, json={"transitions": page, "next_cursor": None})
        self.generations.append(request.url.params.get("generation"))
        look = next(self._looks)
        if isinstance(look, Exception):
            raise look
        if isinstance(look, httpx.Response):
            return look
        phase, self._transitions = look
        return httpx.Response(200, json=_status(phase))


@pytest.fixture
def watch() -> Iterator[Callable[..., tuple[int, str]]]:
    """Follows a scripted control without waiting; returns the status and what was printed."""
    clients: list[AdminClient] = []

    def run(script: Script, *, terminal: bool = False, as_json: bool = False) -> tuple[int, str]:
        transport = httpx.MockTransport(script)
        client = AdminClient("http://127.0.0.1:1", transport=transport)
        clients.append(client)
        file = io.StringIO()
        console = Console(file=file, force_terminal=terminal, width=120, color_system=None)
        code = follow(
            client, "v7", interval=1, as_json=as_json, console=console, sleep=lambda _: None
        )
        return code, file.getvalue()

    yield run
    for client in clients:
        client.__exit__(None, None, None)


def _problem(status: int) -> httpx.Response:
    return httpx.Response(status, json={"detail": "the store failed", "type": "urn:x:y:z"})


@pytest.mark.parametrize(
    ("phase", "code"),
    [("succeeded", 0), ("rolled_back", 1), ("aborted", 1), ("superseded", 1)],
)
def test_only_success_ends_with_zero(
    watch: Callable[..., tuple[int, str]], phase: str, code: int
) -> None:
    """A script can tell by the status alone whether the candidate was promoted."""
    assert watch(Script(("shadowing", 1), ("paused", 1), (phase, 2)))[0] == code


def test_each_transition_is_printed_once(watch: Callable[..., tuple[int, str]]) -> None:
    """Nothing is printed twice and nothing is left out, however many fall between two looks."""
    _, out = watch(Script(("shadowing", 2), ("progressing", 2), ("succeeded", 5)), as_json=True)
    assert [json.loads(line)["number"] for line in out.splitlines()] == [1, 2, 3, 4, 5]


def test_a_restart_of_control_does_not_end_it(
    watch: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """While control restarts or its store is down, watching goes on, and says so once."""
    script = Script(
        ("shadowing", 1), httpx.ConnectError("refused"), _problem(503), ("succeeded", 2)
    )
    code, out = watch(script, as_json=True)
    assert code == 0
    assert [json.loads(line)["number"] for line in out.splitlines()] == [1, 2]
    assert capsys.readouterr().err.count("trying again") == 1


def test_no_control_at_all_is_an_error(watch: Callable[..., tuple[int, str]]) -> None:
    """When the very first look fails there is nothing to wait for."""
    with pytest.raises(ConnectFailed, match="is it running"):
        watch(Script(httpx.ConnectError("refused")))


def test_a_refusal_ends_it(watch: Callable[..., tuple[int, str]]) -> None:
    """A revoked token is not waited out."""
    with pytest.raises(RequestError, match="COALMINE_TOKEN"):
        watch(Script(("shadowing", 1), _problem(401)))


def test_the_generation_is_kept(watch: Callable[..., tuple[int, str]]) -> None:
    """When somebody applies a new spec, the one that was watched is followed to its end."""
    script = Script(("shadowing", 1), ("superseded", 2))
    assert watch(script)[0] == 1
    assert script.generations == [None, "1"]


def test_a_terminal_shows_the_status_live(watch: Callable[..., tuple[int, str]]) -> None:
    """In a terminal the status stands below the transitions while it lasts."""
    code, out = watch(Script(("shadowing", 1), ("succeeded", 2)), terminal=True)
    assert code == 0
    for part in ("event1", "event2", "why    because"):
        assert part in out
