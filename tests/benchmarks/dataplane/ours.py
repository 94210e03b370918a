"""The gateway under measurement: its settings, its split and rollout, and what came of captures."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import yaml
from dataplane.process import free_port
from dataplane.started import Started
from sqlalchemy import func
from sqlmodel import select

from gateway.batch import Batch, Capture
from gateway.compile import compile_hot, state
from gateway.intake import count_packed
from gateway.split import Mirror, Split
from gateway.store.engine import Store, open_store
from gateway.store.splits import save_split
from gateway.store.tables import CaptureRow, IntakeRow, PairRow, RolloutRow
from gateway.writer import write_batch

__all__ = [
    "captured",
    "compiled_copy",
    "gateway",
    "hand_over",
    "pairs",
    "settings",
    "split",
    "start",
    "write_store",
]

_KEY = "bench-client-key"
_ROOT = Path(__file__).resolve().parents[3]
_PACKAGES = ("gateway", "shadow", "rollout")


def compiled_copy(folder: Path) -> Path:
    """Compile a copy of the product below ``folder`` unless it is there, and return where it is.

    The checkout itself stays as it is: what is compiled would hide later changes of its sources.
    Raises :class:`subprocess.CalledProcessError`.
    """
    copy = folder / "compiled"
    if not copy.exists() or state(copy) != "compiled" or _newest(copy) < _newest(_ROOT):
        shutil.rmtree(copy, ignore_errors=True)
        for package in _PACKAGES:
            ignored = shutil.ignore_patterns("*.so", "__pycache__")
            shutil.copytree(_ROOT / package, copy / package, ignore=ignored)
        compile_hot(copy)
    return copy


def _newest(root: Path) -> float:
    files = (path for package in _PACKAGES for path in (root / package).rglob("*.py"))
    return max(path.stat().st_mtime for path in files)


def gateway(folder: Path, upstream: int, *, everything: bool, code: Path | None) -> Started:
    """Write the settings of a gateway for ``upstream``'s port: every feature on, or only a route.

    It runs the code below ``code``; ``None``: this checkout's, interpreted.

    With everything there are a client key, a split at 50% that captures a tenth of all answers,
    and metrics. Mirrors draw from the baseline's half, live checks from both.
    """
    document = settings(folder, upstream)
    if everything:
        write_store(folder, split(weight_bp=5000, live_bp=500, mirror_bp=1000, noise_bp=500))
    else:
        del document["clients"], document["deployments"]["tuned"]
    return start(folder, document, "gateway", code=code)


def settings(folder: Path, upstream: int) -> dict[str, Any]:
    """Return settings with a client key and two deployments, both of them ``upstream``'s port."""
    url = f"http://127.0.0.1:{upstream}/v1"
    return {
        "store": _url(folder),
        "data_dir": str(folder),
        "log_level": "warning",
        "gateway": {"port": free_port(), "metrics_port": free_port(), "drain_timeout": "1s"},
        "worker": {"metrics_port": free_port(), "drain_timeout": "1s"},
        "deployments": {
            "stable": {"base_url": url, "model": "served"},
            "tuned": {"base_url": url, "model": "tuned"},
        },
        "routes": {"bench": {"baseline": "stable"}},
        "clients": [{"name": "bench", "key_env": "BENCH_CLIENT_KEY"}],
    }


def start(
    folder: Path, document: Mapping[str, Any], role: str, *, code: Path | None = None
) -> Started:
    """Write the settings and return how a process of this role (gateway, worker) is started."""
    config = folder / "coalmine.yaml"
    config.write_text(yaml.safe_dump(dict(document)), encoding="utf-8")
    return Started(
        [sys.executable, "-P", "-m", "rollout.cli", role, "--config", str(config)],
        document["gateway"]["port"],
        {"BENCH_CLIENT_KEY": _KEY, "PYTHONPATH": str(_ROOT if code is None else code)},
        {"authorization": f"Bearer {_KEY}"} if "clients" in document else {},
    )


def split(*, weight_bp: int = 0, live_bp: int = 0, mirror_bp: int = 0, noise_bp: int = 0) -> Split:
    """Return the route's split; shares in basis points, that of noise is of what is mirrored."""
    mirror = Mirror(
        rollout_id=1,
        rollout="bench",
        candidate="tuned",
        percentage_bp=mirror_bp,
        noise_bp=noise_bp,
        salt="bench-mirror",
    )
    return Split(
        route="bench",
        revision=0,
        baseline="stable",
        candidate="tuned",
        weight_bp=weight_bp,
        salt="bench",
        rollout="bench",
        rollout_id=1,
        slo_s=10.0,
        live_sample_bp=live_bp,
        mirrors=(mirror,) if mirror_bp else (),
    )


def write_store(folder: Path, wanted: Split) -> None:
    """Create the store in ``folder`` with this split and the rollout that it belongs to."""
    now = time.time()
    rollout = RolloutRow(
        id=1,
        name="bench",
        generation=1,
        route="bench",
        spec={"candidate": {"deployment": "tuned"}},
        spec_hash="bench",
        candidate_revision="bench",
        phase="shadowing",
        state={"baseline": "stable"},
        created_at=now,
        updated_at=now,
    )
    with _store(folder) as store:
        store.migrate()
        with store.write() as session:
            session.add(rollout)
            save_split(store, session, wanted, now=now)


def captured(folder: Path) -> int:
    """Return how many captures the gateway wrote into its store in ``folder``."""
    with _store(folder) as store, store.read() as session:
        rows = int(session.exec(select(func.count()).select_from(CaptureRow)).one())
        packets = session.exec(select(IntakeRow.data)).all()
        return rows + sum(len(msgspec.msgpack.decode(packet)) for packet in packets)


def pairs(folder: Path) -> dict[str, int]:
    """Return how many pairs are in each state, or, once done, came to each outcome."""
    with _store(folder) as store, store.read() as session:
        word = func.coalesce(PairRow.outcome, PairRow.state)
        rows = session.exec(select(word, func.count()).group_by(word))
        found = {name: int(count) for name, count in rows}
        if packed := count_packed(session):
            found["pending"] = found.get("pending", 0) + packed
        return found


def hand_over(folder: Path, body: bytes, *, count: int) -> None:
    """Put captures of this request into the store in ``folder``, as a gateway would."""
    now = time.time()
    answer = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"as before"}}]}'
    capture = Capture(
        id="",
        route="bench",
        request_id="elsewhere",
        created_at=now,
        endpoint="/chat/completions",
        variant="baseline",
        reason="split",
        deployment="stable",
        stream=False,
        request_body=body,
        response_body=answer,
        content_encoding=b"",
        status=200,
        ttft_s=None,
        total_s=0.1,
        input_tokens=None,
        output_tokens=None,
        segment=None,
        risk=None,
        key_hash=None,
        split_revision=0,
        epoch=0,
        weight_bp=0,
        size=len(body) + len(answer),
        pairs=[(1, "mirror")],
    )
    batch = Batch(number=1, from_at=now, to_at=now)
    batch.captures = [replace(capture, id=f"elsewhere-{number}") for number in range(count)]
    with _store(folder) as store, store.write() as session:
        write_batch(store, session, batch, replica="elsewhere", started_at=now)


@contextlib.contextmanager
def _store(folder: Path) -> Iterator[Store]:
    store = open_store(_url(folder))
    try:
        yield store
    finally:
        store.close()


def _url(folder: Path) -> str:
    return f"sqlite:///{folder / 'coalmine.db'}"
