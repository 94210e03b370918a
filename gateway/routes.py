"""From a public model name to the deployments behind it, as the latest split has it.

A :class:`RouteTable` is never changed, only replaced as a whole when settings or splits change: a
request works with the table it started with.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

import msgspec

from gateway.batch import Scope
from gateway.breaker import Breaker
from gateway.errors import RequestError, SettingsError
from gateway.metrics import GatewayMetrics, RouteMetrics
from gateway.settings import Deployment, Settings
from gateway.splice import Rewrite
from gateway.split import Assigner, Mirror, Sampler, Split
from gateway.targeting import Targeting
from gateway.upstream import Timeouts, Upstream, outbound

__all__ = ["Arm", "RouteState", "RouteTable", "build_arms", "build_table"]

_log = logging.getLogger("coalmine.gateway")
_REASONS = ("split", "forced", "fallback", "breaker", "ineligible", "default")


@dataclass(frozen=True, slots=True)
class Arm:
    """A deployment, ready to be called.

    ``authorization`` is the header line with the deployment's own key; without one the client's
    header is passed on where ``passes_key`` says so.
    """

    name: str
    upstream: Upstream
    rewrite: Rewrite
    authorization: bytes = field(default=b"", repr=False)
    passes_key: bool = False


def build_arms(settings: Settings, environ: Mapping[str, str]) -> dict[str, Arm]:
    """Build all deployments. Raises :class:`SettingsError` where a baseline's key is missing."""
    baselines = {route.baseline for route in settings.routes.values()}
    return {
        name: _build_arm(name, deployment, settings, environ, needed=name in baselines)
        for name, deployment in settings.deployments.items()
    }


def _build_arm(
    name: str,
    deployment: Deployment,
    settings: Settings,
    environ: Mapping[str, str],
    *,
    needed: bool,
) -> Arm:
    key = deployment.api_key(environ)
    for setting, variable, secret in (
        ("api_key_env", deployment.api_key_env, key),
        ("proxy_auth_env", deployment.proxy_auth_env, deployment.proxy_auth(environ)),
    ):
        if secret is None and variable is not None:
            message = f"the environment variable {variable} is not set"
            if needed:
                raise SettingsError(message, field=f"deployments.{name}.{setting}")
            _log.warning("deployments.%s.%s: %s", name, setting, message)
    options = settings.gateway
    upstream = Upstream(
        name,
        deployment.base_url,
        timeouts=Timeouts(
            connect=options.connect_timeout,
            first_byte=options.first_byte_timeout,
            idle=options.idle_timeout,
            total=options.total_timeout,
        ),
        outbound=outbound(name, deployment, environ),
        pool_size=options.pool_size,
        pool_idle=options.pool_idle_timeout,
        pool_age=options.pool_max_age,
    )
    rewrite = Rewrite(
        deployment.model,
        system_prompt=deployment.system_prompt,
        parameters=deployment.parameters,
    )
    line = b""
    if key is not None:
        line = b"authorization: Bearer %b\r\n" % key.get_secret_value().encode("latin-1")
    passes = deployment.api_key_env is None and not settings.clients
    return Arm(name, upstream, rewrite, authorization=line, passes_key=passes)


class RouteState:
    """A route as it is served now: its split, its arms, and what is precomputed from them."""

    __slots__ = (
        "assigner",
        "baseline",
        "breaker",
        "candidate",
        "has_own_terms",
        "live_sampler",
        "metrics",
        "mirror_gates",
        "mirror_samplers",
        "name",
        "observed",
        "response_lines",
        "reverse_gates",
        "reverse_samplers",
        "scope",
        "split",
        "targeting",
    )

    def __init__(
        self,
        split: Split,
        *,
        baseline: Arm,
        candidate: Arm | None,
        breaker: Breaker,
        metrics: RouteMetrics,
        segment: str | None,
        risk: str | None,
    ) -> None:
        self.name = split.route
        self.split = split
        self.scope = Scope(split)
        self.baseline = baseline
        self.candidate = candidate
        self.breaker = breaker
        self.metrics = metrics
        self.observed = bool(split.mirrors) or split.rollout_id is not None
        """Whether a rollout wants to know anything about this route's requests."""
        self.targeting: Targeting | None = None
        """Reads what is to be known of each request; ``None`` where nobody wants to know."""
        if self.observed or split.candidate is not None:
            self.targeting = Targeting(
                split.targeting_key, split.eligible, segment=segment, risk=risk
            )
        self.assigner = None if split.candidate is None else Assigner(split)
        """Chooses the arm; ``None`` where there is but one."""
        self.mirror_samplers: tuple[tuple[Mirror, Sampler, Sampler | None], ...] = tuple(
            (
                mirror,
                Sampler(mirror.salt, mirror.percentage_bp),
                Sampler(f"{mirror.salt}:{mirror.rollout_id}:noise", mirror.noise_bp)
                if mirror.noise_bp
                else None,
            )
            for mirror in split.mirrors
        )
        """Each mirror with its own draw and the draw of its A/A stream, where it has one."""
        self.mirror_gates = _gates(split.mirrors)
        """The widest draw of each salt: whoever is in no gate's sample is in no mirror's."""
        self.reverse_samplers: tuple[tuple[Mirror, Sampler, Sampler | None], ...] = tuple(
            (mirror, Sampler(mirror.salt, mirror.percentage_bp), None)
            for mirror in split.reverse_mirrors
        )
        """The draws of requests that chance gave to the candidate; usually there are none."""
        self.reverse_gates = _gates(split.reverse_mirrors)
        self.has_own_terms = split.has_own_terms
        """Whether the mirrors' requests are not all the same ones."""
        live = split.live_sample_bp if split.weight_bp and split.rollout_id is not None else 0
        self.live_sampler = Sampler(f"{split.salt}:live", live) if live else None
        """Draws the randomised requests whose answers are checked; ``None`` where none are."""
        rollout = split.rollout or (split.mirrors[0].rollout if split.mirrors else None)
        named = "" if rollout is None else f"x-coalmine-rollout: {rollout}\r\n"
        self.response_lines: dict[tuple[str, str], bytes] = {
            (variant, reason): (
                f"x-coalmine-variant: {variant}\r\nx-coalmine-reason: {reason}\r\n{named}".encode()
            )
            for variant in ("baseline", "candidate")
            for reason in _REASONS
        }
        """The headers added to an answer, by variant and reason, as lines."""


def _gates(mirrors: tuple[Mirror, ...]) -> tuple[Sampler, ...]:
    widest: dict[str, float] = {}
    for mirror in mirrors:
        widest[mirror.salt] = max(widest.get(mirror.salt, 0.0), mirror.percentage_bp)
    return tuple(Sampler(salt, share_bp) for salt, share_bp in widest.items())


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All routes by public model name. ``default`` serves requests that name no model."""

    routes: Mapping[str, RouteState]
    default: RouteState | None
    models: bytes
    """The body of ``GET /v1/models``."""

    def find(self, model: str) -> RouteState:
        """Return the route called ``model``. Raises OpenAI's 404 ``model_not_found``."""
        route = self.routes.get(model)
        if route is None:
            shown = model if len(model) <= 100 else model[:100] + "…"
            raise RequestError(
                f"The model {shown!r} does not exist here; GET /v1/models lists the ones that do.",
                status=404,
                code="model_not_found",
                param="model",
            )
        return route

    def model(self, name: str) -> bytes:
        """Return the body of ``GET /v1/models/{name}``."""
        return msgspec.json.encode(_model(self.find(name).name))


class _BreakerLimits(TypedDict):
    failures: int
    window: int
    cooldown: float


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "coalmine"}


def build_table(
    settings: Settings,
    splits: Mapping[str, Split],
    arms: Mapping[str, Arm],
    metrics: GatewayMetrics,
    previous: RouteTable | None = None,
) -> RouteTable:
    """Build the table for ``splits``; breakers carry over from ``previous`` with their candidate.

    The declared baseline serves, unless a promotion has replaced just that baseline. A split whose
    candidate is not declared here counts as weight 0: a gateway never guesses.
    """
    options = settings.gateway
    limits: _BreakerLimits = {
        "failures": options.breaker_failures,
        "window": options.breaker_window,
        "cooldown": options.breaker_cooldown,
    }
    routes: dict[str, RouteState] = {}
    for name, route in settings.routes.items():
        split = splits.get(name) or Split(route=name, revision=0, baseline=route.baseline)
        split, candidate = _effective(split, route.baseline, arms)
        before = None if previous is None else previous.routes.get(name)
        if before is not None and _same_candidate(before.split, split):
            breaker = before.breaker
            breaker.adjust(**limits)
        else:
            breaker = Breaker(**limits)
        state = RouteState(
            split,
            baseline=arms[split.baseline],
            candidate=candidate,
            breaker=breaker,
            metrics=metrics.route(name),
            segment=route.segment,
            risk=route.risk,
        )
        state.metrics.weight.set(split.weight_bp / 10_000)
        state.metrics.revision.set(split.revision)
        state.metrics.breaker_open.set(breaker.open)
        routes[name] = state
    models = msgspec.json.encode({"object": "list", "data": [_model(name) for name in routes]})
    return RouteTable(routes, next(iter(routes.values()), None), models)


def _effective(split: Split, declared: str, arms: Mapping[str, Arm]) -> tuple[Split, Arm | None]:
    baseline = declared
    if split.promoted_from == declared and split.baseline in arms:
        baseline = split.baseline
    candidate = None if split.candidate is None else arms.get(split.candidate)
    if split.candidate is not None and candidate is None:
        _log.warning(
            "route %s: its candidate %s is not among this gateway's deployments; serving none",
            split.route,
            split.candidate,
        )
        split = split.evolve(weight_bp=0)
    return split.evolve(baseline=baseline, candidate=candidate and candidate.name), candidate


def _same_candidate(one: Split, other: Split) -> bool:
    return (one.candidate, one.rollout_id) == (other.candidate, other.rollout_id)
