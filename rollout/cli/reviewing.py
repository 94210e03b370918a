"""Reviewing on a terminal: two answers side by side, one key a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rollout.cli.client import AdminClient, segment
from rollout.cli.keys import END, ReadKey

__all__ = ["item_view", "review"]

_Document = Mapping[str, Any]

_VERDICTS = {
    "left": "left",
    "l": "left",
    "right": "right",
    "r": "right",
    "t": "tie",
    "b": "both_bad",
    "s": "skip",
}
_HELP = "← l left  → r right  t tie  b both bad  s skip  n note  c categories  u undo  q quit"
_UNDO = "u"


def review(
    client: AdminClient,
    name: str,
    *,
    read_key: ReadKey,
    ask: Callable[[str], str],
    console: Console,
) -> int:
    """Show item after item until none is left or the reviewer quits; return how many were judged.

    ``ask`` shows a prompt and returns a line. On the way out an item without a verdict is given
    back, so that somebody else is given it at once.
    """
    given = 0
    last: _Document | None = None
    while True:
        handed = client.send("POST", f"/rollouts/{segment(name)}/reviews/next", {})
        item = handed["item"]
        if item is None:
            console.print(Text(handed["reason"], style="bold"))
            if last is None or not _wants_back(read_key, console):
                return given
        else:
            body = _verdict(handed, read_key=read_key, ask=ask, console=console)
            if body is None:
                client.delete(f"/reviews/{item['id']}/lease")
                return given
            if body["verdict"] != _UNDO:
                _post(client, item, body, console)
                given, last = given + 1, handed
                continue
        if last is None:
            console.print(Text("there is nothing to correct yet", style="dim"))
            continue
        again = _verdict(last, read_key=read_key, ask=ask, console=console)
        if again is not None and again["verdict"] != _UNDO:
            _post(client, last["item"], again, console)


def _wants_back(read_key: ReadKey, console: Console) -> bool:
    console.print(Text("u corrects the last verdict, any other key ends", style="dim"))
    return read_key() == _UNDO


def _post(client: AdminClient, item: _Document, body: Mapping[str, Any], console: Console) -> None:
    posted = client.send("POST", f"/reviews/{item['id']}", body)
    late = "" if posted["counted"] else "; it was settled before, and yours is kept beside it"
    console.print(Text(f"{body['verdict'].replace('_', ' ')}{late}", style="dim"))


def item_view(item: _Document, *, waiting: int) -> RenderableType:
    """Return an item as something rich can print: the conversation, and both answers."""
    conversation = Text()
    for turn in item["conversation"]:
        conversation.append(f"{turn['role']}: ", style="bold dim")
        conversation.append(f"{_printable(turn['text'])}\n")
    if item["tools"]:
        conversation.append(f"tools: {', '.join(map(_printable, item['tools']))}", style="dim")
    conversation.rstrip()
    both = Table.grid(expand=True, padding=(0, 1))
    both.add_column(ratio=1)
    both.add_column(ratio=1)
    both.add_row(
        Panel(Text(_printable(item["left"])), title="left"),
        Panel(Text(_printable(item["right"])), title="right"),
    )
    about = f" · {_printable(item['segment'])}" if item["segment"] else ""
    title = f"item {item['id']}{about} · {waiting} waiting"
    return Group(Panel(conversation, title=title, style="default"), both, Text(_HELP, style="dim"))


def _verdict(
    handed: _Document, *, read_key: ReadKey, ask: Callable[[str], str], console: Console
) -> dict[str, Any] | None:
    """Read keys until one is a verdict, or :data:`_UNDO`; ``None``: the reviewer quits."""
    console.print(item_view(handed["item"], waiting=handed["open"]))
    note = ""
    chosen: list[str] = []
    while True:
        key = read_key()
        if key in {"q", END}:
            return None
        if key == "n":
            note = ask("note: ")
        elif key == "c":
            chosen = _categories(handed["categories"], read_key, console)
        elif key == _UNDO:
            return {"verdict": _UNDO}
        elif key in _VERDICTS:
            return {"verdict": _VERDICTS[key], "categories": chosen, "note": note}
        else:
            console.print(Text(_HELP, style="dim"))


def _categories(known: list[str], read_key: ReadKey, console: Console) -> list[str]:
    """Read the numbers of categories, up to a key that is none."""
    shown = "   ".join(f"{number} {name}" for number, name in enumerate(known, 1))
    console.print(Text(f"{shown}   any other key: done", style="dim"))
    chosen: list[str] = []
    while (key := read_key()).isdigit() and 1 <= int(key) <= len(known):
        name = known[int(key) - 1]
        if name not in chosen:
            chosen.append(name)
        console.print(Text(", ".join(chosen)))
    return chosen


def _printable(text: str) -> str:
    """Return text without control characters: an answer must not steer the terminal."""
    return "".join(c if c in "\n\t" or (c.isprintable() or c == " ") else "\ufffd" for c in text)
