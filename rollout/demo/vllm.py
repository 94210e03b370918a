"""What ``make demo-vllm`` runs: two LoRA adapters on a real vLLM engine, rolled out and judged.

``python -m rollout.demo.vllm --vllm-python PATH`` makes a tiny model, starts the engine on CPU and
plays two acts through the whole of Coalmine. Ends with status 1 if an act ends otherwise than
announced.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console

from gateway.prompts import load_prompts
from gateway.store import open_store
from rollout.demo.acts import Act
from rollout.demo.engine import Engine, EngineError, make_model, start_engine
from rollout.demo.run import Played, api_client, conclude, play_act, running
from rollout.demo.scene import Scene, build_scene
from rollout.demo.tickets import Users, adapter_spec, scene_arguments
from rollout.demo.traffic import Tally
from rollout.demo.view import receipt_view
from rollout.states import Phase

__all__ = ["main"]

_ACT_WITHIN_S = 300.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the demonstration and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m rollout.demo.vllm",
        description="Roll out two adapters on a real vLLM engine on CPU.",
    )
    parser.add_argument(
        "--vllm-python",
        type=Path,
        required=True,
        help="Python of the environment that deploy/vllm-cpu/install.sh builds",
    )
    parser.add_argument("--folder", type=Path, help="where to keep the files; default: a new one")
    parser.add_argument("--seed", type=int, default=1, help="fixes the simulated judge")
    options = parser.parse_args(arguments)
    # Leave the blocks below as an interrupt would, so that no engine is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    # A link's target would be the interpreter that the environment was made with.
    python = options.vllm_python.absolute()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="coalmine-vllm-"))
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "coalmine.db").exists():
        parser.error(f"{folder} holds an earlier demo; choose an empty folder")
    model = python.parent.parent / "tiny-model"
    try:
        with console.status("Training a tiny model and its adapters on the prompts (a minute) …"):
            make_model(python, model)
        with (
            console.status("Starting vLLM on CPU (half a minute) …") as status,
            start_engine(python, model, log=folder / "engine.log") as engine,
        ):
            status.stop()
            return asyncio.run(_play(folder, engine, console, seed=options.seed))
    except EngineError as error:
        console.print(f"[bold red]{error}[/bold red]", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130


async def _play(folder: Path, engine: Engine, console: Console, *, seed: int) -> int:
    console.print(f"vLLM serves base, same and broken at {engine.base_url}", highlight=False)
    scene = build_scene(folder, **scene_arguments(engine, seed=seed))
    store = open_store(scene.settings.store)
    await asyncio.to_thread(store.migrate)
    store.close()
    played: list[Played] = []
    async with running(scene), _users(scene) as tally, api_client(scene) as api:
        for number, act in enumerate(_acts(), start=1):
            played.append(
                await play_act(number, act, scene, api, tally, console, within=_ACT_WITHIN_S)
            )
            if played[-1].problem is not None:
                break
    console.rule("Receipts")
    for each in played:
        console.print(receipt_view(each.act, each.transitions, each.problem or "as announced"))
    console.print(
        f"Users: {tally.requests} requests, {tally.failed} failed. vLLM and its adapters were "
        "real, if tiny; only the judge was [bold]simulated[/bold].\n"
        f"The files are in {folder}",
        highlight=False,
    )
    return conclude(console, played, tally, "Both acts ended as announced.")


def _acts() -> tuple[Act, ...]:
    return (
        Act(
            "An adapter that changes nothing",
            "A LoRA adapter with zero weights: it must be proven not worse, and get everybody.",
            adapter_spec("same"),
            Phase.SUCCEEDED,
            None,
        ),
        Act(
            "An adapter that breaks the JSON contract",
            "It stops before the object is closed on half of the categories. No user may meet it.",
            adapter_spec("broken"),
            Phase.ROLLED_BACK,
            "shadow",
        ),
    )


@asynccontextmanager
async def _users(scene: Scene) -> AsyncIterator[Tally]:
    users = Users(scene.gateway_url, load_prompts())
    stop = asyncio.Event()
    asking = asyncio.create_task(users.run(stop))
    try:
        yield users.tally
    finally:
        stop.set()
        await asking


if __name__ == "__main__":
    sys.exit(main())
