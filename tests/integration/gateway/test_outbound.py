"""How deployments are reached: TLS both ways, proxies, and names with changing addresses."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.errors import ConnectFailed, SettingsError, UpstreamClosed, UpstreamTimeout
from gateway.routes import build_arms
from gateway.settings import Deployment, Route, Settings, load_settings
from gateway.upstream import Timeouts, Upstream, outbound

Run = Callable[[Coroutine[Any, Any, None]], None]
AUTH = "proxy-authorization: Basic dXNlcjpzMzpjcmV0\r\n"  # user:s3:cret


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a scenario on either event loop."""

    def run(scenario: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(scenario, 20))

    return run


@dataclass(slots=True)
class Server:
    """Answers every request with its name, and remembers heads and the clients' certificates."""

    name: str
    port: int = 0
    heads: list[str] = field(default_factory=list)
    peers: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.writers.append(writer)
        self.peers.append(writer.get_extra_info("peercert"))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                body = self.name.encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()


@asynccontextmanager
async def server(name: str = "ok", tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Listen on loopback."""
    made = Server(name)
    if tls is not None:
        tls.sni_callback = lambda _socket, sni, _context: made.names.append(sni or "")
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = listening.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        listening.close()
        for writer in made.writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def reached(
    base_url: str, environ: dict[str, str] | None = None, connect: float = 5.0, **declared: Any
) -> AsyncIterator[Upstream]:
    """Build the upstream of a deployment as the gateway does."""
    deployment = Deployment(base_url=base_url, model="m", **declared)
    way = outbound("up", deployment, environ or {})
    upstream = Upstream("up", base_url, outbound=way, timeouts=Timeouts(connect=connect))
    try:
        yield upstream
    finally:
        upstream.close()
        await asyncio.sleep(0)


async def get(upstream: Upstream) -> bytes:
    """Fetch one answer."""
    head = b"GET %b/x HTTP/1.1\r\n%b\r\n" % (upstream.prefix, upstream.host_lines)
    exchange = await upstream.request(b"GET", head, b"")
    body = b""
    while data := await exchange.read():
        body += data
    return body


def serving_tls(certificates: Path, *, client_ca: Path | None = None) -> ssl.SSLContext:
    """Return a server's context, for localhost, that may ask for the clients' certificates."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_tls_with_a_certificate_of_ones_own(run: Run, certificates: Path) -> None:
    """An upstream with a private CA is reached when ca_file names it, by name, and kept alive."""

    async def scenario() -> None:
        async with (
            server(tls=serving_tls(certificates)) as up,
            reached(f"https://localhost:{up.port}/v1", ca_file=certificates / "ca.pem") as upstream,
        ):
            assert await get(upstream) == b"ok"
            assert await get(upstream) == b"ok"
            assert upstream.connections == (1, 0)
            assert up.names == ["localhost"]
            inside = up.writers[0].get_extra_info("ssl_object")
            assert inside.selected_alpn_protocol() == "http/1.1"

    run(scenario())


@pytest.mark.parametrize(("host", "ca"), [("localhost", None), ("127.0.0.1", "ca.pem")])
@pytest.mark.parametrize("proxied", [False, True])
def test_tls_is_verified(
    run: Run, certificates: Path, proxying: Any, host: str, ca: str | None, proxied: bool
) -> None:
    """A certificate that nobody vouches for, or for another name, is refused with the reason."""

    async def scenario() -> None:
        declared: dict[str, Any] = {} if ca is None else {"ca_file": certificates / ca}
        async with server(tls=serving_tls(certificates)) as up, proxying() as proxy:
            if proxied:
                declared["proxy"] = proxy.url
            async with reached(f"https://{host}:{up.port}/v1", **declared) as upstream:
                with pytest.raises(ConnectFailed, match=r"TLS connection to deployment 'up': \w+"):
                    await get(upstream)
            assert not up.heads
            assert len(proxy.seen) == proxied

    run(scenario())


def test_tls_is_at_least_1_2(run: Run, certificates: Path) -> None:
    """An upstream that speaks TLS 1.1 at most is refused."""
    old = serving_tls(certificates)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    deployment = Deployment(base_url="https://x/v1", model="m")
    made = outbound("up", deployment, {}).tls
    assert made is not None
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2

    async def scenario() -> None:
        async with (
            server(tls=old) as up,
            reached(f"https://localhost:{up.port}/v1", ca_file=certificates / "ca.pem") as upstream,
        ):
            with pytest.raises(ConnectFailed, match="connection to deployment 'up'"):
                await get(upstream)

    run(scenario())


def test_a_client_certificate_is_shown(run: Run, certificates: Path) -> None:
    """An upstream that asks for a certificate gets the one declared; without it, nothing works."""

    async def scenario() -> None:
        context = serving_tls(certificates, client_ca=certificates / "client.pem")
        ca = certificates / "ca.pem"
        async with server(tls=context) as up:
            url = f"https://localhost:{up.port}/v1"
            async with reached(
                url,
                ca_file=ca,
                client_cert_file=certificates / "client.pem",
                client_key_file=certificates / "client-key.pem",
            ) as upstream:
                assert await get(upstream) == b"ok"
                (subject,) = up.peers[0]["subject"]
                assert subject == (("commonName", "coalmine test client"),)
            async with reached(url, ca_file=ca) as upstream:
                # TLS 1.3 tells the client of it after the handshake only
                with pytest.raises(UpstreamClosed, match="'up' closed"):
                    await get(upstream)
            assert len(up.heads) == 1

    run(scenario())


@pytest.mark.parametrize(
    ("files", "setting", "said"),
    [
        ({"ca_file": "gone.pem"}, "ca_file", "can't read"),
        ({"ca_file": "client-key.pem"}, "ca_file", "can't read"),
        ({"client_cert_file": "gone.pem"}, "client_cert_file", "can't read"),
        ({"client_cert_file": "client.pem"}, "client_cert_file", "unencrypted key"),
        (
            {"client_cert_file": "ca.pem", "client_key_file": "gone"},
            "client_key_file",
            "can't read",
        ),
        (
            {"client_cert_file": "ca.pem", "client_key_file": "client-key.pem"},
            "client_cert_file",
            "MISMATCH",
        ),
        (
            {"client_cert_file": "client.pem", "client_key_file": "client-key-locked.pem"},
            "client_cert_file",
            "unencrypted key",
        ),
    ],
)
def test_unusable_certificates_are_settings_errors(
    certificates: Path, files: dict[str, str], setting: str, said: str
) -> None:
    """The error names the setting; a locked key is not asked about on the terminal."""
    paths = {name: certificates / file for name, file in files.items()}
    deployment = Deployment.model_validate({"base_url": "https://x/v1", "model": "m", **paths})
    with pytest.raises(SettingsError, match=said) as caught:
        outbound("up", deployment, {})
    assert caught.value.field == f"deployments.up.{setting}"


@pytest.mark.parametrize(
    ("line", "setting", "remedy"),
    [
        ("base_url: 'http://h', proxy: 'http://u:p4ss@h:1'", "proxy", "proxy_auth_env"),
        ("base_url: 'http://h', proxy: 'https://h:1'", "proxy", "http://proxy"),
        ("base_url: 'http://h', proxy: 'h:3128'", "proxy", "http://proxy"),
        ("base_url: 'http://h', proxy: 'http://h:1/x'", "proxy", "http://proxy"),
        ("base_url: 'http://h', proxy_auth_env: P", "proxy_auth_env", "without proxy"),
        ("base_url: 'https://h', client_key_file: k", "client_key_file", "without client_cert"),
        ("base_url: 'http://h', client_cert_file: c", "client_cert_file", "https"),
    ],
)
def test_wrong_settings_of_the_way_are_named(
    tmp_path: Path, line: str, setting: str, remedy: str
) -> None:
    """The error names the setting, says what to do, and repeats no password."""
    path = tmp_path / "coalmine.yaml"
    path.write_text(f"deployments: {{v: {{model: m, {line}}}}}")
    with pytest.raises(SettingsError, match=remedy) as caught:
        load_settings(path, {})
    assert caught.value.field == f"deployments.v.{setting}"
    assert "p4ss" not in str(caught.value)


def test_files_are_taken_from_the_settings_folder(tmp_path: Path) -> None:
    """Certificates beside the settings are found whatever the working directory."""
    path = tmp_path / "coalmine.yaml"
    files = "client_cert_file: c.pem, client_key_file: k.pem"
    path.write_text(f"deployments: {{v: {{model: m, base_url: 'https://h', {files}}}}}")
    found = load_settings(path, {}).deployments["v"]
    assert found.client_cert_file == tmp_path / "c.pem"
    assert found.client_key_file == tmp_path / "k.pem"


def test_how_a_deployment_is_reached_is_no_part_of_its_identity() -> None:
    """Moving a deployment behind a proxy does not throw its evidence away."""
    plain = Deployment(base_url="https://h/v1", model="m")
    moved = Deployment(
        base_url="https://h/v1",
        model="m",
        proxy="http://p:1",
        proxy_auth_env="P",
        client_cert_file=Path("c"),
        client_key_file=Path("k"),
    )
    assert moved.revision() == plain.revision()


def test_https_goes_through_a_tunnel(run: Run, certificates: Path, proxying: Any) -> None:
    """The proxy is asked to connect, with its credentials, and sees nothing of the request."""

    async def scenario() -> None:
        async with server(tls=serving_tls(certificates)) as up, proxying() as proxy:
            async with reached(
                f"https://localhost:{up.port}/v1",
                {"PROXY_AUTH": "user:s3:cret"},
                ca_file=certificates / "ca.pem",
                proxy=proxy.url,
                proxy_auth_env="PROXY_AUTH",
            ) as upstream:
                assert await get(upstream) == b"ok"
                assert await get(upstream) == b"ok"
                assert upstream.connections == (1, 0)
            target = f"localhost:{up.port}"
            assert proxy.seen == [f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{AUTH}\r\n"]
            assert up.heads == [f"GET /v1/x HTTP/1.1\r\nhost: {target}\r\n\r\n"] * 2
            assert up.names == ["localhost"]

    run(scenario())


def test_http_goes_as_whole_urls(run: Run, proxying: Any) -> None:
    """The proxy gets the whole URL and its credentials, and looks the name up itself."""

    async def scenario() -> None:
        async with server() as up, proxying() as proxy:
            target = f"model.invalid:{up.port}"
            async with reached(
                f"http://{target}/v1",
                {"PROXY_AUTH": "user:s3:cret"},
                proxy=proxy.url,
                proxy_auth_env="PROXY_AUTH",
            ) as upstream:
                assert await get(upstream) == b"ok"
                assert await get(upstream) == b"ok"
                assert upstream.connections == (1, 0)
            head = f"GET http://{target}/v1/x HTTP/1.1\r\nhost: {target}\r\n"
            assert proxy.seen == [f"{head}{AUTH}\r\n"] * 2
            assert up.heads == [f"GET /v1/x HTTP/1.1\r\nhost: {target}\r\n\r\n"] * 2

    run(scenario())


@pytest.mark.parametrize(
    ("scheme", "refusal", "said"),
    [
        ("https", b"HTTP/1.1 407 Auth\r\ncontent-length: 4\r\n\r\nhmpf", "status 407.*proxy_auth"),
        ("https", b"HTTP/1.0 403 Forbidden\r\n\r\n", "refused, with status 403$"),
        ("https", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "refused, with status 502$"),
        ("https", b"", "closed the connection without an answer$"),
        ("https", b"HTTP/1.1 200 OK", "closed the connection without an answer$"),
        ("https", b"SSH-2.0-x\r\n\r\n", "does not speak HTTP/1.1$"),
        ("https", b"HTTP/1.1 200 OK\r\n\r\n<html>", "does not speak HTTP/1.1$"),
        ("https", b"HTTP/1.1 200 OK\r\nx: " + b"x" * 20_000, "does not speak HTTP/1.1$"),
        ("http", b"HTTP/1.1 407 Auth\r\ncontent-length: 0\r\n\r\n", "status 407.*proxy_auth"),
    ],
)
def test_a_proxy_that_refuses(
    run: Run, proxying: Any, scheme: str, refusal: bytes, said: str
) -> None:
    """The error names the deployment, its proxy and the status, and shows no credentials."""

    async def scenario() -> None:
        async with (
            proxying(refusal) as proxy,
            reached(
                f"{scheme}://localhost:9/v1",
                {"PROXY_AUTH": "user:s3:cret"},
                proxy=proxy.url,
                proxy_auth_env="PROXY_AUTH",
            ) as upstream,
        ):
            with pytest.raises(ConnectFailed, match=f"proxy of deployment 'up' .*{said}") as caught:
                await get(upstream)
            assert "cret" not in str(caught.value)
            assert len(proxy.seen) == 1

    run(scenario())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there(run: Run, scheme: str) -> None:
    """Whoever reads the error learns that it is the proxy that is away."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        proxy = f"http://127.0.0.1:{port}"
        async with reached(f"{scheme}://127.0.0.1:9/v1", proxy=proxy) as upstream:
            with pytest.raises(ConnectFailed, match=r"no connection to the proxy of .* 'up'"):
                await get(upstream)

    run(scenario())


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_silent_proxy_is_given_up_in_time(run: Run, answer: bytes) -> None:
    """The connect timeout covers connecting to the proxy, its answer, and TLS."""

    async def scenario() -> None:
        writers: list[asyncio.StreamWriter] = []

        async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            writer.write(answer)

        silent = await asyncio.start_server(accept, "127.0.0.1", 0)
        proxy = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        async with reached("https://localhost:9/v1", proxy=proxy, connect=0.1) as upstream:
            with pytest.raises(UpstreamTimeout, match=r"'up' through its proxy within 0\.1 s"):
                await get(upstream)
        silent.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    run(scenario())


def test_credentials_are_checked_and_show_nowhere() -> None:
    """Credentials of another form are refused; right ones are in no repr."""
    deployment = Deployment(
        base_url="http://h/v1", model="m", proxy="http://p", proxy_auth_env="PROXY_AUTH"
    )
    with pytest.raises(SettingsError, match=r"deployments\.up\.proxy_auth_env: .*USER:PASSWORD"):
        outbound("up", deployment, {"PROXY_AUTH": "s3cret"})
    way = outbound("up", deployment, {"PROXY_AUTH": "us@r:s3/cret"})
    assert way.proxy_url == "http://us%40r:s3%2Fcret@p"
    assert "s3" not in f"{way!r} {way} {way.proxy!r}"
    assert outbound("up", deployment, {}).proxy_url == "http://p"


class Names:
    """Stands in for the system's resolver: `addresses` are what every name has now."""

    def __init__(self, *addresses: tuple[str, int]) -> None:
        self.addresses = addresses
        self.asked = 0
        loop = asyncio.get_running_loop()
        loop.getaddrinfo = self._look_up  # type: ignore[method-assign]

    async def _look_up(self, *_arguments: Any, **_options: Any) -> list[Any]:
        self.asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in self.addresses]


def test_a_changed_address_is_followed(run: Run) -> None:
    """New connections go to the new address at once; old ones serve until they are of age."""

    async def scenario() -> None:
        async with server("old") as old, server("new") as new:
            names = Names(("127.0.0.1", old.port))
            async with reached("http://model.internal/v1") as upstream:
                assert await get(upstream) == b"old"
                names.addresses = (("127.0.0.1", new.port),)
                assert list(await asyncio.gather(get(upstream), get(upstream))) == [b"old", b"new"]
                assert upstream.connections == (2, 0)
                for connection in upstream._open:
                    if connection is not upstream._idle[-1]:
                        connection.born -= 301
                upstream._look()  # what the timer does
                assert upstream.connections[0] == 1
                bodies = await asyncio.gather(*(get(upstream) for _ in range(5)))
                assert bodies == [b"new"] * 5
                assert names.asked == 6

    run(scenario())


def test_the_next_address_is_tried(run: Run) -> None:
    """A name with several addresses works as long as one of them takes connections."""

    async def scenario() -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as first,
            socket.create_server(("127.0.0.1", 0)) as last,
        ):
            dead, gone = first.getsockname(), last.getsockname()
        async with server() as up:
            Names(dead, ("127.0.0.1", up.port), gone)
            async with reached("http://model.internal/v1") as upstream:
                assert await get(upstream) == b"ok"
            Names(dead, gone)
            async with reached("http://model.internal/v1") as upstream:
                with pytest.raises(ConnectFailed, match="no connection to deployment 'up'"):
                    await get(upstream)

    run(scenario())


def test_a_silent_address_leaves_time_for_the_next(run: Run, certificates: Path) -> None:
    """An address that swallows everything gets its share of the connect timeout, not all of it."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # never shakes hands
            async with server(tls=serving_tls(certificates)) as up:
                Names(silent.getsockname(), ("127.0.0.1", up.port))
                async with reached(
                    "https://localhost/v1", ca_file=certificates / "ca.pem", connect=1.0
                ) as upstream:
                    assert await get(upstream) == b"ok"

    run(scenario())


def test_the_gateway_goes_by_the_settings(caplog: pytest.LogCaptureFixture) -> None:
    """Arms get their deployment's proxy; a baseline without its proxy's credentials is refused."""
    proxied = {"model": "m", "proxy": "http://p:1", "proxy_auth_env": "PROXY_AUTH"}
    settings = Settings.model_validate(
        {
            "deployments": {
                "plain": {"base_url": "http://h:8/v1", "model": "m"},
                "proxied": {"base_url": "http://h:8/v1", **proxied},
            },
            "routes": {"bot": {"baseline": "plain"}},
        }
    )
    arms = build_arms(settings, {"PROXY_AUTH": "user:s3:cret"})
    up = arms["proxied"].upstream
    assert (up.prefix, up.host_lines) == (b"http://h:8/v1", f"host: h:8\r\n{AUTH}".encode())
    up = arms["plain"].upstream
    assert (up.prefix, up.host_lines) == (b"/v1", b"host: h:8\r\n")
    assert "cret" not in repr(arms)
    build_arms(settings, {})
    assert "deployments.proxied.proxy_auth_env: the environment variable PROXY_AUTH" in caplog.text
    routes = {"bot": Route(baseline="proxied")}
    with pytest.raises(SettingsError, match=r"deployments\.proxied\.proxy_auth_env: .*PROXY_AUTH"):
        build_arms(settings.model_copy(update={"routes": routes}), {})


def test_a_fault_of_ours_leaves_nobody_waiting(run: Run) -> None:
    """What no error was foreseen for fails the request at once, and reaches the log."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        logged: list[Any] = []
        loop.set_exception_handler(lambda _loop, context: logged.append(context.get("exception")))
        Names(("127.0.0.1", "no port"))  # type: ignore[arg-type]
        async with reached("http://model.internal/v1") as upstream:
            with pytest.raises(ConnectFailed, match="no connection to deployment 'up'"):
                await get(upstream)
        await asyncio.sleep(0)
        gc.collect()
        assert [type(each) for each in logged] == [ValueError]

    run(scenario())
