"""A judge never judges itself."""

from __future__ import annotations

from gateway.errors import SettingsError
from gateway.settings import Settings


def refuse_self_judging(settings: Settings, *, baseline: str, candidate: str) -> None:
    """Raise `SettingsError` where a deployment that judges, in any stage, serves one of the arms.

    The same model at the same address is the same judge under another name, and is refused too.
    """
    if settings.judge is None:
        return
    for field, name in settings.judge.deployments().items():
        judge = settings.deployments[name]
        for arm, other in (("baseline", baseline), ("candidate", candidate)):
            deployment = settings.deployments.get(other)
            same = deployment is not None and (deployment.base_url, deployment.model) == (
                judge.base_url,
                judge.model,
            )
            if other == name or same:
                raise SettingsError(
                    f"{name!r} is also the {arm} {other!r}; a judge never judges itself, "
                    "name another deployment",
                    field=field,
                )
