"""Who gets in, and what each role may do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from gateway.errors import SettingsError
from gateway.settings import Settings
from gateway.store import Store
from gateway.store.tables import AuditRow, TokenRow
from rollout.api.auth import check_binding

JSON = {"content-type": "application/json"}


def test_local_user_is_admin_until_a_token_exists(client: TestClient) -> None:
    """Without any token the local user may do all; from the first token on nobody without may."""
    assert client.get("/api/v1/tokens").status_code == 200
    secret = client.post("/api/v1/tokens", json={"name": "me", "role": "admin"}).json()["secret"]
    refused = client.get("/api/v1/routes")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["content-type"] == "application/problem+json"
    allowed = client.get("/api/v1/routes", headers={"authorization": f"Bearer {secret}"})
    assert allowed.status_code == 200


def test_probes_and_metrics_need_no_token(
    client: TestClient, tokens: dict[str, dict[str, str]]
) -> None:
    """Kubernetes and Prometheus have no token and must not need one; all else does."""
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client.get(path).status_code == 200, path
    for path in ("/docs", "/api/v1/openapi.json", "/api/v1/nothing", "/"):
        assert client.get(path).status_code == 401, path


@pytest.mark.parametrize(
    "authorization",
    ["Bearer cm_" + "a" * 43, "Bearer nonsense", "Bearer ", "Basic YTpi", "cm_x", "Bearer \x80"],
)
def test_wrong_tokens_are_refused(
    client: TestClient, tokens: dict[str, dict[str, str]], authorization: str
) -> None:
    """An unknown token, another scheme and garbage are all 401, whatever they hold."""
    answer = client.get(
        "/api/v1/routes", headers={b"authorization": authorization.encode("latin-1")}
    )
    assert answer.status_code == 401


def test_roles_are_ordered(client: TestClient, tokens: dict[str, dict[str, str]]) -> None:
    """Viewers read; only admins manage tokens; a refusal names the role that is needed."""
    for role in ("viewer", "reviewer", "operator", "admin"):
        assert client.get("/api/v1/routes", headers=tokens[role]).status_code == 200
    for role in ("viewer", "reviewer", "operator"):
        answer = client.get("/api/v1/tokens", headers=tokens[role])
        assert answer.status_code == 403
        assert "admin" in answer.json()["detail"]


def test_revoked_token_is_worth_nothing_at_once(
    client: TestClient, tokens: dict[str, dict[str, str]]
) -> None:
    """Revoking takes effect with the next call."""
    assert client.get("/api/v1/routes", headers=tokens["viewer"]).status_code == 200
    revoked = client.delete("/api/v1/tokens/a-viewer", headers=tokens["admin"])
    assert revoked.status_code == 200, revoked.text
    assert client.get("/api/v1/routes", headers=tokens["viewer"]).status_code == 401


def test_last_admin_token_cannot_be_revoked(
    client: TestClient, tokens: dict[str, dict[str, str]]
) -> None:
    """Nobody can lock everybody out by revoking the last admin token."""
    answer = client.delete("/api/v1/tokens/a-admin", headers=tokens["admin"])
    assert answer.status_code == 409
    assert "create another" in answer.json()["detail"]


def test_first_token_must_be_an_admins(client: TestClient) -> None:
    """A first token with a lesser role would leave nobody who could manage tokens."""
    answer = client.post("/api/v1/tokens", json={"name": "v", "role": "viewer"})
    assert answer.status_code == 422
    assert answer.json()["field"] == "role"
    assert client.get("/api/v1/routes").status_code == 200


def test_secrets_are_stored_as_hashes_only(
    client: TestClient, tokens: dict[str, dict[str, str]], store: Store
) -> None:
    """No secret is in the store, in the list of tokens or in the audit log."""
    secrets = [header["authorization"].removeprefix("Bearer ") for header in tokens.values()]
    listed = client.get("/api/v1/tokens", headers=tokens["admin"]).text
    audited = client.get("/api/v1/audit", headers=tokens["admin"]).text
    with store.read() as session:
        rows = " ".join(repr(row.model_dump()) for row in session.exec(select(TokenRow)).all())
        rows += " ".join(repr(row.model_dump()) for row in session.exec(select(AuditRow)).all())
    for secret in secrets:
        assert len(secret) == 46
        assert secret not in listed + audited + rows


def test_use_of_a_token_is_noted(
    client: TestClient, tokens: dict[str, dict[str, str]], clock: Callable[[], float]
) -> None:
    """The list of tokens shows when each was last used, so that idle ones can be found."""
    client.get("/api/v1/routes", headers=tokens["viewer"])
    listed = client.get("/api/v1/tokens", headers=tokens["admin"]).json()["tokens"]
    seen = {token["name"]: token["last_used_at"] for token in listed}
    assert seen["a-viewer"] == clock()
    assert seen["a-operator"] is None


@pytest.mark.parametrize("name", ["", "local", "has space", "x" * 64, "../up"])
def test_bad_token_names_are_refused(client: TestClient, name: str) -> None:
    """A token's name is a name, and never the local user's."""
    answer = client.post("/api/v1/tokens", json={"name": name, "role": "admin"})
    assert answer.status_code == 422
    assert answer.json()["field"] == "name"


def test_token_names_are_never_used_twice(
    client: TestClient, tokens: dict[str, dict[str, str]]
) -> None:
    """A revoked name stays taken, so that the audit log means one person by it."""
    client.delete("/api/v1/tokens/a-viewer", headers=tokens["admin"])
    answer = client.post(
        "/api/v1/tokens", json={"name": "a-viewer", "role": "viewer"}, headers=tokens["admin"]
    )
    assert answer.status_code == 409


def test_managing_tokens_is_audited(client: TestClient, tokens: dict[str, dict[str, str]]) -> None:
    """The audit log tells who created and revoked which token, newest first."""
    client.delete("/api/v1/tokens/a-viewer", headers=tokens["admin"])
    entries = client.get("/api/v1/audit", headers=tokens["viewer"]).status_code
    assert entries == 401
    entries = client.get("/api/v1/audit", headers=tokens["admin"]).json()["entries"]
    told = [(entry["actor"], entry["action"], entry["target"]) for entry in entries]
    assert told[0] == ("a-admin", "token.revoke", "a-viewer")
    assert told[-1] == ("local", "token.create", "a-admin")
    assert len(told) == 5


def test_audit_log_has_pages(client: TestClient, tokens: dict[str, dict[str, str]]) -> None:
    """A reader gets every entry exactly once by following next_cursor."""
    found, cursor = [], None
    while True:
        query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/v1/audit", params=query, headers=tokens["admin"]).json()
        found += [entry["id"] for entry in page["entries"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == sorted(found, reverse=True)
    assert len(found) == len(set(found)) == 4


def test_beyond_loopback_control_needs_a_token(store: Store, settings: Settings) -> None:
    """Control refuses to listen where others reach it while anybody would be admin."""
    open_to_all = settings.model_copy(
        update={"control": settings.control.model_copy(update={"host": "0.0.0.0"})}
    )
    with pytest.raises(SettingsError, match=r"control\.host.*token create"):
        check_binding(open_to_all, store)
    with store.write() as session:
        session.add(TokenRow(name="a", role="admin", hash="h", created_at=0.0))
    check_binding(open_to_all, store)
    check_binding(settings, store)


def test_beyond_loopback_nobody_is_local(serve: Callable[..., TestClient]) -> None:
    """Even if control were bound elsewhere without a token, nobody would be admin."""
    assert serve(host="0.0.0.0").get("/api/v1/routes").status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8081", "127.0.0.1.evil.example", ""]
)
def test_dns_rebinding_is_refused(serve: Callable[..., TestClient], host: str) -> None:
    """A page whose name was made to point at this machine can read nothing."""
    answer = serve().get("/api/v1/routes", headers={"host": host})
    assert answer.status_code == 403
    assert "loopback" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["localhost:8081", "127.0.0.1", "[::1]:8081", "127.0.0.2:1"])
def test_names_of_loopback_are_let_in(serve: Callable[..., TestClient], host: str) -> None:
    """Every name of the machine's own loopback works."""
    assert serve().get("/api/v1/routes", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example", **JSON},
        {"origin": "null", **JSON},
        {"origin": "http://127.0.0.1:9999", **JSON},
        {"sec-fetch-site": "cross-site", **JSON},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"x-forwarded-for": "203.0.113.7", **JSON},
        {"forwarded": "for=203.0.113.7", **JSON},
    ],
)
def test_what_another_site_can_send_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    """While no token exists, nothing that a web page or a proxy sends changes anything."""
    body = b'{"name": "evil", "role": "admin"}'
    answer = client.post("/api/v1/tokens", content=body, headers=headers)
    assert answer.status_code == 403, answer.text
    assert client.get("/api/v1/tokens").json() == {"tokens": []}


def test_own_origin_may_change_things(client: TestClient) -> None:
    """A page that control itself serves may call the API."""
    answer = client.post(
        "/api/v1/tokens",
        json={"name": "me", "role": "admin"},
        headers={"origin": "http://127.0.0.1:8081", "sec-fetch-site": "same-origin"},
    )
    assert answer.status_code == 201


def test_links_from_other_sites_work(client: TestClient) -> None:
    """A link to /docs in a README or a dashboard opens it."""
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/docs", headers=headers).status_code == 200
