"""What a worker needs: pairs a second of one core's time, and memory for a pair in work.

A real ``coalmine worker`` on SQLite, its candidate and judge an upstream without latency, on
another core. CPU is that of the worker's process by ``/proc``, from the moment that the pairs are
there until the last is written: what the worker waits for costs it nothing, so this is the rate
that a core sustains whatever the latency of candidate and judge.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from dataplane.process import cpu_of, free_port, resident_mib, running, spawn, stop
from evaluator.rows import Row
from evaluator.upstream import answer_text, completion
from sqlmodel import select

from gateway.batch import Capture
from gateway.intake import packets
from gateway.store.engine import Store, open_store
from gateway.store.evidence import load_funnel, move_funnel
from gateway.store.tables import IntakeRow, ReplicaRow, RolloutRow

__all__ = ["PAIRS_GOAL", "measure"]

PAIRS_GOAL = ">= 100"
"""Pairs that a core manages in a second, checks and store included, without the judge."""

_DEADLINE_S = 120.0
_METRICS = ["format_valid", "refusal_rate", "error_rate", "timeout_rate", "output_tokens"]


@dataclass(frozen=True, slots=True)
class _System:
    """A worker under measurement, its store, and the upstream behind it."""

    store: Store
    pid: int
    upstream: int
    rollouts: dict[str, int]


def measure(*, quick: bool, cores: tuple[int, int]) -> list[Row]:
    """Measure, with the upstream on the first core and the worker on the second."""
    count, rounds, held = (150, 1, 300) if quick else (2000, 3, 2000)
    rows = []
    cases = {"without a judge": "plain", "both orders judged": "judged"}
    with _system(cores, concurrency=held) as system:
        # Before anything else: what was used and given back would hide it.
        rows.append(_memory(system, held))
    with _system(cores, concurrency=64) as system:
        _evaluated(system, "plain", 20)  # what is imported and compiled on first use
        _evaluated(system, "judged", 5)
        for words, rollout in cases.items():
            rates = [count / _evaluated(system, rollout, count) for _ in range(rounds)]
            goal = PAIRS_GOAL if rollout == "plain" else ""
            middle = median(rates)
            spread = (max(rates) - min(rates)) / middle if rounds > 1 else None
            name = f"pairs a second of a worker's core, {words}"
            note = f"{count} pairs of 1,000-token answers, SQLite"
            rows.append(Row(name, middle, "pairs/s", goal, rounds, spread, note))
    return rows


def _memory(system: _System, held: int) -> Row:
    """Measure resident memory while so many candidates' answers are waited for."""
    before = resident_mib([system.pid])
    _hand_over(system, "held", held)
    deadline = time.monotonic() + _DEADLINE_S
    while _held(system.upstream) < held:
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {_held(system.upstream)} of {held} pairs were in work")
        time.sleep(0.05)
    each = (resident_mib([system.pid]) - before) * 1024 / held
    note = f"{held} pairs in work, each with a 1,000-token answer and a connection"
    return Row("memory of a pair in work", each, "KiB", "< 200", note=note)


def _evaluated(system: _System, rollout: str, count: int) -> float:
    """Have so many pairs evaluated and return the CPU seconds that the worker took for them."""
    began = cpu_of([system.pid])
    done = _done(system, rollout)
    _hand_over(system, rollout, count)
    deadline = time.monotonic() + _DEADLINE_S
    while _done(system, rollout) < done + count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{_done(system, rollout) - done} of {count} pairs were evaluated")
        time.sleep(0.02)
    return cpu_of([system.pid]) - began


def _done(system: _System, rollout: str) -> int:
    with system.store.read() as session:
        mirror = load_funnel(session, system.rollouts[rollout]).get("mirror", {})
    lost = {name: n for name, n in mirror.items() if n and name not in _EXPECTED}
    if lost:
        raise RuntimeError(f"the pairs of {rollout!r} were not compared: {lost}")
    return mirror.get("compared", 0)


_EXPECTED = frozenset({"eligible", "pending", "compared"})


def _hand_over(system: _System, rollout: str, count: int) -> None:
    """Write captures as a gateway hands them over, each with one pair of the rollout."""
    rollout_id = system.rollouts[rollout]
    stamp = time.time_ns()
    captures = [_capture(f"{stamp}-{number}", number, rollout_id) for number in range(count)]
    with system.store.write() as session:
        for packet in packets(captures):
            session.add(IntakeRow(**packet))
        moves = [(rollout_id, "mirror", outcome, count) for outcome in ("eligible", "pending")]
        move_funnel(system.store, session, moves)


def _capture(name: str, number: int, rollout_id: int) -> Capture:
    question = f"Where is parcel {number}? It should have been here on Monday."
    request = json.dumps(
        {
            "model": "bench",
            "messages": [
                {"role": "system", "content": "You are a support agent of a parcel service."},
                {"role": "user", "content": question},
            ],
        }
    ).encode()
    answer = completion(answer_text(seed=number % 17))
    return Capture(
        id=name,
        route="bench",
        request_id=name,
        created_at=time.time(),
        endpoint="/chat/completions",
        variant="baseline",
        reason="default",
        deployment="stable",
        stream=False,
        request_body=request,
        response_body=answer,
        content_encoding=b"",
        status=200,
        ttft_s=None,
        total_s=0.5,
        input_tokens=60,
        output_tokens=1000,
        segment="parcels",
        risk="low",
        key_hash=None,
        split_revision=1,
        epoch=0,
        weight_bp=0,
        size=len(request) + len(answer),
        pairs=[(rollout_id, "mirror")],
    )


@contextlib.contextmanager
def _system(cores: tuple[int, int], *, concurrency: int) -> Iterator[_System]:
    with tempfile.TemporaryDirectory(prefix="coalmine-bench-") as scratch:
        folder = Path(scratch)
        port = free_port()
        script = Path(__file__).with_name("upstream.py")
        command = [sys.executable, str(script), str(port)]
        with running(command, core=cores[0], log=folder / "upstream.log"):
            store = open_store(f"sqlite:///{folder / 'bench.db'}")
            store.migrate()
            rollouts = {name: _rollout(store, name) for name in ("plain", "judged", "held")}
            config = folder / "coalmine.yaml"
            config.write_text(yaml.safe_dump(_settings(folder, port, concurrency)))
            worker = spawn(
                [sys.executable, "-m", "rollout.cli", "worker", "--config", str(config)],
                core=cores[1],
                log=folder / "worker.log",
            )
            try:
                _wait_for_worker(store, folder / "worker.log")
                yield _System(store, worker.pid, port, rollouts)
            finally:
                stop(worker)
                store.close()


def _settings(folder: Path, port: int, concurrency: int) -> dict[str, Any]:
    upstream = f"http://127.0.0.1:{port}/v1"
    models = {"stable": "served", "tuned": "tuned", "held": "held", "judge": "judge"}
    return {
        "store": f"sqlite:///{folder / 'bench.db'}",
        "data_dir": str(folder),
        "log_level": "warning",
        "worker": {
            "metrics_port": free_port(),
            "concurrency": concurrency,
            "claim_batch": 64,
            "drain_timeout": "1s",
        },
        "deployments": {
            name: {"base_url": upstream, "model": model} for name, model in models.items()
        },
        "routes": {"bench": {"baseline": "stable"}},
        "judge": {"deployment": "judge", "max_concurrency": 64},
    }


def _rollout(store: Store, name: str) -> int:
    metrics = [*_METRICS, "judge_win_rate"] if name == "judged" else _METRICS
    spec = {
        "candidate": {"deployment": "held" if name == "held" else "tuned"},
        "mirror": {"max_concurrency": 4096, "timeout": 600},
        "analysis": {"metrics": [{"name": each} for each in metrics]},
    }
    with store.write() as session:
        row = RolloutRow(
            name=name,
            generation=1,
            route="bench",
            spec=spec,
            spec_hash="bench",
            candidate_revision="bench",
            phase="shadowing",
            state={"baseline": "stable"},
            created_at=0.0,
            updated_at=0.0,
        )
        session.add(row)
        session.flush()
        return int(row.id or 0)


def _wait_for_worker(store: Store, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with store.read() as session:
            if session.exec(select(ReplicaRow).where(ReplicaRow.role == "worker")).first():
                return
        time.sleep(0.05)
    raise RuntimeError(f"the worker did not start:\n{log.read_text(errors='replace')}")


def _held(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/held", timeout=5) as answer:
        return int(answer.read())
