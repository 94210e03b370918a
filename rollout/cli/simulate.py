"""``coalmine simulate``: a scriptable OpenAI-compatible upstream."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway.simulator import load_simulator, serve

__all__ = ["simulate"]


def simulate(
    config: Annotated[
        Path,
        typer.Option("--config", "-c", help="Models and how they behave (YAML).", metavar="FILE"),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    seed: Annotated[
        int | None, typer.Option(help="Replaces the file's seed; the same seed, the same answers.")
    ] = None,
) -> None:
    """Serve simulated models, for demonstrations and tests.

    Latency, token rate, quality, broken JSON, refusals, tool faults, errors, hangs and cut streams
    are scripted by model name in FILE; a model of the role judge compares answers. See
    deploy/examples/simulator.yaml.
    """
    script = load_simulator(config)
    if seed is not None:
        script = script.model_copy(update={"seed": seed})
    names = ", ".join(sorted(script.models))

    def started(url: str) -> None:
        typer.echo(f"simulated upstream at {url} (models: {names})")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(script, host=host, port=port, started=started))
