"""A scriptable OpenAI-compatible upstream: models that err as told, and a judge with a bias.

It stands in for real engines in the demo and in tests. Nothing else in the product depends on it.
"""

from __future__ import annotations

from gateway.simulator.app import SimulatorApp
from gateway.simulator.behaviour import (
    Behaviour,
    JudgeBehaviour,
    ModelBehaviour,
    SimulatorConfig,
    load_simulator,
    parse_behaviour,
    parse_simulator,
)
from gateway.simulator.server import RunningSimulator, serve, start_simulator

__all__ = [
    "Behaviour",
    "JudgeBehaviour",
    "ModelBehaviour",
    "RunningSimulator",
    "SimulatorApp",
    "SimulatorConfig",
    "load_simulator",
    "parse_behaviour",
    "parse_simulator",
    "serve",
    "start_simulator",
]
