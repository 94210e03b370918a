"""What the demo runs on: a folder with settings, the simulated upstreams, and free ports."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gateway.settings import Settings, load_settings
from rollout.cli.up import parts
from rollout.supervisor import Part

__all__ = ["FAST", "ROUTE", "Pace", "Scene", "build_scene", "simulator_document"]

ROUTE = "support-bot"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the demo goes: traffic in requests per second, and what each step waits for."""

    requests_per_second: float = 140.0
    min_pairs: int = 300
    min_samples: int = 200
    bake_s: float = 4.0
    simulator_time_scale: float = 1.0


FAST = Pace(
    requests_per_second=170.0,
    min_pairs=200,
    min_samples=80,
    bake_s=1.0,
    simulator_time_scale=0.25,
)


@dataclass(frozen=True, slots=True)
class Scene:
    """The demo's folder, files and addresses."""

    folder: Path
    config: Path
    simulator_config: Path
    simulator_port: int
    settings: Settings
    pace: Pace

    @property
    def gateway_url(self) -> str:
        """Where the OpenAI-compatible API listens, up to ``/v1``."""
        return f"http://127.0.0.1:{self.settings.gateway.port}/v1"

    @property
    def control_url(self) -> str:
        """Where the admin API listens."""
        return f"http://127.0.0.1:{self.settings.control.port}"

    def parts(self) -> list[Part]:
        """Return the processes: the simulator, then those of ``coalmine up``."""
        log = {"COALMINE_LOG_LEVEL": "warning"}
        simulator = Part(
            "simulator",
            [
                *(sys.executable, "-m", "rollout.cli", "simulate"),
                *("--config", str(self.simulator_config), "--port", str(self.simulator_port)),
            ],
            f"http://127.0.0.1:{self.simulator_port}/health",
            log,
        )
        return [
            simulator,
            *(
                Part(part.name, part.arguments, part.ready_url, log)
                for part in parts(self.settings, self.config)
            ),
        ]


def simulator_document(*, seed: int, time_scale: float = 1.0) -> dict[str, Any]:
    """Return the simulated upstreams: the baseline, three candidates and the judge."""
    usual = {
        "first_token": {"median": "25ms", "p95": "70ms"},
        "tokens_per_second": 2500,
        "tokens_per_chunk": 8,
        "sampling": "per_request",
        "quality": 0.75,
        "json_break_rate": 0.002,
        "refusal_rate": 0.002,
    }
    return {
        "seed": seed,
        "time_scale": time_scale,
        "models": {
            "support-v6": usual,
            "support-v7": {**usual, "quality": 0.85},
            "support-v8": {**usual, "quality": 0.85, "json_break_rate": 0.06, "verbosity": 1.3},
            # Mirrored requests carry no user id, so the shadow can't see what this one does
            # with a user's session: that is what live steps and fast rollback are for.
            "support-v9": {
                **usual,
                "quality": 0.85,
                "overrides": [{"when": {"header": {"x-user-id": "*"}}, "set": {"error_rate": 0.3}}],
            },
            "judge": {"role": "judge", "position_bias": 0.05, "first_token": "5ms"},
        },
    }


def build_scene(
    folder: Path,
    *,
    simulator: Mapping[str, Any],
    pace: Pace | None = None,
    store: str | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Scene:
    """Write the settings and the simulator's file into ``folder``; choose free ports on loopback.

    ``simulator`` is the simulator's document; a deployment is declared for each of its models.
    ``store`` replaces the SQLite file in the folder; ``changes`` are merged into the settings,
    section by section.
    """
    ports = _free_ports(5)
    simulator_port = ports[0]
    upstream = f"http://127.0.0.1:{simulator_port}/v1"
    document: dict[str, Any] = {
        "store": store or f"sqlite:///{folder / 'coalmine.db'}",
        "data_dir": str(folder),
        "gateway": {"port": ports[1], "metrics_port": ports[2], "drain_timeout": "5s"},
        "control": {"port": ports[3], "tick_interval": "250ms"},
        "worker": {"metrics_port": ports[4], "concurrency": 16, "drain_timeout": "5s"},
        "deployments": {
            name: {"base_url": upstream, "model": name} for name in simulator["models"]
        },
        "routes": {
            ROUTE: {
                "baseline": "support-v6",
                "segment": "header:x-category",
                "risk": "header:x-risk",
            }
        },
        "judge": {
            "deployment": "judge",
            "max_concurrency": 32,
            # A demo of a minute examines its judge every few seconds.
            "health": {"every_pairs": 50, "every": "2s"},
        },
    }
    for section, values in (changes or {}).items():
        document[section] = {**document.get(section, {}), **values}
    config = folder / "coalmine.yaml"
    config.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    simulator_config = folder / "simulator.yaml"
    simulator_config.write_text(yaml.safe_dump(dict(simulator), sort_keys=False), encoding="utf-8")
    return Scene(
        folder, config, simulator_config, simulator_port, load_settings(config, {}), pace or Pace()
    )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
