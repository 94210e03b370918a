"""Who is served by which arm: the assignment of a request, as pure functions over one value.

A :class:`Split` is what the controller writes and every gateway reads. Assignment is sticky and
monotone: a key's bucket depends only on the salt and the key, and the candidate serves the buckets
below the weight, so widening never moves a key off the candidate. Shadow sampling uses salts of
its own and is therefore independent of the arm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

__all__ = [
    "BASIS_POINTS",
    "Assigner",
    "Assignment",
    "Eligibility",
    "Mirror",
    "Sampler",
    "Share",
    "Split",
    "assign",
    "bucket",
    "targeting_key",
]

BASIS_POINTS = 10_000
"""The whole of the traffic, in basis points (hundredths of a percent)."""

_MILLION = 1_000_000

Variant = Literal["baseline", "candidate"]
Reason = Literal["split", "forced", "fallback", "breaker", "ineligible", "default"]


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Which requests may take part in a rollout at all.

    ``risk`` lists the risk tiers allowed (``None``: any); ``headers`` are request headers that
    must have exactly these values (names in lower case).
    """

    risk: tuple[str, ...] | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def allows(self, risk: str | None, headers: Mapping[str, str]) -> bool:
        """Say whether a request of this risk tier and with these headers may take part.

        A request without a risk tier counts as the highest tier: it is allowed only where every
        tier is (``risk`` is ``None``) or ``"unknown"`` is listed.
        """
        if self.risk is not None and (risk or "unknown") not in self.risk:
            return False
        return not self.headers or all(headers.get(name) == value for name, value in self.headers)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Eligibility:
        """Build it from its JSON document."""
        risk = document.get("risk")
        return cls(
            risk=None if risk is None else tuple(risk),
            headers=tuple((name, value) for name, value in document.get("headers", ())),
        )


@dataclass(frozen=True, slots=True)
class Mirror:
    """One rollout's wish for pairs: the share of eligible requests to mirror to its candidate.

    ``percentage_bp`` is the sampling share in basis points, down to a hundredth of one;
    ``noise_bp`` the share of *those* that also goes to the baseline a second time (the A/A
    stream); ``salt`` makes sampling independent of every split. The mirrors of a route share it,
    so that their samples are nested: a request that the smallest share takes is in all of them, and
    one capture serves them all. The draw of the A/A stream is each rollout's own. ``both`` asks for
    the other direction too: requests that chance gave to the candidate are mirrored to the
    baseline. ``eligible`` says whose requests the mirror takes (``None``: as the split).
    """

    rollout_id: int
    rollout: str
    candidate: str
    percentage_bp: float
    noise_bp: int
    salt: str
    both: bool = False
    eligible: Eligibility | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Mirror:
        """Build a mirror from its JSON document; unknown keys are ignored."""
        known = {item.name: document[item.name] for item in fields(cls) if item.name in document}
        eligible = known.get("eligible")
        known["eligible"] = None if eligible is None else Eligibility.from_document(eligible)
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Split:
    """The state of one route, as its gateways serve it.

    ``revision`` grows with every change and is what replicas acknowledge. ``epoch`` grows when
    the assignment itself starts anew. ``weight_bp`` is the candidate's share in basis points.
    ``slo_s`` is the latency objective in seconds whose violations gateways count.
    ``live_sample_bp`` is the share of live answers, of both arms alike, that is captured for
    checks. ``promoted_from`` is the baseline that the settings declared when a candidate was
    promoted; it tells a gateway whether ``baseline`` here still overrides the settings.
    """

    route: str
    revision: int
    baseline: str
    candidate: str | None = None
    weight_bp: int = 0
    salt: str = ""
    epoch: int = 0
    rollout: str | None = None
    rollout_id: int | None = None
    targeting_key: tuple[str, ...] = ("header:x-user-id", "body:user")
    on_missing_key: Literal["request", "baseline"] = "request"
    eligible: Eligibility = field(default_factory=Eligibility)
    live_sample_bp: int = 0
    slo_s: float | None = None
    mirrors: tuple[Mirror, ...] = ()
    promoted_from: str | None = None
    former_baseline: str | None = None
    updated_at: float = 0.0
    reason: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.weight_bp <= BASIS_POINTS:
            raise ValueError(
                f"weight_bp is {self.weight_bp}; a weight lies between 0 and {BASIS_POINTS}"
            )
        if self.weight_bp and self.candidate is None:
            raise ValueError("weight_bp is above 0 but there is no candidate")

    @property
    def has_own_terms(self) -> bool:
        """Whether some mirror takes other requests than the split does."""
        return any(each.eligible not in (None, self.eligible) for each in self.mirrors)

    @property
    def reverse_mirrors(self) -> tuple[Mirror, ...]:
        """The mirrors that want the candidate's requests too: of who holds the live traffic only.

        Another rollout's mirror compares with the baseline, which did not answer these.
        """
        return tuple(
            mirror
            for mirror in self.mirrors
            if mirror.both and self.weight_bp and mirror.rollout_id == self.rollout_id
        )

    def evolve(self, **changes: Any) -> Split:
        """Return a copy with these fields changed."""
        return replace(self, **changes)

    def to_document(self) -> dict[str, Any]:
        """Return the split as a JSON document; :meth:`from_document` is its inverse."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Split:
        """Build a split from its JSON document. Unknown keys are ignored (newer writers)."""
        known = {item.name: document[item.name] for item in fields(cls) if item.name in document}
        known["eligible"] = Eligibility.from_document(known.get("eligible") or {})
        known["mirrors"] = tuple(Mirror.from_document(each) for each in known.get("mirrors", ()))
        if "targeting_key" in known:
            known["targeting_key"] = tuple(known["targeting_key"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Assignment:
    """The arm that serves a request, and why. ``randomised`` tells whether chance decided it.

    Only requests assigned by the split itself are evidence about the arms.
    """

    variant: Variant
    reason: Reason
    randomised: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "randomised", self.reason == "split")


def bucket(salt: str, key: str) -> int:
    """Return the bucket of ``key``, 0 to 9,999, uniform over keys and independent between salts.

    The first 8 bytes of BLAKE2b over ``salt`` and ``key`` (which are kept apart by a NUL) as a
    64-bit integer, modulo 10,000; the modulo's bias is below 1e-15.
    """
    digest = hashlib.blake2b(f"{salt}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % BASIS_POINTS


class Share:
    """The keys whose :func:`bucket` lies below a share, at about half the cost of the function.

    The hash's state after the salt is kept and copied for each key.
    """

    __slots__ = ("_salted", "_share")

    def __init__(self, salt: str, share_bp: int) -> None:
        self._share = share_bp
        self._salted = hashlib.blake2b(f"{salt}\0".encode(), digest_size=8).copy

    def has(self, key: str) -> bool:
        """Say whether ``key`` is one of them."""
        share = self._share
        if share <= 0:
            return False
        if share >= BASIS_POINTS:
            return True
        state = self._salted()
        state.update(key.encode())
        return int.from_bytes(state.digest(), "big") % BASIS_POINTS < share


class Sampler:
    """Draws a sample of ``share_bp`` basis points of all requests, by a key unique to each.

    The share is taken to a hundredth of a basis point, a millionth of all requests. For one process
    only: the draw is Python's own keyed hash (SipHash-1-3) of salt and key, at a tenth of the cost
    of :func:`bucket`. No other process has the same keys, so none need agree.
    """

    __slots__ = ("_salt", "_share")

    def __init__(self, salt: str, share_bp: float) -> None:
        self._salt = f"{salt}\0"
        self._share = round(share_bp * (_MILLION // BASIS_POINTS))

    def takes(self, key: str) -> bool:
        """Say whether the request with this key is in the sample."""
        return hash(self._salt + key) % _MILLION < self._share


def targeting_key(
    sources: tuple[str, ...], headers: Mapping[str, str], body: Mapping[str, Any]
) -> str | None:
    """Return the first targeting key that the request carries, or ``None``.

    A source is ``header:NAME``, or ``body:PATH`` with a dotted path such as ``body:user`` or
    ``body:metadata.tenant``. Only non-empty strings and integers count as keys.
    """
    for source in sources:
        kind, _, name = source.partition(":")
        if kind == "header":
            value: Any = headers.get(name.lower())
        else:
            value = body
            for part in name.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None


class Assigner:
    """Assigns the requests of one split, with all prepared that does not depend on the request.

    Forced variants and breakers are the caller's business: they override the result.
    """

    __slots__ = ("_anonymous", "_share")

    def __init__(self, split: Split) -> None:
        self._share = None if split.candidate is None else Share(split.salt, split.weight_bp)
        self._anonymous = split.on_missing_key == "request"

    def assign(self, key: str | None, eligible: bool, request_key: str) -> Assignment:
        """Assign one request.

        ``key`` is the targeting key or ``None`` for an anonymous request, which is assigned by
        ``request_key`` (unique per request), or to the baseline where the split says so.
        """
        share = self._share
        if share is None:
            return _DEFAULT
        if not eligible:
            return _INELIGIBLE
        if key is None:
            if not self._anonymous:
                return _INELIGIBLE
            key = request_key
        return _CANDIDATE if share.has(key) else _BASELINE


def assign(split: Split, key: str | None, *, eligible: bool, request_key: str) -> Assignment:
    """Assign one request of ``split``, as :meth:`Assigner.assign` does."""
    return Assigner(split).assign(key, eligible, request_key)


_DEFAULT = Assignment("baseline", "default")
_INELIGIBLE = Assignment("baseline", "ineligible")
_CANDIDATE = Assignment("candidate", "split")
_BASELINE = Assignment("baseline", "split")
