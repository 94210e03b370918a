"""One pair from claim to result: mirror, check, judge. Writes nothing; the worker does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import msgspec

from gateway.errors import SettingsError
from gateway.redaction.stage import Redaction
from gateway.settings import Contract, Settings
from gateway.store.engine import Store
from gateway.store.evidence import Evidence, EvidenceKind
from gateway.store.tables import JudgmentRow
from gateway.upstream import outbound
from shadow.answer import COMPARABLE, endpoint_of, read_answer
from shadow.boilerplate import NOT_REMEMBERED, BoilerplateMemory
from shadow.budget import DailyBudget
from shadow.checks import CheckResult, languages, run_checks
from shadow.compare import NO_JUDGE, Decision, decide_by_checks, decide_by_judge
from shadow.evidence import live_payload, pair_payload, without_delivery
from shadow.expectation import must_refuse
from shadow.fingerprint import Messages, by_fingerprint
from shadow.judge import Comparer, Judgment, Situation, refuse_self_judging
from shadow.lag import LoopLag
from shadow.mirror import Mirrored, MirrorTarget
from shadow.pair import Arm, Pair, Prompt, UnreadableRequest, read_prompt
from shadow.pairs import Claim, Finished
from shadow.plan import Plan
from shadow.prices import Prices
from shadow.refusal import Decider, with_stances
from shadow.refusal.deciding import Decided
from shadow.review import askable, rules_for

_log = logging.getLogger("coalmine.worker")

_TRIED_LATER = frozenset({408, 429})


class Evaluator:
    """Turns claims into results. `environ` holds the deployments' keys, `clock` Unix seconds.

    Raises `SettingsError` where a deployment's certificates can't be used.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        environ: Mapping[str, str],
        judge: Comparer | None,
        clock: Callable[[], float],
        rng: Random,
        redaction: Redaction | None = None,
        mirrored: Callable[[Plan, Arm], None] = lambda _plan, _arm: None,
        decider: Decider | None = None,
        decided: Callable[[str, Decided], None] = lambda _name, _decided: None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._environ = environ
        self._judge = judge
        self._clock = clock
        self._rng = rng
        self._redaction = redaction
        self._mirrored = mirrored
        self._decider = decider
        self._decided = decided
        # What an examined judge says counts on trial: its pairs say so.
        self._watched = settings.judge is not None and settings.judge.health.enabled
        self.lag = LoopLag()
        """Watched by the worker while it runs."""
        self._boilerplate = BoilerplateMemory()
        self._known = {
            name: by_fingerprint(route.known_failures.cases, partial(self._as_captured, name))
            for name, route in settings.routes.items()
        }
        self._targets: dict[str, MirrorTarget] = {}
        _prepare_languages(settings)
        self._outbound = {
            name: outbound(name, deployment, environ)
            for name, deployment in settings.deployments.items()
        }

    def _as_captured(self, route: str, messages: Messages) -> Messages:
        """Return a known request's messages redacted, as those of captures are."""
        if self._redaction is None:
            return messages
        given = msgspec.json.encode({"messages": list(messages)}).decode()
        text = self._redaction.plain(route, given)
        return msgspec.json.decode(text)["messages"] if text else messages

    async def evaluate(self, claim: Claim, plan: Plan) -> Finished:
        """Evaluate one claimed pair. Raises `StoreError` only: without a store nothing is spent."""
        finished = await self._evaluated(claim, plan)
        return replace(finished, reviewed=rules_for(self._settings, plan) is not None)

    async def _evaluated(self, claim: Claim, plan: Plan) -> Finished:
        capture = claim.capture
        if capture.truncated or endpoint_of(capture.endpoint) not in COMPARABLE:
            return self._unjudgeable(claim, "the capture is not whole, or its endpoint unknown")
        try:
            prompt = read_prompt(endpoint=capture.endpoint, body=capture.request_body)
        except UnreadableRequest as error:
            return self._unjudgeable(claim, str(error))
        answer = read_answer(
            endpoint=capture.endpoint, body=capture.response_body, status=capture.status
        )
        captured = Arm(
            answer,
            capture.status,
            capture.total_s,
            capture.ttft_s,
            prices=self._prices(capture.deployment),
        )
        if claim.stream == "live":
            return self._live(claim, plan, prompt, captured)
        if 400 <= capture.status < 500 and capture.status not in _TRIED_LATER:
            return self._unjudgeable(claim, f"the request was refused (status {capture.status})")
        return await self._paired(claim, plan, prompt, captured)

    async def close(self) -> None:
        """Close all connections."""
        for target in self._targets.values():
            await target.close()
        if self._judge is not None:
            await self._judge.close()
        if self._decider is not None:
            await self._decider.close()

    async def _paired(self, claim: Claim, plan: Plan, prompt: Prompt, captured: Arm) -> Finished:
        capture = claim.capture
        reverse = claim.stream == "mirror" and capture.variant == "candidate"
        if capture.variant == "baseline" and plan.baseline not in ("", capture.deployment):
            # Promoted meanwhile: this would be evidence against another baseline.
            changed = f"{capture.deployment!r} answered, and not the baseline {plan.baseline!r}"
            return self._unjudgeable(claim, changed)
        name = self._other_arm(claim, plan)
        target = self._target(name)
        if target is None:
            return self._unjudgeable(claim, f"no deployment is called {name!r} here")
        mirrored = await target.send(
            capture, timeout_s=plan.timeout_s, max_concurrency=plan.max_concurrency
        )
        self._mirrored(plan, mirrored.arm)
        if mirrored.unusable:
            outcome = "withheld" if mirrored.withheld else "unjudgeable"
            return self._unjudgeable(claim, mirrored.unusable, mirrored, outcome=outcome)
        if reverse and mirrored.arm.failed:
            # Our own load may have broken the baseline: that must never speak for the candidate.
            return self._unjudgeable(claim, "the baseline's mirror failed", mirrored)
        other = replace(mirrored.arm, prices=self._prices(name))
        baseline, candidate = (other, captured) if reverse else (captured, other)
        pair = await self._read(claim, plan, self._pair(claim, plan, prompt, baseline, candidate))
        checks = (
            *run_checks(pair),
            self._boilerplate.check(pair, rollout_id=claim.rollout_id, stream=claim.stream),
        )
        decision, judgments = await self._decide(claim, plan, pair, checks)
        payload = pair_payload(
            pair_id=claim.pair_id,
            capture_id=capture.id,
            cluster=capture.key_hash,
            pair=pair,
            checks=checks,
            decision=decision,
        )
        if self._watched and decision.decided_by == "judge":
            payload["watched"] = True
        if reverse:
            payload = without_delivery(payload)
        kind: EvidenceKind = "noise" if claim.stream == "noise" else "pair"
        rows = tuple(self._judgment_row(claim, each) for each in judgments)
        finished = Finished(
            claim,
            decision.outcome,
            self._fact(claim, kind, payload),
            rows,
            tuple(kept for each in judgments if (kept := each.kept) is not None),
            _columns(mirrored, checks, decision),
        )
        rules = rules_for(self._settings, plan)
        if rules is None or kind == "noise":
            return finished
        answered = not (baseline.failed or candidate.failed)
        salt = f"{plan.rollout_id}:{capture.id}"
        pair_asked = askable(rules, plan, decision, rows, salt=salt, answered=answered)
        return replace(finished, askable=pair_asked)

    async def _decide(
        self, claim: Claim, plan: Plan, pair: Pair, checks: Sequence[CheckResult]
    ) -> tuple[Decision, tuple[Judgment, ...]]:
        decision = decide_by_checks(pair, checks)
        if decision is not None:
            return decision, ()
        if self._judge is None or not plan.wants_judge:
            return NO_JUDGE, ()
        try:
            self._refuse_self_judging(claim, plan)
        except SettingsError as error:
            return Decision("judge_error", "error", reason=str(error)), ()
        budget = DailyBudget(self._store, plan.rollout_id, plan.limits, self._clock)
        capture = claim.capture
        situation = Situation(plan.route, claim.segment, capture.risk)
        judged = await self._judge.compare(pair, budget, situation)
        return decide_by_judge(judged), judged.judgments

    async def _read(self, claim: Claim, plan: Plan, pair: Pair) -> Pair:
        """Have a model read the answers of which the refusal rules are not sure."""
        if self._decider is None:
            return pair
        if self._decider.name == "judge":
            try:
                self._refuse_self_judging(claim, plan)
            except SettingsError:
                return pair  # the decision on the pair says so
        budget = DailyBudget(self._store, plan.rollout_id, plan.limits, self._clock)
        return await with_stances(pair, self._decider, budget, self._decided)

    def _refuse_self_judging(self, claim: Claim, plan: Plan) -> None:
        baseline = plan.baseline or claim.capture.deployment
        refuse_self_judging(self._settings, baseline=baseline, candidate=plan.candidate)

    def _live(self, claim: Claim, plan: Plan, prompt: Prompt, captured: Arm) -> Finished:
        variant = claim.capture.variant
        candidate = variant == "candidate"
        baseline, served = (None, captured) if candidate else (captured, None)
        pair = self._pair(claim, plan, prompt, baseline, served)
        checks = (*run_checks(pair), NOT_REMEMBERED)
        payload = live_payload(
            capture_id=claim.capture.id,
            variant=variant,
            weight_bp=claim.capture.weight_bp,
            arm=captured,
            checks=checks,
        )
        columns = {"checks": {check.name: check.to_json() for check in checks}}
        return Finished(claim, "checked", self._fact(claim, "live", payload), columns=columns)

    def _unjudgeable(
        self,
        claim: Claim,
        reason: str,
        mirrored: Mirrored | None = None,
        *,
        outcome: str = "unjudgeable",
    ) -> Finished:
        decision = Decision(outcome, "unjudgeable", reason=reason)
        if claim.stream == "live":
            return Finished(claim, "unjudgeable", columns={"comparison": decision.to_json()})
        empty = Pair(Prompt(endpoint=""), None, None)
        payload = pair_payload(
            pair_id=claim.pair_id,
            capture_id=claim.capture.id,
            cluster=claim.capture.key_hash,
            pair=empty,
            checks=(*run_checks(empty), NOT_REMEMBERED),
            decision=decision,
        )
        kind: EvidenceKind = "noise" if claim.stream == "noise" else "pair"
        columns = {"comparison": decision.to_json()}
        if mirrored is not None:
            columns = _columns(mirrored, (), decision)
        return Finished(claim, outcome, self._fact(claim, kind, payload), columns=columns)

    def _fact(self, claim: Claim, kind: EvidenceKind, payload: dict[str, Any]) -> Evidence:
        return Evidence(kind, self._clock(), payload, claim.segment, claim.capture.epoch)

    def _other_arm(self, claim: Claim, plan: Plan) -> str:
        if claim.stream == "noise":
            return claim.capture.deployment
        if claim.capture.variant == "candidate":
            return plan.baseline
        return plan.candidate

    def _pair(
        self, claim: Claim, plan: Plan, prompt: Prompt, baseline: Arm | None, candidate: Arm | None
    ) -> Pair:
        route = self._settings.routes.get(plan.route)
        capture = claim.capture
        return Pair(
            prompt,
            baseline,
            candidate,
            (route.contract if route else None) or Contract(),
            plan.slo_s,
            must_refuse(
                route.must_refuse if route else None,
                body=capture.request_body,
                segment=capture.segment,
                risk=capture.risk,
            ),
            self._known.get(plan.route, {}),
        )

    def _prices(self, name: str) -> Prices | None:
        deployment = self._settings.deployments.get(name)
        if deployment is None:
            return None
        read = deployment.dollars_per_million_input_tokens
        written = deployment.dollars_per_million_output_tokens
        return None if read is None or written is None else Prices(read, written)

    def _target(self, name: str) -> MirrorTarget | None:
        if name not in self._targets:
            deployment = self._settings.deployments.get(name)
            if deployment is None:
                return None
            self._targets[name] = MirrorTarget(
                deployment,
                api_key=deployment.api_key(self._environ),
                max_body_bytes=self._settings.gateway.max_capture_bytes,
                rng=self._rng,
                redaction=self._redaction,
                outbound=self._outbound[name],
                lag=self.lag,
            )
        return self._targets[name]

    def _judgment_row(self, claim: Claim, judgment: Judgment) -> JudgmentRow:
        verdict = judgment.verdict
        return JudgmentRow(
            pair_id=claim.pair_id,
            rollout_id=claim.rollout_id,
            order=judgment.order,
            verdict=verdict.verdict if verdict else None,
            scores=verdict.scores.model_dump() if verdict and verdict.scores else None,
            evidence=_storable(verdict.evidence) if verdict else None,
            severity=verdict.severity if verdict else None,
            model=judgment.model,
            fingerprint=judgment.fingerprint,
            error=_storable(judgment.error),
            transcript=_storable(judgment.transcript),
            input_tokens=judgment.input_tokens,
            output_tokens=judgment.output_tokens,
            cost_microusd=judgment.cost_microusd,
            latency_s=judgment.latency_s,
            cached=judgment.cached,
            cache_key=judgment.cache_key,
            created_at=self._clock(),
            stage=judgment.stage,
            asked=judgment.asked,
            probability=judgment.probability,
            rubric=judgment.rubric,
            rubric_hash=judgment.rubric_hash,
        )


def _prepare_languages(settings: Settings) -> None:
    """Load what tells languages apart where a route asks for it, or say that it is missing."""
    routes = [
        name
        for name, route in settings.routes.items()
        if route.contract and route.contract.language
    ]
    if not routes:
        return
    if not languages.available():
        _log.warning(
            "routes.%s.contract.language: nothing is judged without pip install "
            "'coalmine[language]'",
            routes[0],
        )
    languages.preload()


def _columns(
    mirrored: Mirrored, checks: Sequence[CheckResult], decision: Decision
) -> dict[str, Any]:
    """Return the pair row's columns; `candidate_*` is what the mirror brought, either way round."""
    arm = mirrored.arm
    return {
        "candidate_response": mirrored.body,
        "candidate_status": arm.status,
        "candidate_error": _storable(arm.answer.error),
        "candidate_ttft_s": arm.ttft_s,
        "candidate_total_s": arm.latency_s,
        "checks": {check.name: check.to_json() for check in checks} or None,
        "comparison": decision.to_json(),
    }


def _storable(text: str | None) -> str | None:
    """Return text that every database keeps: no NUL, no half of a surrogate pair."""
    if text is None:
        return None
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
