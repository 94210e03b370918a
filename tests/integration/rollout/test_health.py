"""The sign of life that is asked for before users are sent to a deployment."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings
from rollout.health import DeploymentProbe


@pytest.mark.parametrize(
    ("ca", "refusal", "said"),
    [
        ("ca.pem", None, None),
        (None, None, "ConnectError"),
        ("gone.pem", None, "deployments.up.ca_file"),
        ("ca.pem", b"HTTP/1.1 407 Auth\r\ncontent-length: 0\r\n\r\n", "ProxyError"),
    ],
)
def test_a_deployment_is_asked_by_its_own_way(
    certificates: Path, proxying: Any, ca: str | None, refusal: bytes | None, said: str | None
) -> None:
    """The probe uses the proxy and the CA that users' requests will use."""

    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            writer.close()

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates / "server.pem")
        listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = listening.sockets[0].getsockname()[1]
        async with proxying(refusal) as proxy:
            declared: dict[str, Any] = {
                "base_url": f"https://localhost:{port}/v1",
                "model": "m",
                "proxy": proxy.url,
                "proxy_auth_env": "PROXY_AUTH",
            }
            if ca is not None:
                declared["ca_file"] = certificates / ca
            settings = Settings.model_validate({"deployments": {"up": declared}})
            probe = DeploymentProbe(settings, environ={"PROXY_AUTH": "user:s3:cret"})
            answer = await asyncio.to_thread(probe, "up")
            if said is None:
                assert answer is None
                assert proxy.seen[0].startswith(f"CONNECT localhost:{port} ")
            else:
                assert said in (answer or "")
                assert "cret" not in (answer or "")
        listening.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))
