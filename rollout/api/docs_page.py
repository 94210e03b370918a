"""``/docs``: the API's reference as one plain page.

It needs no script and nothing from another host, so it works on a machine without internet, and
nobody else's code runs where the local user is admin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #2a78d6; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1.5rem; }
code, pre { font: 13px/1.5 ui-monospace, monospace; }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; }
summary { cursor: pointer; padding: .5rem .75rem; }
summary b { color: var(--accent); display: inline-block; font-family: ui-monospace; width: 4.5em; }
summary span { margin-left: .75rem; opacity: .75; }
.body { border-top: 1px solid var(--line); padding: .25rem .75rem .75rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
td, th { border-top: 1px solid var(--line); padding: .25rem .5rem; text-align: left;
  vertical-align: top; }
"""


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """Render the OpenAPI document."""
    return HTMLResponse(_page(request.app.openapi()), headers=_HEADERS)


def _page(document: Mapping[str, Any]) -> str:
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    schemas = document["components"]["schemas"]
    sections = "".join(_section(tag, document["paths"], schemas) for tag in document["tags"])
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
        f"<p>{escape(document['info']['description'])} The document for programs: "
        '<a href="/api/v1/openapi.json">openapi.json</a>. Errors are problem details (RFC 9457).'
        f"</p>{sections}"
    )


def _section(tag: Mapping[str, str], paths: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    operations = "".join(
        _operation(path, method, operation, schemas)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if tag["name"] in operation.get("tags", ())
    )
    description = escape(tag["description"])
    return f"<h2>{escape(tag['name'])}</h2><p>{description}</p>{operations}"


def _operation(path: str, method: str, operation: Mapping[str, Any], schemas: Any) -> str:
    more = operation["description"].partition("\n")[2]
    rows = [
        (f"{each['name']} ({each['in']})", _type(each["schema"]), each.get("description", ""))
        for each in operation.get("parameters", ())
    ]
    body = _content(operation.get("requestBody", {}))
    answer = next(
        (_content(each) for status, each in operation["responses"].items() if status[0] == "2"),
        None,
    )
    errors = ", ".join(status for status in operation["responses"] if status[0] in "45")
    return (
        f"<details><summary><b>{method.upper()}</b><code>{escape(path)}</code>"
        f"<span>{escape(operation['summary'])}</span></summary><div class=body>"
        f"<p>{escape(more)}</p>"
        f"{_table('Parameters', rows)}"
        f"{_table('Body', _fields(body, schemas))}"
        f"{_table('Answer', _fields(answer, schemas))}"
        + (f"<p>Errors: {errors}</p>" if errors else "")
        + "</div></details>"
    )


def _content(part: Mapping[str, Any]) -> Any:
    for media in part.get("content", {}).values():
        return media.get("schema")
    return None


def _fields(schema: Any, schemas: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    if not isinstance(schema, dict):
        return []
    for option in schema.get("anyOf", ()):
        if "$ref" in option:
            schema = option
    if "$ref" in schema:
        schema = schemas[_name(schema)]
    if "properties" not in schema:
        return [("", _type(schema), schema.get("description", ""))]
    return list(_properties(schema, schemas, depth=0))


def _properties(
    schema: Mapping[str, Any], schemas: Mapping[str, Any], *, depth: int
) -> Iterator[tuple[str, str, str]]:
    for name, each in schema["properties"].items():
        yield "\u2003" * depth + name, _type(each), each.get("description", "")
        inner = schemas.get(_name(each) or _name(each.get("items", {})), {})
        if depth < 2 and "properties" in inner:
            yield from _properties(inner, schemas, depth=depth + 1)


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return _name(schema)
    if "enum" in schema:
        return " | ".join(str(each) for each in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " | ".join(_type(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _table(caption: str, rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    cells = "".join(
        "<tr>"
        f"<td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{escape(text)}</td>"
        "</tr>"
        for name, kind, text in rows
    )
    return f"<div class=scroll><table><tr><th colspan=3>{caption}</th></tr>{cells}</table></div>"
