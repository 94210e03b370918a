"""The admin API in memory, over a real store."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from gateway.settings import Settings
from gateway.store import Store
from gateway.store.tables import CaptureRow, PairRow, ReviewItemRow
from rollout.api import create_app
from rollout.service import RolloutService
from shadow.answer import read_answer
from shadow.checks import run_checks
from shadow.pair import Arm, Pair, read_prompt


@dataclass(frozen=True)
class Control:
    """A running control: its address, and what stands behind it."""

    url: str
    store: Store
    service: RolloutService


@dataclass(frozen=True)
class Ran:
    """A command that has ended: exit status, standard output and standard error."""

    code: int
    out: str
    err: str


class Clock:
    """A clock that a test sets. Seconds."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the present instant."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock at a fixed instant."""
    return Clock(1_800_000_000.0)


@pytest.fixture
def settings() -> Settings:
    """Two deployments, a judge, one route; control on loopback."""
    return Settings.model_validate(
        {
            "deployments": {
                "support-v6": {"base_url": "http://127.0.0.1:1/v1", "model": "support-v6"},
                "support-v7": {
                    "base_url": "http://127.0.0.1:1/v1",
                    "model": "support-v7",
                    "api_key_env": "V7_KEY",
                    "manifest": {"base_model": "base", "adapter": "sha256:abc"},
                },
                "judge": {"base_url": "http://127.0.0.1:1/v1", "model": "judge"},
            },
            "routes": {"support-bot": {"baseline": "support-v6"}},
            "judge": {"deployment": "judge"},
        }
    )


@pytest.fixture
def sick() -> dict[str, str]:
    """What the health probe says is wrong, by deployment; tests fill it."""
    return {}


@pytest.fixture
def service(store: Store, settings: Settings, clock: Clock, sick: dict[str, str]) -> RolloutService:
    """The real service; every deployment is healthy but those in sick."""
    return RolloutService(store, settings, health=sick.get, clock=clock)


@pytest.fixture
def serve(
    store: Store, settings: Settings, clock: Clock, service: RolloutService
) -> Iterator[Callable[..., TestClient]]:
    """Builds a client of the API, which takes base_url, host and settings."""
    opened: list[TestClient] = []

    def build(
        *, base_url: str = "http://127.0.0.1:8081", host: str = "127.0.0.1", **options: Any
    ) -> TestClient:
        control = settings.control.model_copy(update={"host": host})
        served = settings.model_copy(update={"control": control})
        app = create_app(served, store, service, clock=clock)
        client = TestClient(app, base_url=base_url, raise_server_exceptions=False, **options)
        opened.append(client)
        return client

    yield build
    for client in opened:
        client.close()


@pytest.fixture
def control(
    sqlite_url: str, open_stores: Callable[[str], Store], settings: Settings, sick: dict[str, str]
) -> Iterator[Control]:
    """A running control on loopback, over SQLite, without a controller."""
    store = open_stores(sqlite_url)
    service = RolloutService(store, settings, health=sick.get)
    config = uvicorn.Config(create_app(settings, store, service), log_level="error")
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            deadline = time.monotonic() + 20
            while not server.started:
                assert thread.is_alive(), "control did not start"
                assert time.monotonic() < deadline, "control did not start in time"
                time.sleep(0.01)
            yield Control(f"http://127.0.0.1:{listening.getsockname()[1]}", store, service)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive(), "control did not stop"


@pytest.fixture
def coalmine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ran]:
    """Runs the command line in this process and returns its status and what it printed."""
    from rollout.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> Ran:
        monkeypatch.setattr("sys.argv", ["coalmine", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        printed = capsys.readouterr()
        return Ran(code if isinstance(code, int) else 0, printed.out, printed.err)

    return run


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    """The local user's client, without a token."""
    return serve()


@pytest.fixture
def tokens(client: TestClient) -> dict[str, dict[str, str]]:
    """Authorization headers by role, after one token of each was created."""
    headers: dict[str, dict[str, str]] = {}
    for role in ("admin", "operator", "reviewer", "viewer"):
        answer = client.post(
            "/api/v1/tokens", json={"name": f"a-{role}", "role": role}, headers=headers.get("admin")
        )
        assert answer.status_code == 201, answer.text
        headers[role] = {"authorization": f"Bearer {answer.json()['secret']}"}
    return headers


class Items:
    """Writes the pairs that workers would have drawn for people, for rollout 1."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.count = 0

    @staticmethod
    def chat(text: str, **message: Any) -> str:
        """The body of a chat completion, with everything that would give its model away."""
        return json.dumps(
            {
                "id": "chatcmpl-support-v7",
                "model": "support-v7-lora",
                "system_fingerprint": "fp_support-v6",
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": text, **message}}
                ],
                "usage": {"prompt_tokens": 11, "completion_tokens": 7},
            }
        )

    def item(self, **values: Any) -> int:
        """Add a drawn pair; the candidate said GOOD and stands left unless told otherwise."""
        self.count += 1
        captured, mirrored = self.chat("plain answer"), self.chat("GOOD answer")
        reverse = values.pop("reverse", False)
        capture = CaptureRow(
            id=f"c{self.count}",
            route="support-bot",
            request_id=f"r{self.count}",
            created_at=0.0,
            endpoint="/v1/chat/completions",
            variant="candidate" if reverse else "baseline",
            reason="split",
            deployment="support-v7" if reverse else "support-v6",
            stream=False,
            request_body=json.dumps(
                {"model": "support-bot", "messages": [{"role": "user", "content": "help me"}]}
            ),
            response_body=values.pop("captured", mirrored if reverse else captured),
            status=200,
            ttft_s=0.1234,
            total_s=5.4321,
            split_revision=1,
            epoch=1,
            weight_bp=0,
        )
        with self.store.write() as session:
            session.add(capture)
            session.flush()
            pair = PairRow(
                rollout_id=1,
                capture_id=capture.id,
                stream="mirror",
                state="done",
                outcome="compared",
                created_at=0.0,
                segment="billing",
                candidate_response=values.pop("mirrored", captured if reverse else mirrored),
                candidate_status=200,
                comparison={"result": "win", "score": 1.0},
            )
            session.add(pair)
            session.flush()
            row = ReviewItemRow(
                **{
                    "rollout_id": 1,
                    "pair_id": pair.id,
                    "route": "support-bot",
                    "segment": "billing",
                    "source": "random",
                    "probability": 0.1,
                    "left_arm": "candidate",
                    "score": 1.0,
                    "position": self.count / 1000,
                    "created_at": 0.0,
                    **values,
                }
            )
            session.add(row)
            session.flush()
            return int(row.id or 0)


@pytest.fixture
def items_in() -> Callable[[Store], Items]:
    """Builds what writes drawn pairs into a store."""
    return Items


def _chat(content: str, **message: Any) -> str:
    choice = {"message": {"role": "assistant", "content": content, **message}}
    return json.dumps({"choices": [{**choice, "finish_reason": "stop"}]})


@pytest.fixture
def finish_pair() -> Callable[..., int]:
    """Writes a capture with its finished pair, checked for real, and returns the pair's id.

    ``finish_pair(store, rollout_id, said, baseline, candidate)``; without one of the answers it is
    a live answer of the other arm. Further keywords change the judge's ``result``, the ``segment``,
    the ``user`` and the ``request``.
    """

    def finish(
        store: Store,
        rollout_id: int,
        said: str,
        baseline: str | None,
        candidate: str | None,
        *,
        result: str = "tie",
        segment: str | None = "billing",
        user: str | None = None,
        request: dict[str, Any] | None = None,
        candidate_message: dict[str, Any] | None = None,
    ) -> int:
        message = candidate_message or {}
        body = {"messages": [{"role": "user", "content": said}], **(request or {})}
        text = json.dumps(body)
        bodies = {
            "baseline": None if baseline is None else _chat(baseline),
            "candidate": None if candidate is None else _chat(candidate, **message),
        }
        arms = {
            arm: None if each is None else Arm(read_answer(endpoint="chat/completions", body=each))
            for arm, each in bodies.items()
        }
        prompt = read_prompt(endpoint="chat/completions", body=text)
        checks = run_checks(Pair(prompt, arms["baseline"], arms["candidate"]))
        live = baseline is None or candidate is None
        variant = "candidate" if baseline is None else "baseline"
        decided = {"decided_by": "judge", "result": result, "reason": ""}
        with store.write() as session:
            capture = CaptureRow(
                id=uuid.uuid4().hex, route="support-bot", request_id=uuid.uuid4().hex,
                created_at=5.0, endpoint="chat/completions", variant=variant, reason="split",
                deployment="support-v6", stream=False, request_body=text,
                response_body=bodies[variant], status=200, total_s=1.0, segment=segment,
                key_hash=user, split_revision=1, epoch=1, weight_bp=1000,
            )  # fmt: skip
            session.add(capture)
            session.flush()
            pair = PairRow(
                rollout_id=rollout_id, capture_id=capture.id, stream="live" if live else "mirror",
                state="done", outcome="checked" if live else "compared", created_at=5.0,
                finished_at=6.0, segment=segment, checks={c.name: c.to_json() for c in checks},
                comparison=None if live else decided,
                candidate_response=None if live else bodies["candidate"],
                candidate_status=None if live else 200,
            )  # fmt: skip
            session.add(pair)
            session.flush()
            return pair.id or 0

    return finish
