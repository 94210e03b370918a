"""The simulated upstream behind the official client, and its scripted failures on the wire."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import openai
import pytest
import yaml

from gateway.errors import SettingsError
from gateway.prompts import load_prompts
from gateway.simulator import RunningSimulator, parse_simulator, start_simulator

_MESSAGES: Any = [{"role": "user", "content": "My order 5520-31 is late. Where is the parcel?"}]
_MODELS: dict[str, Any] = {
    "good": {"quality": 0.9},
    "fresh": {"sampling": "per_request"},
    "refuses": {"refusal_rate": 1},
    "fails": {"error_rate": 1},
    "limited": {"rate_limit_rate": 1},
    "hangs": {"hang_rate": 1},
    "cuts": {"cut_rate": 1},
    "garbles": {"garbage_rate": 1},
    "slow": {"first_token": 0, "tokens_per_second": 1},
    "single": {"hang_rate": 1, "max_running": 1},
    "streams-badly": {"overrides": [{"when": {"stream": True}, "set": {"error_rate": 1}}]},
    "judge": {"role": "judge"},
}
_SCHEMA = {
    "type": "object",
    "properties": {
        "parcel": {"type": "string"},
        "urgency": {"type": "integer", "minimum": 1, "maximum": 5},
        "mood": {"enum": ["calm", "upset"]},
    },
    "required": ["parcel", "urgency", "mood"],
    "additionalProperties": False,
}
_TOOL: Any = {
    "type": "function",
    "function": {"name": "track_parcel", "parameters": _SCHEMA},
}


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    """Run one simulator for all tests of this file."""
    with start_simulator(parse_simulator({"seed": 3, "record": 5, "models": _MODELS})) as running:
        yield running


@pytest.fixture(scope="module")
def client(simulator: RunningSimulator) -> Iterator[openai.OpenAI]:
    """Give the official client, without retries."""
    with openai.OpenAI(
        base_url=simulator.base_url, api_key="sk-test", max_retries=0, timeout=20
    ) as client:
        yield client


@pytest.fixture
def http(simulator: RunningSimulator) -> Iterator[httpx.Client]:
    """Give a plain client of the simulator, its counts reset."""
    with httpx.Client(base_url=simulator.url, timeout=20, trust_env=False) as http:
        http.post("/sim/reset")
        yield http


def _counts(http: httpx.Client, model: str) -> dict[str, int]:
    return dict(http.get("/sim/state").json()["models"].get(model, {}))


def _until(condition: Callable[[], bool], told: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, told


def test_a_stream_is_the_whole_answer_in_pieces(client: openai.OpenAI) -> None:
    """Streamed or not, the same request has the same text, reason and usage."""
    whole = client.chat.completions.create(model="good", messages=_MESSAGES)
    chunks = list(
        client.chat.completions.create(
            model="good",
            messages=_MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert "parcel" in text or "order" in text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    plain = list(client.chat.completions.create(model="good", messages=_MESSAGES, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in plain)


def test_json_schema_and_tools_reach_the_client(client: openai.OpenAI) -> None:
    """Structured answers fit their schema; a streamed call joins to the one sent whole."""
    answer = client.chat.completions.create(
        model="good",
        messages=_MESSAGES,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}},
    )
    jsonschema_rs.validate(_SCHEMA, json.loads(answer.choices[0].message.content or ""))

    whole = client.chat.completions.create(model="good", messages=_MESSAGES, tools=[_TOOL])
    call: Any = (whole.choices[0].message.tool_calls or [])[0]
    jsonschema_rs.validate(_SCHEMA, json.loads(call.function.arguments))
    assert whole.choices[0].finish_reason == "tool_calls"
    assert whole.choices[0].message.content is None
    with client.chat.completions.stream(model="good", messages=_MESSAGES, tools=[_TOOL]) as stream:
        streamed: Any = stream.get_final_completion().choices[0].message.tool_calls
    assert streamed[0].id == call.id
    assert streamed[0].function.name == "track_parcel"
    assert streamed[0].function.arguments == call.function.arguments


def test_several_choices_differ(client: openai.OpenAI) -> None:
    """With n=3 there are three choices, drawn apart."""
    answer = client.chat.completions.create(model="good", messages=_MESSAGES, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3


def test_formal_refusals_stand_in_their_field(client: openai.OpenAI) -> None:
    """Where a schema was asked for a refusal is in `refusal`, elsewhere it is plain text."""
    formal = client.chat.completions.create(
        model="refuses",
        messages=_MESSAGES,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}},
    )
    assert formal.choices[0].message.content is None
    assert formal.choices[0].message.refusal
    plain = client.chat.completions.create(model="refuses", messages=_MESSAGES)
    assert plain.choices[0].message.content
    assert plain.choices[0].message.refusal is None


def test_the_other_endpoints_answer(client: openai.OpenAI) -> None:
    """Models, completions, embeddings and responses work with the official client."""
    assert set(_MODELS) <= {model.id for model in client.models.list()}
    assert client.models.retrieve("good").id == "good"
    completion = client.completions.create(model="good", prompt="Where is my parcel?")
    pieces = client.completions.create(model="good", prompt="Where is my parcel?", stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == completion.choices[0].text
    vectors = client.embeddings.create(
        model="good", input=["the late parcel", "late parcel", "green tea"], dimensions=48
    ).data
    near = sum(a * b for a, b in zip(vectors[0].embedding, vectors[1].embedding, strict=True))
    far = sum(a * b for a, b in zip(vectors[0].embedding, vectors[2].embedding, strict=True))
    assert len(vectors[0].embedding) == 48
    assert near > 0.99 > far
    plain = client.embeddings.create(model="good", input="green tea", encoding_format="float")
    assert len(plain.data[0].embedding) == 64


def test_responses_stream_as_typed_events(client: openai.OpenAI) -> None:
    """The Responses API gives the same text whole and streamed, and calls functions."""
    whole = client.responses.create(model="good", input="Where is my late parcel?")
    assert whole.status == "completed"
    with client.responses.stream(model="good", input="Where is my late parcel?") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == whole.output_text != ""
    assert final.usage == whole.usage
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    tool: Any = {"type": "function", "name": "track_parcel", "parameters": _SCHEMA, "strict": True}
    with client.responses.stream(model="good", input="Where is it?", tools=[tool]) as stream:
        call: Any = stream.get_final_response().output[0]
    assert call.name == "track_parcel"
    jsonschema_rs.validate(_SCHEMA, json.loads(call.arguments))
    short = client.responses.create(model="good", input="Where?", max_output_tokens=2)
    assert short.status == "incomplete"


def test_every_prompt_of_the_file_is_answered_as_it_expects(client: openai.OpenAI) -> None:
    """All requests of the prompt file get what they expect: text, JSON or a tool call."""
    for prompt in load_prompts():
        choice = client.chat.completions.create(**prompt.request("good")).choices[0]
        if prompt.expects == "tool":
            assert choice.message.tool_calls, prompt.id
        elif prompt.expects == "json":
            json.loads(choice.message.content or "")
        else:
            assert choice.message.content, prompt.id


def test_concurrency_does_not_change_answers(simulator: RunningSimulator) -> None:
    """The same requests, one by one and all at once, on another simulator, give the same bytes."""
    bodies = [prompt.request("good") for prompt in load_prompts()[:40]]
    config = parse_simulator({"seed": 3, "models": _MODELS})
    with start_simulator(config) as other, httpx.Client(timeout=20, trust_env=False) as http:

        def ask(base_url: str, body: dict[str, Any]) -> bytes:
            return http.post(f"{base_url}/chat/completions", json=body).content

        one_by_one = [ask(simulator.base_url, body) for body in bodies]
        with ThreadPoolExecutor(8) as pool:
            at_once = list(pool.map(lambda body: ask(other.base_url, body), reversed(bodies)))
    assert one_by_one == at_once[::-1]


def test_repetition_draws_anew_only_where_asked(client: openai.OpenAI, http: httpx.Client) -> None:
    """per_prompt repeats itself; per_request gives the next draw, and the same ones after reset."""

    def three(model: str) -> list[str | None]:
        return [
            client.chat.completions.create(model=model, messages=_MESSAGES)
            .choices[0]
            .message.content
            for _ in range(3)
        ]

    assert len(set(three("good"))) == 1
    first = three("fresh")
    assert len(set(first)) == 3
    http.post("/sim/reset")
    assert three("fresh") == first


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        ("/v1/files", {}, 404, "unknown_url", None),
        (
            "/v1/chat/completions",
            {"model": "nobody", "messages": _MESSAGES},
            404,
            "model_not_found",
            "model",
        ),
        ("/v1/chat/completions", {"messages": []}, 400, None, "model"),
        ("/v1/chat/completions", {"model": "good"}, 400, None, "messages"),
        ("/v1/chat/completions", [1], 400, None, None),
        ("/v1/embeddings", {"model": "good"}, 400, None, "input"),
        ("/v1/embeddings", {"model": "judge", "input": "x"}, 400, None, "model"),
        ("/v1/responses", {"model": "good", "input": []}, 400, None, "input"),
        ("/sim/models/new", {"quality": 3}, 400, None, "quality"),
    ],
)
def test_errors_have_the_openai_shape(
    http: httpx.Client, path: str, body: Any, status: int, code: str | None, param: str | None
) -> None:
    """Unknown paths and models and bad parameters are told in OpenAI's error shape."""
    reply = http.post(path, json=body)
    assert reply.status_code == status
    error = reply.json()["error"]
    assert error["message"]
    assert (error["code"], error["param"]) == (code, param)


def test_a_body_that_is_not_json_is_refused(http: httpx.Client) -> None:
    """Half a JSON document is a 400 that says so."""
    reply = http.post("/v1/chat/completions", content=b'{"model": "go')
    assert reply.status_code == 400
    assert "not JSON" in reply.json()["error"]["message"]


def test_scripted_errors_are_the_clients_own(client: openai.OpenAI, http: httpx.Client) -> None:
    """429 and 5xx raise the client's errors and are counted as failed."""
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="limited", messages=_MESSAGES)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="fails", messages=_MESSAGES)
    assert _counts(http, "limited")["failed"] == _counts(http, "fails")["failed"] == 1


def test_failures_only_when_streaming(client: openai.OpenAI) -> None:
    """An override for streams leaves whole answers alone."""
    assert client.chat.completions.create(model="streams-badly", messages=_MESSAGES).choices
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="streams-badly", messages=_MESSAGES, stream=True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_answer_ends_too_early(http: httpx.Client, *, stream: bool) -> None:
    """The connection drops after the first bytes, which HTTP lets the client notice."""
    body = {"model": "cuts", "messages": _MESSAGES, "stream": stream}
    received = b""
    with (
        pytest.raises(httpx.RemoteProtocolError),
        http.stream("POST", "/v1/chat/completions", json=body) as reply,
    ):
        assert reply.status_code == 200
        for part in reply.iter_raw():
            received += part
    assert received
    assert b"[DONE]" not in received
    assert _counts(http, "cuts") == {
        "requests": 1,
        "completed": 0,
        "failed": 1,
        "cancelled": 0,
        "in_flight": 0,
        "waiting": 0,
    }


@pytest.mark.parametrize("stream", [False, True])
def test_garbage_is_no_answer(http: httpx.Client, *, stream: bool) -> None:
    """What comes back is no HTTP, no JSON, or no event; over several requests both kinds occur."""
    seen = set()
    for number in range(12):
        body = {"model": "garbles", "messages": _MESSAGES, "stream": stream, "seed": number}
        try:
            reply = http.post("/v1/chat/completions", json=body)
        except httpx.RemoteProtocolError:
            seen.add("no HTTP")
            continue
        assert reply.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            json.loads(reply.text.partition("data: ")[2].split("\n")[0] if stream else reply.text)
        seen.add("no JSON")
    assert seen == {"no HTTP", "no JSON"}


def test_a_hang_lasts_until_the_client_leaves(
    simulator: RunningSimulator, http: httpx.Client
) -> None:
    """A request that is never answered is in flight, then cancelled once its client left."""

    async def scenario() -> None:
        async with openai.AsyncOpenAI(
            base_url=simulator.base_url, api_key="x", max_retries=0, timeout=60
        ) as client:
            asking = asyncio.create_task(
                client.chat.completions.create(model="hangs", messages=_MESSAGES)
            )
            seen = lambda: _counts(http, "hangs").get("in_flight") == 1  # noqa: E731
            await asyncio.to_thread(_until, seen, "the request did not arrive")
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    asyncio.run(scenario())
    _until(lambda: _counts(http, "hangs")["cancelled"] == 1, "the cancellation did not arrive")
    assert _counts(http, "hangs")["in_flight"] == 0
    assert 'simulator_cancelled_total{model_name="hangs"} 1' in http.get("/metrics").text


def test_leaving_a_slow_stream_is_noticed(client: openai.OpenAI, http: httpx.Client) -> None:
    """A client that closes a stream in the middle is counted at once, not at the next token."""
    stream = client.chat.completions.create(model="slow", messages=_MESSAGES, stream=True)
    next(stream)
    stream.close()
    _until(lambda: _counts(http, "slow").get("cancelled") == 1, "nobody noticed")


def test_a_full_model_queues(simulator: RunningSimulator, http: httpx.Client) -> None:
    """Beyond max_running requests wait, as vLLM's gauges show; places pass on in order."""

    async def scenario() -> None:
        async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
            body = {"model": "single", "messages": _MESSAGES}
            url = f"{simulator.base_url}/chat/completions"
            first = asyncio.create_task(client.post(url, json=body))
            await asyncio.to_thread(_until, lambda: _state() == (1, 0), "the first is not running")
            second = asyncio.create_task(client.post(url, json=body))
            third = asyncio.create_task(client.post(url, json=body))
            await asyncio.to_thread(_until, lambda: _state() == (1, 2), "the others don't wait")
            third.cancel()
            await asyncio.to_thread(_until, lambda: _state() == (1, 1), "the third still waits")
            first.cancel()
            await asyncio.to_thread(_until, lambda: _state() == (1, 0), "the second isn't running")
            second.cancel()
            await asyncio.gather(first, second, third, return_exceptions=True)

    def _state() -> tuple[int, int]:
        text = http.get("/metrics").text
        gauges = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        label = '{model_name="single"}'
        return (
            int(gauges.get(f"vllm:num_requests_running{label}", 0)),
            int(gauges.get(f"vllm:num_requests_waiting{label}", 0)),
        )

    asyncio.run(scenario())
    _until(lambda: _counts(http, "single")["cancelled"] == 3, "not all were counted")


def test_behaviour_can_be_replaced_and_reset(client: openai.OpenAI, http: httpx.Client) -> None:
    """A posted behaviour holds from the next request on; a reset brings the file's back."""
    assert http.post("/sim/models/good", json={"error_rate": 1}).json() == {"model": "good"}
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="good", messages=_MESSAGES)
    http.post("/sim/reset")
    assert client.chat.completions.create(model="good", messages=_MESSAGES).choices
    assert _counts(http, "good")["requests"] == 1


def test_requests_are_recorded_without_the_key(client: openai.OpenAI, http: httpx.Client) -> None:
    """The last requests can be read back, the key only as its hash."""
    client.chat.completions.create(
        model="good", messages=_MESSAGES, temperature=0.3, extra_headers={"x-trace": "t1"}
    )
    shown = http.get("/sim/requests")
    (request,) = shown.json()["requests"]
    assert request["path"] == "/v1/chat/completions"
    assert request["body"]["temperature"] == 0.3
    assert request["headers"]["x-trace"] == "t1"
    assert "sk-test" not in shown.text
    assert request["headers"]["authorization"].startswith("sha256:")


def test_a_key_can_be_required() -> None:
    """With api_key set, another key or none is a 401 on every endpoint."""
    config = parse_simulator({"api_key": "sk-right", "models": {"m": {}}})
    with start_simulator(config) as running:
        right = openai.OpenAI(base_url=running.base_url, api_key="sk-right", max_retries=0)
        wrong = openai.OpenAI(base_url=running.base_url, api_key="sk-wrong", max_retries=0)
        with right, wrong:
            assert right.chat.completions.create(model="m", messages=_MESSAGES).choices
            with pytest.raises(openai.AuthenticationError):
                wrong.chat.completions.create(model="m", messages=_MESSAGES)
            with pytest.raises(openai.AuthenticationError):
                wrong.models.list()


def test_a_taken_port_is_told() -> None:
    """Starting on a port in use names the port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = parse_simulator({"models": {"m": {}}})
        with pytest.raises(SettingsError, match="can't listen"), start_simulator(config, port=port):
            pass


def test_the_command_serves_and_stops(tmp_path: Path) -> None:
    """`simulate` tells its address, answers, and ends with 0 on SIGTERM despite a hung client."""
    file = tmp_path / "simulator.yaml"
    file.write_text(yaml.safe_dump({"models": {"m": {}, "hangs": {"hang_rate": 1}}}), "utf-8")
    program = "import typer; from rollout.cli.simulate import simulate; typer.run(simulate)"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program, "--config", str(file), "--port", "0", "--seed", "4"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "models: hangs, m" in line
        url = line.split(" at ")[1].split()[0]
        with httpx.Client(timeout=20, trust_env=False) as http:
            assert http.get(f"{url}/models").status_code == 200
            host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
            body = json.dumps({"model": "hangs", "messages": _MESSAGES}).encode()
            with socket.create_connection((host, int(port))) as hung:
                head = (
                    f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}"
                )
                hung.sendall(head.encode() + b"\r\n\r\n" + body)
                state = f"http://{host}:{port}/sim/state"
                _until(lambda: "hangs" in http.get(state).json()["models"], "the request got lost")
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
