"""Asking a deployment for a sign of life before users are sent to it."""

from __future__ import annotations

import os
from collections.abc import Mapping

import httpx

from gateway.errors import SettingsError
from gateway.settings import Settings
from gateway.upstream import outbound

__all__ = ["DeploymentProbe"]


class DeploymentProbe:
    """Asks ``GET {base_url}/models``. Called with a deployment's name.

    Returns ``None`` when the deployment answers with anything below 500 and does not refuse the
    key (401, 403); otherwise a sentence on what is wrong. An upstream that does not know the path
    (404) answers all the same. ``timeout`` is in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str] | None = None,
        timeout: float = 3.0,
    ) -> None:
        self._settings = settings
        self._environ = os.environ if environ is None else environ
        self._timeout = timeout

    def __call__(self, name: str) -> str | None:
        """Ask the deployment called ``name``."""
        deployment = self._settings.deployments.get(name)
        if deployment is None:
            return "the settings do not declare it"
        key = deployment.api_key(self._environ)
        headers = {"authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        try:
            way = outbound(name, deployment, self._environ)
            with httpx.Client(
                verify=way.verify, proxy=way.proxy_url, timeout=self._timeout, trust_env=False
            ) as client:
                answer = client.get(f"{deployment.base_url}/models", headers=headers)
        except httpx.TimeoutException:
            return f"it did not answer within {self._timeout:g} s"
        except SettingsError as error:
            return f"its settings can't be used here ({error})"
        except (httpx.HTTPError, OSError) as error:
            return f"it can't be reached ({type(error).__name__})"
        if answer.status_code >= 500 or answer.status_code in {401, 403}:
            return f"it answered with status {answer.status_code}"
        return None
