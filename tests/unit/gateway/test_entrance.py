"""Keys, headers and routes: what a request needs to get in, and where it goes."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.clients import ANYONE, Clients
from gateway.errors import RequestError, SettingsError
from gateway.headers import HeaderView
from gateway.http1 import read_request, read_response
from gateway.metrics import GatewayMetrics
from gateway.routes import RouteTable, build_arms, build_table
from gateway.settings import Client, Settings
from gateway.split import Mirror, Sampler, Split


def test_keys_are_known_by_their_hash() -> None:
    """The right key is its client; keys appear in no repr."""
    clients = Clients(
        [Client(name="app", key_env="A", may_force_variant=True)], {"A": "sesame-open"}
    )
    caller = clients.identify(b"Bearer sesame-open")
    assert (caller.name, caller.may_force_variant) == ("app", True)
    assert clients.identify(b"bearer  sesame-open ").name == "app"
    assert "sesame" not in repr(vars(clients))
    for wrong in (None, b"", b"Bearer", b"Bearer sesame-ope", b"Basic sesame-open"):
        with pytest.raises(RequestError) as caught:
            clients.identify(wrong)
        assert caught.value.status == 401
        assert "sesame" not in str(caught.value)


def test_keys_are_known_however_the_header_is_written() -> None:
    """The scheme's case and spaces around the key don't matter; a key with spaces never fits."""
    clients = Clients(
        [Client(name="a", key_env="A"), Client(name="b", key_env="B")], {"A": "open", "B": " wide"}
    )
    for header in (b"Bearer open", b"bearer open", b"BEARER open", b"Bearer   open  "):
        assert clients.identify(header).name == "a"
    for header in (b"Bearer wide", b"Bearer  wide", b"Beareropen", b"open", b"Bearer opens"):
        with pytest.raises(RequestError):
            clients.identify(header)


def test_without_clients_everyone_may_call() -> None:
    """No declared clients means that keys pass through."""
    assert Clients([], {}).identify(None) is ANYONE


def test_wrong_client_settings_name_the_variable() -> None:
    """A missing key and a shared one are found at the start."""
    with pytest.raises(SettingsError, match=r"clients\.0\.key_env: .*variable A is not set"):
        Clients([Client(name="app", key_env="A")], {})
    twins = [Client(name="a", key_env="A"), Client(name="b", key_env="B")]
    with pytest.raises(SettingsError, match=r"clients\.1\.key_env"):
        Clients(twins, {"A": "same", "B": "same"})


def test_hop_by_hop_headers_are_dropped_both_ways() -> None:
    """What concerns one connection only, or Coalmine only, does not travel."""
    hops = b"\r\n".join(
        [
            b"connection: keep-alive, X-Hop",
            b"x-hop: 1",
            b"te: trailers",
            b"transfer-encoding: chunked",
            b"x-coalmine-force-variant: candidate",
            b"accept: */*",
            b"accept: b",
        ]
    )
    request = b"POST /v1/files HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n" + hops
    assert read_request(request).lines == b"accept: */*\r\naccept: b\r\n"
    answer = read_response(b"HTTP/1.1 200 OK\r\n" + hops)
    assert answer.lines == b"accept: */*\r\naccept: b\r\n"


def test_header_view_reads_as_text() -> None:
    """Names are found in lower case, values are text, absent ones are None."""
    view = HeaderView({b"x-a": b"\xe9"})
    assert (view.get("x-a"), view.get("x-b")) == ("é", None)


SETTINGS: dict[str, Any] = {
    "deployments": {
        "base": {"base_url": "http://127.0.0.1:1/v1", "model": "b"},
        "cand": {"base_url": "http://127.0.0.1:2/v1", "model": "c"},
        "next": {"base_url": "http://[::1]:3/v1", "model": "n", "api_key_env": "KEY"},
    },
    "routes": {"bot": {"baseline": "base"}, "aux": {"baseline": "cand"}},
}


def table(
    splits: dict[str, Split], previous: RouteTable | None = None, **changes: Any
) -> RouteTable:
    """Build a table."""
    settings = Settings.model_validate({**SETTINGS, **changes})
    arms = build_arms(settings, {"KEY": "secret"})
    metrics = GatewayMetrics(CollectorRegistry())
    return build_table(settings, splits, arms, metrics, previous)


def test_unknown_models_are_openais_404() -> None:
    """The error says which model and how to find the right one."""
    with pytest.raises(RequestError, match="GET /v1/models") as caught:
        table({}).find("gpt-9")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_promotion_overrides_just_the_baseline_that_it_replaced() -> None:
    """Once the operator declares another baseline, an old promotion has no say any more."""
    split = Split("bot", 3, "cand", promoted_from="base")
    assert table({"bot": split}).find("bot").baseline.name == "cand"
    routes = {"bot": {"baseline": "next"}}
    assert table({"bot": split}, routes=routes).find("bot").baseline.name == "next"


def test_breakers_stay_with_their_candidate() -> None:
    """A change of weight keeps the breaker's memory, another candidate starts afresh."""
    split = Split("bot", 1, "base", candidate="cand", weight_bp=100, rollout_id=1)
    first = table({"bot": split})
    wider = table({"bot": split.evolve(revision=2, weight_bp=500)}, first)
    assert wider.find("bot").breaker is first.find("bot").breaker
    other = table({"bot": split.evolve(revision=3, rollout_id=2)}, wider)
    assert other.find("bot").breaker is not first.find("bot").breaker


def test_answers_say_who_served_and_why() -> None:
    """The added headers are ready as lines, with the rollout where there is one."""
    split = Split("bot", 1, "base", candidate="cand", weight_bp=100, rollout="v7", rollout_id=1)
    route = table({"bot": split}).find("bot")
    assert route.response_lines["candidate", "split"] == (
        b"x-coalmine-variant: candidate\r\nx-coalmine-reason: split\r\nx-coalmine-rollout: v7\r\n"
    )
    assert table({}).find("bot").response_lines["baseline", "default"] == (
        b"x-coalmine-variant: baseline\r\nx-coalmine-reason: default\r\n"
    )


def test_samplers_are_those_of_the_split() -> None:
    """A route draws as its split says: a mirror, its A/A stream, and the live answers."""
    mirrors = (Mirror(1, "v7", "cand", 2000, 300, "m"), Mirror(2, "v8", "next", 500, 0, "n"))
    split = Split(
        "bot",
        1,
        "base",
        candidate="cand",
        weight_bp=100,
        salt="s",
        rollout_id=1,
        live_sample_bp=900,
        mirrors=mirrors,
    )
    route = table({"bot": split}).find("bot")
    (first, drawn, noise), (second, also, none) = route.mirror_samplers
    assert (first, second, none) == (*mirrors, None)
    assert noise is not None
    assert route.live_sampler is not None
    for number in range(500):
        key = f"key{number}"
        assert drawn.takes(key) is Sampler("m", 2000).takes(key)
        assert noise.takes(key) is Sampler("m:1:noise", 300).takes(key)
        assert also.takes(key) is Sampler("n", 500).takes(key)
        assert route.live_sampler.takes(key) is Sampler("s:live", 900).takes(key)
    for changes in ({"live_sample_bp": 0}, {"weight_bp": 0}, {"rollout_id": None}):
        assert table({"bot": split.evolve(**changes)}).find("bot").live_sampler is None


def test_secrets_are_in_no_repr() -> None:
    """An arm can be logged."""
    settings = Settings.model_validate(SETTINGS)
    arms = build_arms(settings, {"KEY": "top-secret"})
    assert arms["next"].authorization == b"authorization: Bearer top-secret\r\n"
    assert "top-secret" not in repr(arms)
    assert arms["next"].upstream.host_lines == b"host: [::1]:3\r\n"


def test_a_baseline_without_its_key_is_a_settings_error() -> None:
    """A gateway does not start only to answer 401 to everyone."""
    settings = Settings.model_validate({**SETTINGS, "routes": {"bot": {"baseline": "next"}}})
    with pytest.raises(SettingsError, match=r"deployments\.next\.api_key_env.*KEY"):
        build_arms(settings, {})
