"""The simulated upstream as an ASGI application.

Plain ASGI, because the demo sends several hundred requests a second through it on two cores that
it shares with everything else.
"""

from __future__ import annotations

import hmac
import re
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import sha256
from typing import Any

import msgspec

from gateway.errors import RequestError, SettingsError
from gateway.simulator.answers import Answer, compose
from gateway.simulator.ask import Ask
from gateway.simulator.behaviour import (
    Behaviour,
    JudgeBehaviour,
    ModelBehaviour,
    SimulatorConfig,
    parse_behaviour,
)
from gateway.simulator.chat import Stamp
from gateway.simulator.conditions import Circumstances
from gateway.simulator.delivery import ClientGone, Exchange, Message
from gateway.simulator.draws import Draws, canonical
from gateway.simulator.embeddings import embedding_document
from gateway.simulator.endpoints import ENDPOINTS, Endpoint, decode_object, no_such_model
from gateway.simulator.judge import Case, judge, read_case
from gateway.simulator.ledger import Ledger

__all__ = ["SimulatorApp"]

Scope = MutableMapping[str, Any]
_encode = msgspec.json.Encoder().encode
_CONTROL = re.compile(r"/sim/models/(?P<name>.+)")


class SimulatorApp:
    """An OpenAI-compatible upstream that behaves as ``config`` says.

    Besides ``/v1`` it serves ``/health``, ``/metrics``, and for tests ``GET /sim/state``,
    ``GET /sim/requests``, ``POST /sim/models/NAME`` (a behaviour) and ``POST /sim/reset``.
    """

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.ledger = Ledger()
        self._behaviours: dict[str, Behaviour] = dict(config.models)
        self._key = config.api_key.get_secret_value() if config.api_key else None
        self._recorded: deque[dict[str, Any]] = deque(maxlen=config.record)

    async def __call__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send, self.config.time_scale)
        try:
            await self._route(scope, exchange)
        except RequestError as error:
            await exchange.error(error)
        except ClientGone:
            return

    async def _route(self, scope: Scope, exchange: Exchange) -> None:
        path, method = scope["path"], scope["method"]
        if method == "POST" and (path in ENDPOINTS or path == "/v1/embeddings"):
            await self._answer(path, scope, exchange)
        elif path.startswith("/v1"):
            self._authorize(scope)
            await exchange.document(self._models(method, path))
        else:
            await self._control(method, path, exchange)

    def _authorize(self, scope: Scope) -> None:
        if self._key is None:
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, f"Bearer {self._key}".encode()):
            raise RequestError(
                "Incorrect API key provided.",
                status=401,
                type="authentication_error",
                code="invalid_api_key",
            )

    def _models(self, method: str, path: str) -> dict[str, Any]:
        entries = {
            name: {"id": name, "object": "model", "created": 1_735_689_600, "owned_by": "simulator"}
            for name in self._behaviours
        }
        if method == "GET" and path == "/v1/models":
            return {"object": "list", "data": list(entries.values())}
        name = path.removeprefix("/v1/models/")
        if method == "GET" and name in entries:
            return entries[name]
        if method == "GET" and path.startswith("/v1/models/"):
            raise no_such_model(name)
        raise RequestError(f"Unknown request URL: {method} {path}.", status=404, code="unknown_url")

    async def _control(self, method: str, path: str, exchange: Exchange) -> None:
        if method == "POST" and (match := _CONTROL.fullmatch(path)):
            try:
                self._behaviours[match["name"]] = parse_behaviour(
                    decode_object(await exchange.body())
                )
            except SettingsError as error:
                raise RequestError(error.message, param=error.field) from None
            await exchange.document({"model": match["name"]})
        elif method == "POST" and path == "/sim/reset":
            self.ledger.reset()
            self._recorded.clear()
            self._behaviours = dict(self.config.models)
            await exchange.document({})
        elif method == "GET" and path == "/sim/state":
            await exchange.document({"models": self.ledger.to_document()})
        elif method == "GET" and path == "/sim/requests":
            await exchange.document({"requests": list(self._recorded)})
        elif method == "GET" and path == "/health":
            await exchange.document({"status": "ok"})
        elif method == "GET" and path == "/metrics":
            kind = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
            await exchange.whole(self.ledger.exposition().encode(), 200, (kind,))
        else:
            raise RequestError(f"Nothing is served at {method} {path}.", status=404)

    def _record(self, scope: Scope, path: str, body: dict[str, Any]) -> None:
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        if "authorization" in headers:
            digest = sha256(headers["authorization"].encode()).hexdigest()
            headers["authorization"] = f"sha256:{digest}"
        self._recorded.append({"path": path, "headers": headers, "body": body})

    async def _answer(self, path: str, scope: Scope, exchange: Exchange) -> None:
        raw = await exchange.body()
        self._authorize(scope)
        body = decode_object(raw)
        if self.config.record:
            self._record(scope, path, body)
        name = body.get("model")
        if not isinstance(name, str):
            raise RequestError("You must provide a model parameter.", param="model")
        behaviour = self._behaviours.get(name)
        if behaviour is None:
            raise no_such_model(name)
        endpoint = ENDPOINTS.get(path)
        ask = endpoint.read(body) if endpoint is not None else Ask(model=name, subject="")
        ledger = self.ledger[name]
        ledger.requests += 1
        outcome = "cancelled"
        try:
            if await ledger.enter(behaviour.max_running, exchange.until_gone):
                try:
                    if behaviour.overrides:
                        at = _circumstances(scope, ask, ledger.in_flight, ledger.requests)
                        behaviour = behaviour.under(at)
                    outcome = await self._served(body, endpoint, ask, behaviour, exchange)
                finally:
                    ledger.leave()
        except RequestError:
            outcome = "failed"
            raise
        finally:
            setattr(ledger, outcome, getattr(ledger, outcome) + 1)

    def _draws(self, ask: Ask, request: bytes, behaviour: Behaviour) -> tuple[Draws, ...]:
        seed, ordinal = self.config.seed, 0
        if behaviour.sampling == "per_request":
            ordinal = self.ledger[ask.model].ordinal(request)
        return tuple(
            Draws(seed, ask.model, request if index == 0 else b"%d\0%s" % (index, request), ordinal)
            for index in range(ask.count)
        )

    async def _served(
        self,
        body: dict[str, Any],
        endpoint: Endpoint | None,
        ask: Ask,
        behaviour: Behaviour,
        exchange: Exchange,
    ) -> str:
        """Answer, or fail as scripted. Return the outcome: ``completed`` or ``failed``."""
        case = read_case(ask.everything) if isinstance(behaviour, JudgeBehaviour) else None
        request = case.canonical(ask.turns) if case else canonical(body)
        each = self._draws(ask, request, behaviour)
        draws = each[0]
        _scripted_error(draws, behaviour)
        if draws.happens("hang", behaviour.hang_rate):
            await exchange.hang()
        delay = behaviour.first_token.seconds(draws.normal("first token"))
        if draws.happens("garbage", behaviour.garbage_rate):
            await exchange.pause(delay)
            await exchange.garbage(draws.choice("garbage kind", 3), stream=ask.stream)
            return "failed"
        cut = draws.happens("cut", behaviour.cut_rate)
        part = 0.2 + 0.6 * draws.uniform("cut at")
        if endpoint is None:
            payload = _encode(self._embedding(body, behaviour))
            await exchange.pause(delay)
            await exchange.whole(payload, kept=round(len(payload) * part) if cut else None)
            return "failed" if cut else "completed"
        answers = tuple(_said(ask, case, behaviour, draw) for draw in each)
        stamp = Stamp.of(draws)
        speed = behaviour.tokens_per_second
        if ask.stream:
            events = list(endpoint.events(ask, answers, stamp, behaviour.tokens_per_chunk))
            await exchange.pause(delay)
            kept = max(1, round(len(events) * part)) if cut else None
            await exchange.stream(events, speed, kept)
        else:
            payload = _encode(endpoint.document(ask, answers, stamp))
            written = max(answer.tokens() for answer in answers) if speed else 0
            await exchange.pause(delay + (written / speed if speed else 0.0))
            await exchange.whole(payload, kept=round(len(payload) * part) if cut else None)
        return "failed" if cut else "completed"

    def _embedding(self, body: dict[str, Any], behaviour: Behaviour) -> dict[str, Any]:
        name = str(body["model"])
        if not isinstance(behaviour, ModelBehaviour):
            raise RequestError(f"The model {name!r} does not embed.", param="model")
        return embedding_document(
            body, model=name, seed=self.config.seed, dimensions=behaviour.embedding_dimensions
        )


def _said(ask: Ask, case: Case | None, behaviour: Behaviour, draws: Draws) -> Answer:
    if isinstance(behaviour, JudgeBehaviour):
        return judge(case, behaviour, draws)
    return compose(ask, behaviour, draws)


def _circumstances(scope: Scope, ask: Ask, in_flight: int, requests: int) -> Circumstances:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return Circumstances.model_construct(
        stream=ask.stream,
        tools=bool(ask.tools),
        in_flight=in_flight,
        requests=requests,
        headers=headers,
    )


def _scripted_error(draws: Draws, behaviour: Behaviour) -> None:
    if draws.happens("rate limit", behaviour.rate_limit_rate):
        raise RequestError(
            "Rate limit reached (scripted).",
            status=429,
            type="rate_limit_error",
            code="rate_limit_exceeded",
        )
    if draws.happens("error", behaviour.error_rate):
        status = (500, 502, 503)[draws.choice("error status", 3)]
        raise RequestError(
            "The server had an error (scripted).", status=status, type="server_error"
        )
