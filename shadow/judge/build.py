"""The judge of the settings, put together: one hosted judge, or a cheap stage before it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from gateway.settings import FirstStage, JudgeSettings, Settings
from gateway.store.engine import Store
from gateway.upstream import outbound
from shadow.judge.cache import JudgeCache
from shadow.judge.cascade import Cascade, Escalation
from shadow.judge.client import JudgeClient
from shadow.judge.judge import Judge
from shadow.judge.local_judge import LocalFirstJudge
from shadow.judge.outcome import Comparer, Stage
from shadow.judge.pairwise import OrderPolicy
from shadow.judge.rubrics import Rubric, Rubrics, read_rubrics
from shadow.prices import Prices


def build_judge(
    settings: Settings,
    store: Store,
    *,
    environ: Mapping[str, str],
    rubric: str | None = None,
    rng: Random | None = None,
) -> Comparer | None:
    """Return the judge of the settings, or None where none is declared.

    `rubric` replaces the words of the default rubric; routes keep their own. `rng` draws orders
    and audits. Raises `SettingsError` for a rubric or a model that can't be read.
    """
    declared = settings.judge
    if declared is None:
        return None
    read = read_rubrics(settings)
    if rubric is not None and rubric != read.default.text:
        read = read_rubrics(settings, Rubric("given", rubric))
    parts = _Parts(settings, declared, store, environ, read, rng or Random())
    final = parts.hosted(declared.deployment, "final", _prices(declared))
    first = declared.first_stage
    if first is None:
        return final
    cheap: Comparer
    if first.local is not None:
        cheap = LocalFirstJudge(first.local, field="judge.first_stage.local")
    else:
        cheap = parts.hosted(str(first.deployment), "first", _prices(first))
    escalation = Escalation(
        audit=first.audit,
        segments=frozenset(first.escalate_segments),
        risks=frozenset(first.escalate_risk),
    )
    return Cascade(cheap, final, escalation=escalation, rng=parts.rng)


def _prices(declared: JudgeSettings | FirstStage) -> Prices:
    return Prices(
        declared.dollars_per_million_input_tokens, declared.dollars_per_million_output_tokens
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What every hosted stage is made of."""

    settings: Settings
    declared: JudgeSettings
    store: Store
    environ: Mapping[str, str]
    rubrics: Rubrics
    rng: Random

    def hosted(self, name: str, stage: Stage, prices: Prices) -> Judge:
        """Return the judge behind a deployment."""
        declared, deployment = self.declared, self.settings.deployments[name]
        client = JudgeClient(
            base_url=deployment.base_url,
            model=deployment.model,
            api_key=deployment.api_key(self.environ),
            timeout_s=declared.timeout,
            max_concurrency=declared.max_concurrency,
            parameters=deployment.parameters,
            outbound=outbound(name, deployment, self.environ),
        )
        return Judge(
            client,
            endpoint=deployment.base_url,
            rubric=self.rubrics,
            nonce=lambda: secrets.token_hex(8),
            cache=JudgeCache(self.store),
            prices=prices,
            orders=OrderPolicy(single=declared.orders == "single", audit=declared.audit),
            stage=stage,
            name=name,
            version=deployment.revision(),
            rng=self.rng,
        )
