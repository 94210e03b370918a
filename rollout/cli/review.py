"""``coalmine review``: what people say about pairs, blind, and what their labels come to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gateway.errors import RequestError
from rollout.cli.client import AdminClient, default_url, segment
from rollout.cli.options import Json, Name, Token, Url

__all__ = ["app"]

_CHUNK = 100
_CHUNK_BYTES = 512 * 1024
_NEEDED = ("id", "completed_by", "result", "was_cancelled", "lead_time")


class _ReviewFirst(TyperGroup):
    """A group in which a word that is no command names the rollout to review."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Run ``start`` where the first word is no command."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["start", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_ReviewFirst,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Review pairs blind: coalmine review NAME. Or see what came of it.",
)


@app.command()
def start(name: Name, url: Url = None, token: Token = None) -> None:
    """Review the pairs of a rollout, one key a verdict; the same as `coalmine review NAME`.

    Left or l, right or r, t tie, b both bad, s skip, n note, c categories, u correct the last, q
    quit. Without a terminal each line of standard input is a key.
    """
    from rich.console import Console

    from rollout.cli.keys import keys
    from rollout.cli.reviewing import review

    with AdminClient(url or default_url(), token) as client:
        console = Console(highlight=False)
        with keys() as read_key:

            def ask(prompt: str) -> str:
                return _ask_line(prompt, console, read_key)

            given = review(client, name, read_key=read_key, ask=ask, console=console)
    typer.echo(f"{given} verdict{'' if given == 1 else 's'} given")


@app.command()
def status(name: Name, url: Url = None, token: Token = None, *, as_json: Json = False) -> None:
    """Show the queue, the quota, and what the labels allow to say about the candidate."""
    with AdminClient(url or default_url(), token) as client:
        document = client.get(f"/rollouts/{segment(name)}/reviews/status")
    if as_json:
        _print_json(document)
        return
    from rollout.cli.render_people import print_review_status

    print_review_status(document)


@app.command()
def agreement(name: Name, url: Url = None, token: Token = None, *, as_json: Json = False) -> None:
    """Show how far judge and people agree, by segment, and people among each other."""
    with AdminClient(url or default_url(), token) as client:
        document = client.get(f"/rollouts/{segment(name)}/reviews/agreement")
    if as_json:
        _print_json(document)
        return
    from rollout.cli.render_people import print_agreement

    print_agreement(document)


@app.command()
def export(
    name: Name,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the tasks; default: print them.")
    ] = None,
    labelling_config: Annotated[
        Path | None, typer.Option(help="File for the project's labelling configuration (XML).")
    ] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Export the pairs that wait as tasks for Label Studio, with the configuration they need."""
    tasks: list[Any] = []
    cursor: str | None = None
    with AdminClient(url or default_url(), token) as client:
        while True:
            page = client.get(f"/rollouts/{segment(name)}/reviews/export", cursor=cursor)
            tasks += page["tasks"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
    if labelling_config is not None:
        labelling_config.write_text(page["config"], encoding="utf-8")
    text = json.dumps(tasks, indent=2, ensure_ascii=False)
    if output is None:
        typer.echo(text)
        return
    output.write_text(text + "\n", encoding="utf-8")
    typer.echo(f"{len(tasks)} tasks in {output}")


@app.command("import")
def import_(
    name: Name,
    file: Annotated[Path, typer.Argument(help="Label Studio's export of the project, as JSON.")],
    expert: Annotated[
        list[str] | None, typer.Option(help="E-mail or number of an annotator who is an expert.")
    ] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Import the verdicts of a Label Studio project. Importing again changes nothing.

    Status 1 where an annotation could not be taken; each is named with its place and why.
    """
    tasks = _read_tasks(file)
    totals = dict.fromkeys(("annotations", "new", "known", "corrected", "uncounted"), 0)
    refused: list[str] = []
    with AdminClient(url or default_url(), token) as client:
        for first, chunk in _chunks(tasks):
            done = client.send(
                "POST",
                f"/rollouts/{segment(name)}/reviews/import",
                {"tasks": chunk, "experts": expert or []},
            )
            for count in totals:
                totals[count] += done[count]
            refused += [
                f"{_place(each['row'], first)}: {each['reason']}" for each in done["refused"]
            ]
    for line in refused:
        typer.echo(line, err=True)
    typer.echo(
        f"{totals['annotations']} annotations: {totals['new']} new, {totals['known']} known, "
        f"{totals['corrected']} corrected, {len(refused)} refused"
    )
    if totals["uncounted"]:
        typer.echo(f"{totals['uncounted']} are kept beside labels that were settled before")
    if refused:
        raise typer.Exit(1)


def _ask_line(prompt: str, console: Any, read_key: Any) -> str:
    """Read a line key by key, so that terminal and pipe are read alike."""
    import sys

    console.print(prompt, end="")
    if not sys.stdin.isatty():
        return str(read_key()).strip()
    line = ""
    while (key := read_key()) not in {"\n", "\r", "end"}:
        line = line[:-1] if key in {"\x7f", "\b"} else line + key if len(key) == 1 else line
        if len(key) == 1 and key.isprintable():
            console.print(key, end="", markup=False)
    console.print()
    return line


def _read_tasks(file: Path) -> list[Any]:
    try:
        tasks = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"can't read {file}: {error.strerror}", param="FILE") from None
    except ValueError as error:
        raise RequestError(f"{file} is not JSON: {error}", param="FILE") from None
    if not isinstance(tasks, list):
        raise RequestError(
            f"{file} is no list of tasks; export the project from Label Studio as JSON",
            param="FILE",
        )
    return tasks


def _chunks(tasks: list[Any]) -> Iterator[tuple[int, list[Any]]]:
    """Yield tasks without what is not read of them, in requests that control accepts."""
    chunk: list[Any] = []
    first = size = 0
    for number, task in enumerate(map(_slim, tasks)):
        length = len(json.dumps(task))
        if chunk and (len(chunk) == _CHUNK or size + length > _CHUNK_BYTES):
            yield first, chunk
            chunk, first, size = [], number, 0
        chunk.append(task)
        size += length
    if chunk:
        yield first, chunk


def _slim(task: Any) -> Any:
    if not isinstance(task, dict) or not isinstance(task.get("annotations"), list):
        return None if not isinstance(task, dict) else {"id": task.get("id")}
    data = task.get("data")
    item = data.get("coalmine_item") if isinstance(data, dict) else None
    annotations = [
        {key: each[key] for key in _NEEDED if key in each} if isinstance(each, dict) else None
        for each in task["annotations"]
    ]
    return {"data": {"coalmine_item": item}, "annotations": annotations}


def _place(row: str, first: int) -> str:
    """Return the place of a row in the whole file."""
    return re.sub(r"^tasks\.(\d+)", lambda match: f"tasks.{int(match[1]) + first}", row)


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
