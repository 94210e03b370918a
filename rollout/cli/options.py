"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Config", "IfRevision", "Json", "Name", "Reason", "Token", "Url"]

Url = Annotated[
    str | None,
    typer.Option(help="Address of control; default: COALMINE_URL, or from the settings."),
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="COALMINE_TOKEN", help="Token of the admin API; better set in the environment."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the API's document.")]
Reason = Annotated[
    str, typer.Option(help="Why; kept in the receipt of the transition.", show_default=False)
]
IfRevision = Annotated[
    int | None, typer.Option(help="Only if the rollout is still at this revision.")
]
Name = Annotated[str, typer.Argument(help="Name of the rollout.", show_default=False)]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Settings file; default: coalmine.yaml where it exists."),
]
