"""How Coalmine's processes log."""

from __future__ import annotations

import logging

from gateway.settings import Settings

__all__ = ["start_logging"]


def start_logging(process: str, settings: Settings) -> None:
    """Log to stderr, each line with the name of the process; libraries only warn."""
    logging.basicConfig(
        level=settings.log_level.upper(), format=f"%(asctime)s {process} %(levelname)s %(message)s"
    )
    for name in ("alembic", "httpx", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
