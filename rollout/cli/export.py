"""``coalmine export``: pairs back into training, as preferences, regression cases or eval sets."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from rollout.cli.client import AdminClient, default_url
from rollout.cli.options import Json, Name, Token, Url

__all__ = ["app", "parse_instant"]

_LONG_S = 600.0

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Export a rollout's pairs to train on, or to evaluate with.",
)

_Out = Annotated[
    Path | None, typer.Option("--out", help="File for the rows, JSON Lines; its manifest beside.")
]
_Dataset = Annotated[
    str | None, typer.Option(help="Name of the dataset; default: NAME and the kind.")
]
_Segment = Annotated[
    list[str] | None, typer.Option("--segment", help="Only this segment; may be repeated.")
]
_Since = Annotated[
    str | None, typer.Option(help="Asked since: 2026-05-01, 2026-05-01T12:00Z, or 7d ago.")
]
_Until = Annotated[str | None, typer.Option(help="Asked before; written like --since.")]
_Sources = Annotated[
    list[str] | None,
    typer.Option("--source", help="Only what human, check or judge says; may be repeated."),
]
_Metric = Annotated[
    str | None, typer.Option(help="Only pairs that this check, or judge_win_rate, tells apart.")
]
_MinScore = Annotated[
    float, typer.Option(help="1: both orders agree. 0.5: leans of the judge too.", min=0, max=1)
]
_MinMargin = Annotated[
    float | None, typer.Option(help="Points by which the judge scored it higher.", min=0, max=9)
]
_PerSegment = Annotated[
    int | None, typer.Option("--max-per-segment", help="Most rows of one segment.", min=1)
]
_MaxItems = Annotated[int, typer.Option(help="Most rows.", min=1, max=100_000)]
_Near = Annotated[
    float,
    typer.Option(
        "--near-duplicates",
        help="Similarity of prompts that is too near; 0: only equal.",
        min=0,
        max=1,
    ),
]
_Splits = Annotated[str, typer.Option(help="Percent to train, validate and test.")]
_Salt = Annotated[str, typer.Option(help="Of the splits; the same salt, the same split.")]
_Generation = Annotated[
    int | None, typer.Option(help="An earlier generation; default: the latest.", min=1)
]


@app.command()
def preferences(
    name: Name,
    *,
    out: _Out = None,
    text: Annotated[
        bool, typer.Option("--text", help="TRL's standard format instead of conversations.")
    ] = False,
    dataset: _Dataset = None,
    segment: _Segment = None,
    since: _Since = None,
    until: _Until = None,
    source: _Sources = None,
    metric: _Metric = None,
    min_score: _MinScore = 1.0,
    min_margin: _MinMargin = None,
    max_per_segment: _PerSegment = None,
    max_items: _MaxItems = 10_000,
    near: _Near = 0.8,
    splits: _Splits = "80/10/10",
    salt: _Salt = "coalmine",
    generation: _Generation = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Export better and worse answers, as people, checks and the judge say, in TRL's layout."""
    request = _request(
        "preferences", name, dataset=dataset, segments=segment, since=since, until=until,
        sources=source, metric=metric, min_score=min_score, min_margin=min_margin,
        max_per_segment=max_per_segment, max_items=max_items, near=near, splits=splits, salt=salt,
        generation=generation,
    )  # fmt: skip
    _export({**request, "format": "text" if text else "conversational"}, out, url, token, as_json)


@app.command()
def regressions(
    name: Name,
    *,
    out: _Out = None,
    dataset: _Dataset = None,
    segment: _Segment = None,
    since: _Since = None,
    until: _Until = None,
    source: _Sources = None,
    metric: _Metric = None,
    max_per_segment: _PerSegment = None,
    max_items: _MaxItems = 10_000,
    near: _Near = 0.8,
    splits: _Splits = "80/10/10",
    salt: _Salt = "coalmine",
    generation: _Generation = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Export each failed check and each loss as a case with what must hold from now on."""
    request = _request(
        "regressions", name, dataset=dataset, segments=segment, since=since, until=until,
        sources=source, metric=metric, max_per_segment=max_per_segment, max_items=max_items,
        near=near, splits=splits, salt=salt, generation=generation,
    )  # fmt: skip
    _export(request, out, url, token, as_json)


@app.command()
def evalset(
    name: Name,
    *,
    out: _Out = None,
    dataset: _Dataset = None,
    segment: _Segment = None,
    since: _Since = None,
    until: _Until = None,
    source: _Sources = None,
    max_per_segment: _PerSegment = None,
    max_items: _MaxItems = 1_000,
    near: _Near = 0.8,
    splits: _Splits = "80/10/10",
    salt: _Salt = "coalmine",
    generation: _Generation = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Export what users asked as an eval set, with a reference answer where a good one is known."""
    request = _request(
        "evalset", name, dataset=dataset, segments=segment, since=since, until=until,
        sources=source, max_per_segment=max_per_segment, max_items=max_items, near=near,
        splits=splits, salt=salt, generation=generation,
    )  # fmt: skip
    _export(request, out, url, token, as_json)


def parse_instant(text: str, *, now: float) -> float:
    """Return Unix seconds of a date, an instant of ISO 8601 (without a zone: UTC), or `7d` ago."""
    ago = re.fullmatch(r"(\d+)([smhdw])", text.strip())
    if ago is not None:
        seconds = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
        return now - int(ago[1]) * seconds[ago[2]]
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no instant; write 2026-05-01, 2026-05-01T12:00Z, or 7d for a week ago"
        ) from None
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


def _request(kind: str, name: str, **given: Any) -> dict[str, Any]:
    now = time.time()
    parts = given["splits"].split("/")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise typer.BadParameter(
            f"{given['splits']!r} are no shares; write percent, for example 80/10/10",
            param_hint="--splits",
        )
    shares = dict(zip(("train", "validation", "test"), map(int, parts), strict=True))
    request: dict[str, Any] = {
        "kind": kind,
        "rollout": name,
        **given,
        "since": given["since"] and parse_instant(given["since"], now=now),
        "until": given["until"] and parse_instant(given["until"], now=now),
        "splits": shares,
    }
    request["near_duplicates"] = request.pop("near") or None
    return request


def _export(
    request: dict[str, Any], out: Path | None, url: str | None, token: str | None, as_json: bool
) -> None:
    # near_duplicates null means something, the rest is left out where it is not set.
    body = {
        name: value
        for name, value in request.items()
        if value is not None or name == "near_duplicates"
    }
    with AdminClient(url or default_url(), token, timeout=_LONG_S) as client:
        done = client.send_text("/exports", json.dumps(body), media_type="application/json")
        dataset = done["dataset"]
        if out is not None:
            from rollout.cli.dataset import save

            save(client, f"{dataset['name']}@{dataset['version']}", dataset["manifest"], out)
    if as_json:
        typer.echo(json.dumps(done, indent=2, ensure_ascii=False))
        return
    from rollout.cli.render_dataset import print_dataset

    print_dataset(dataset, created=done["created"], out=out)
