"""The admin API of control, under ``/api/v1``."""

from __future__ import annotations

from rollout.api.app import create_app

__all__ = ["create_app"]
