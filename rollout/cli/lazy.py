"""A Typer group whose commands are imported only when they are run."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

__all__ = ["Lazy", "lazy_group", "load"]


class Lazy(NamedTuple):
    """Where a command is (``module:function`` or ``module:app``), and what the help says of it."""

    target: str
    help: str


def load(name: str, target: str) -> Any:
    """Import ``target``, a function with Typer's annotations or a Typer app, as a command."""
    module_name, _, attribute = target.partition(":")
    found = getattr(import_module(module_name), attribute)
    if isinstance(found, typer.Typer):
        return get_command(found)
    single = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    single.command(name)(found)
    return get_command(single)


def lazy_group(commands: Mapping[str, Lazy]) -> type[TyperGroup]:
    """Return a group class with these commands, each a name with a help until it is run."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            for name, lazy in commands.items():
                self.commands[name] = TyperCommand(name=name, help=lazy.help)

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            name, command, rest = super().resolve_command(ctx, args)
            if name is not None and name in commands:
                command = load(name, commands[name].target)
            return name, command, rest

    return LazyGroup
