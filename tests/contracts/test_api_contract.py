"""The admin API's promises: its OpenAPI document and the shape of its errors."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from gateway import errors
from gateway.errors import CoalmineError, RequestError
from gateway.settings import Settings
from gateway.store import open_store
from rollout.api import create_app
from rollout.api.gatekeeper import OPEN_PATHS
from rollout.api.problems import PROBLEMS, Problem, kind_of
from rollout.service import RolloutService

UNTYPED = {"/metrics"}
LINES = "application/x-ndjson"  # rows of a download, one JSON document a line


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """The API over an empty store."""
    store = open_store(f"sqlite:///{tmp_path / 'coalmine.db'}")
    store.migrate()
    app = create_app(Settings(), store, RolloutService(store, Settings(), health=lambda _: None))
    with TestClient(app, base_url="http://127.0.0.1:8081") as client:
        yield client
    store.close()


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    """The OpenAPI document, as it is served."""
    answer = client.get("/api/v1/openapi.json")
    assert answer.status_code == 200
    return dict(answer.json())


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _subclasses(kind: type[CoalmineError]) -> Iterator[type[CoalmineError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)


def test_every_error_has_its_status() -> None:
    """An error added to the tree without a status and title fails here, not at a user's."""
    ours = {getattr(errors, name) for name in errors.__all__}
    known = {each for each in _subclasses(CoalmineError) if each.__module__ == errors.__name__}
    assert known | {CoalmineError} == ours
    assert set(PROBLEMS) == ours


def test_statuses_are_fixed() -> None:
    """Clients rely on these statuses."""
    expected = {
        errors.SpecError: 422,
        errors.Conflict: 409,
        errors.TransitionError: 409,
        errors.NotFound: 404,
        errors.Forbidden: 403,
        errors.StoreUnavailable: 503,
    }
    assert {kind: PROBLEMS[kind].status for kind in expected} == expected
    assert kind_of(RequestError("x", status=418)).status == 418


def test_kinds_are_distinct() -> None:
    """A program can tell any two kinds of error apart by their type."""
    kinds = [entry.kind for entry in PROBLEMS.values()]
    assert len(set(kinds)) == len(kinds)


def test_problem_has_a_fixed_shape() -> None:
    """The members of a problem are RFC 9457's, and two of ours."""
    assert list(Problem.model_fields) == ["type", "title", "status", "detail", "field", "errors"]


def test_references_in_the_document_resolve(document: dict[str, Any]) -> None:
    """A generator of clients finds every schema that the document mentions."""
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    found = set(_references(document))
    assert found
    assert {name for name in found if name not in schemas} == set()
    assert "HTTPValidationError" not in schemas


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    """Each endpoint has a summary, a description, a distinct id and a typed answer."""
    seen = set()
    for path, method, operation in _operations(document):
        where = f"{method} {path}"
        assert operation.get("summary"), where
        assert operation.get("description"), where
        assert operation["operationId"] not in seen, where
        seen.add(operation["operationId"])
        successes = [each for status, each in operation["responses"].items() if status[0] == "2"]
        assert successes, where
        for success in successes if path not in UNTYPED else ():
            content = success["content"]
            assert list(content) in (["application/json"], [LINES]), where
            assert all(each["schema"] for each in content.values()), where


def test_every_operation_declares_its_errors_as_problems(document: dict[str, Any]) -> None:
    """Each endpoint says which errors it may answer with, all in the one shape."""
    for path, method, operation in _operations(document):
        where = f"{method} {path}"
        failures = {
            status: each
            for status, each in operation["responses"].items()
            if status.startswith(("4", "5"))
        }
        for status, each in failures.items():
            assert list(each["content"]) == ["application/problem+json"], f"{where} {status}"
        if path not in OPEN_PATHS:
            assert {"401", "403", "422", "503"} <= set(failures), where
            assert operation["security"] == [{"token": []}], where


def test_every_parameter_and_field_is_typed(document: dict[str, Any]) -> None:
    """No parameter is left without a schema."""
    for path, method, operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            assert parameter["schema"], f"{method} {path} {parameter['name']}"


def test_reference_page_shows_every_operation(client: TestClient, document: dict[str, Any]) -> None:
    """/docs lists every endpoint and loads nothing from anywhere."""
    page = client.get("/docs")
    assert page.status_code == 200
    for path, _, operation in _operations(document):
        assert f"<code>{path}</code>" in page.text
        assert escape(operation["summary"]) in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert "src=" not in page.text


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value.removeprefix("#/components/schemas/")
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)
