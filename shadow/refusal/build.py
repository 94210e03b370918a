"""The decider that the settings declare, put together."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from gateway.settings import Settings
from gateway.store.engine import Store
from gateway.upstream import outbound
from shadow.judge.client import JudgeClient
from shadow.local import LocalModel
from shadow.prices import Prices
from shadow.refusal.deciding import Decider
from shadow.refusal.judged import JudgeDecider
from shadow.refusal.local import LocalDecider
from shadow.refusal.prompt import RESPONSE_FORMAT


def build_decider(
    settings: Settings, store: Store, *, environ: Mapping[str, str], clock: Callable[[], float]
) -> Decider | None:
    """Return who decides on refusals where the rules are not sure; None: the rules alone do.

    `clock` gives Unix seconds. Raises `SettingsError` where a local classifier is named that can't
    be there.
    """
    refusal, judge = settings.refusal, settings.judge
    if refusal.local is not None:
        model = LocalModel(refusal.local, field="refusal.local")
        return LocalDecider(model, labels=refusal.labels, threshold=refusal.threshold)
    if refusal.decider == "rules" or judge is None:
        return None
    deployment = settings.deployments[judge.deployment]
    client = JudgeClient(
        base_url=deployment.base_url,
        model=deployment.model,
        api_key=deployment.api_key(environ),
        timeout_s=judge.timeout,
        max_concurrency=judge.max_concurrency,
        parameters=deployment.parameters,
        response_format=RESPONSE_FORMAT,
        outbound=outbound(judge.deployment, deployment, environ),
    )
    return JudgeDecider(
        client,
        store,
        endpoint=deployment.base_url,
        nonce=lambda: secrets.token_hex(8),
        clock=clock,
        prices=Prices(
            judge.dollars_per_million_input_tokens, judge.dollars_per_million_output_tokens
        ),
    )
