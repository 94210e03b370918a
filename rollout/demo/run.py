"""Playing the demo: start everything, run the acts one after the other, and tell how it went."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live

from gateway.prompts import load_prompts
from gateway.store import open_store
from rollout.demo.acts import Act, Outcome, acts, unexpected
from rollout.demo.scene import ROUTE, Pace, Scene, build_scene, simulator_document
from rollout.demo.traffic import Tally, Traffic
from rollout.demo.view import act_view, receipt_view
from rollout.states import FINISHED, Phase
from rollout.supervisor import Supervisor

__all__ = ["Played", "api_client", "conclude", "play", "play_act", "running"]

_ACT_WITHIN_S = 150.0
_REFRESH_S = 0.25


@dataclass(frozen=True, slots=True)
class Played:
    """An act as it went. ``problem`` says what was not as announced."""

    act: Act
    transitions: Sequence[Mapping[str, Any]]
    problem: str | None


async def play(folder: Path, console: Console, *, seed: int, pace: Pace) -> int:
    """Play all acts and return the exit status: 0, or 1 if an act ended otherwise than announced.

    ``folder`` takes the demo's files; ``seed`` fixes users, prompts and simulated answers.
    """
    document = simulator_document(seed=seed, time_scale=pace.simulator_time_scale)
    scene = build_scene(folder, simulator=document, pace=pace)
    store = open_store(scene.settings.store)
    await asyncio.to_thread(store.migrate)
    store.close()
    played: list[Played] = []
    async with running(scene), _users(scene, seed) as tally, api_client(scene) as api:
        for number, act in enumerate(acts(pace), start=1):
            played.append(await play_act(number, act, scene, api, tally, console))
            if played[-1].problem is not None:
                break
    _epilogue(console, scene, played, tally)
    return conclude(console, played, tally, "All three acts ended as announced.")


def conclude(console: Console, played: Sequence[Played], tally: Tally, success: str) -> int:
    """Say how it ended and return the exit status: 1 if anything was not as announced."""
    problem = played[-1].problem
    if problem is None and tally.failed:
        problem = f"{tally.failed} of {tally.requests} user requests failed"
    if problem is not None:
        console.print(f"[bold red]Not as announced:[/bold red] {problem}")
        return 1
    console.print(f"[bold green]{success}[/bold green]")
    return 0


async def play_act(
    number: int,
    act: Act,
    scene: Scene,
    api: httpx.AsyncClient,
    tally: Tally,
    console: Console,
    *,
    within: float = _ACT_WITHIN_S,
) -> Played:
    """Apply the act's rollout and show it until it has ended, or ``within`` seconds are over."""
    answer = await api.post("/rollouts", json=act.spec)
    if answer.is_error:
        return Played(act, (), f"the rollout was refused: {answer.text}")
    footer = f"API {scene.control_url}/docs   metrics {scene.control_url}/metrics"
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    status: dict[str, Any] = answer.json()
    transitions: list[dict[str, Any]] = []
    shown = 0
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                status = (await api.get(f"/rollouts/{act.rollout}")).raise_for_status().json()
                page = await api.get(f"/rollouts/{act.rollout}/transitions")
                transitions = page.raise_for_status().json()["transitions"]
            if console.is_terminal:
                live.update(act_view(number, act, status, transitions, tally, footer))
            else:
                for each in transitions[shown:]:
                    console.print(
                        f"act {number}  {each['event']} → {each['to_phase']}  "
                        f"{each['weight_after']:g}%  {each['reason']}"
                    )
                shown = len(transitions)
            phase = Phase(status["phase"])
            if phase in FINISHED or phase is Phase.PAUSED or loop.time() > deadline:
                break
            await asyncio.sleep(_REFRESH_S)
        final = act_view(number, act, status, transitions, tally, footer)
    if console.is_terminal:
        console.print(final)
    served = tally.rollouts[act.rollout] > 0
    problem = unexpected(act, Outcome(phase, served, str(status["why"])))
    return Played(act, transitions, problem)


def _epilogue(console: Console, scene: Scene, played: Sequence[Played], tally: Tally) -> None:
    console.rule("Receipts")
    for each in played:
        console.print(receipt_view(each.act, each.transitions, each.problem or "as announced"))
    console.print(
        f"Users: {tally.requests} requests, {tally.failed} failed. "
        "The upstreams and the judge were [bold]simulated[/bold]; gateway, worker, controller, "
        "store and statistics were the real ones.\n"
        "These lines of coalmine.yaml point it at real models:\n"
    )
    console.print(
        "  deployments:\n"
        "    support-v6: {base_url: http://127.0.0.1:8000/v1, model: support-v6}\n"
        "    support-v7: {base_url: http://127.0.0.1:8000/v1, model: support-v7-lora}\n"
        "    judge: {base_url: https://JUDGE/v1, model: NAME, api_key_env: JUDGE_KEY}\n",
        highlight=False,
        markup=False,
    )
    console.print(f"The demo's files are in {scene.folder}", highlight=False)


@asynccontextmanager
async def running(scene: Scene) -> AsyncIterator[None]:
    """Run the scene's processes until the block ends."""
    supervisor = Supervisor(scene.parts(), drain_timeout=10.0)
    try:
        await supervisor.start()
        yield
    finally:
        await supervisor.stop()


@asynccontextmanager
async def _users(scene: Scene, seed: int) -> AsyncIterator[Tally]:
    prompts = load_prompts()
    machines = [prompt for prompt in prompts if prompt.response_format is not None]
    # Half of the demo's traffic comes from programs that ask for JSON.
    audience = [*prompts, *(machines * round(len(prompts) / len(machines)))]
    traffic = Traffic(
        scene.gateway_url, ROUTE, audience, rate=scene.pace.requests_per_second, seed=seed
    )
    stop = asyncio.Event()
    running = asyncio.create_task(traffic.run(stop))
    try:
        yield traffic.tally
    finally:
        stop.set()
        await running


@asynccontextmanager
async def api_client(scene: Scene) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client of the scene's admin API."""
    async with httpx.AsyncClient(
        base_url=f"{scene.control_url}/api/v1", timeout=10, trust_env=False
    ) as client:
        yield client
