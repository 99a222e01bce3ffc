"""Thousands of slightly wrong requests to the review server: each is answered or dropped, and no verdict is stored but a valid one.

Requests are handled in this process, without a socket: the handler reads and writes the bytes of one client. A failure names the kind of
mutation and the seed, so that `mutated_request(…)` shows the request again.
"""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Iterator, Sequence

import pytest

from vseam_core.editing.review_server import ReviewServer, _Handler
from vseam_core.errors import VseamError

from .mutations import as_json, mutated_bytes, mutated_value

PARTS = ("line", "header", "body", "value", "anything")
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
ANSWERED = {200, 204, 400, 403, 404, 405, 408, 413, 414, 417, 431, 501, 505}
ENTRY = {"identifier": "edit-1", "verdict": "accepted", "comment": "well done"}


class _Client:
    """What a handler takes for a connection: the bytes of a request, and room for the answer."""

    def __init__(self, request: bytes) -> None:
        self._request, self.answer = request, bytearray()

    def makefile(self, mode: str, size: int = -1) -> io.BufferedIOBase:
        return io.BytesIO(self._request)

    def sendall(self, data: bytes) -> None:
        self.answer += data

    def settimeout(self, seconds: float) -> None:
        pass

    def setsockopt(self, *option: object) -> None:
        pass


@pytest.fixture
def stored() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
def server(stored: list[tuple[str, str, str]]) -> Iterator[ReviewServer]:
    def decide(identifier: str, verdict: str, comment: str) -> None:
        if verdict not in ("accepted", "rejected"):
            raise VseamError("expected accepted or rejected")
        stored.append((identifier, verdict, comment))

    with ReviewServer(lambda token: "<p>the page</p>", ["edit-1", "edit-2"], decide) as ready:
        yield ready


def answered(server: ReviewServer, request: bytes) -> int | None:
    """The status of the first answer to what a client sends; None where it was dropped or has none. Raises what the handler raises."""
    client = _Client(request)
    handler = type("Handler", (_Handler,), {"local": server})
    handler(client, ("127.0.0.1", 1), server)  # type: ignore[arg-type]
    found = _STATUS.match(bytes(client.answer))
    # A first line without a version is answered as HTTP/0.9 was, without a status; but the page is for those alone who know the token.
    assert b"the page" not in client.answer or server.token.encode() in request
    return int(found[1]) if found else None


def requests(server: ReviewServer) -> dict[str, tuple[bytes, list[bytes], bytes]]:
    """Valid requests: the first line, the headers, the body."""
    host = b"Host: 127.0.0.1:%d" % server.port
    body, token = json.dumps(ENTRY).encode(), server.token.encode()
    kind = [host, b"X-Token: " + token, b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    return {
        "page": (b"GET /?token=" + token + b" HTTP/1.1", [host, b"Accept: text/html"], b""),
        "verdict": (b"POST /verdict HTTP/1.1", kind, body),
    }


def mutated_request(line: bytes, headers: list[bytes], body: bytes, part: str, seed: int) -> bytes:
    """A request with something changed in its first line, in its headers, in its body, or anywhere."""
    chance = random.Random(seed)
    if part == "line":
        line = mutated_bytes(line, seed)
    elif part == "header":
        place = chance.randrange(len(headers))
        changed = chance.choice([[], [headers[place]] * 2, [mutated_bytes(headers[place], seed)], [headers[place], b"X" * 70_000]])
        headers = [*headers[:place], *changed, *headers[place + 1 :]]
    elif body and part in ("body", "value"):
        body = mutated_bytes(body, seed) if part == "body" else as_json(mutated_value(json.loads(body), seed))
        # The length is that of the new body, or stays that of the old one: the client stops early or says more than it announced.
        headers = [*headers[:-1], b"Content-Length: %d" % len(body)] if chance.random() < 0.7 else headers
    request = b"\r\n".join([line, *headers, b"", body])
    return mutated_bytes(request, seed) if part == "anything" else request


def unkept(server: ReviewServer, stored: Sequence[tuple[str, str, str]], seeds: Sequence[int]) -> list[str]:
    """The requests that were handled otherwise than promised, one line each."""
    broken = []
    for name, valid in requests(server).items():
        for part in PARTS:
            for seed in seeds:
                before = len(stored)
                try:
                    status = answered(server, mutated_request(*valid, part, seed))
                except Exception as error:  # whatever escapes is what this test looks for
                    broken.append(f"{name}, mutated {part}, seed {seed}: raised {type(error).__name__}: {error}"[:200])
                    continue
                new = stored[before:]
                if status is not None and status not in ANSWERED:
                    broken.append(f"{name}, mutated {part}, seed {seed}: status {status}")
                if (status == 204) != bool(new) or any(entry[0] not in ("edit-1", "edit-2") for entry in new):
                    broken.append(f"{name}, mutated {part}, seed {seed}: status {status} and stored {new}")
    return broken


def test_the_valid_requests_are_answered(server: ReviewServer, stored: list[tuple[str, str, str]]) -> None:
    found = {name: answered(server, b"\r\n".join([line, *headers, b"", body])) for name, (line, headers, body) in requests(server).items()}
    assert found == {"page": 200, "verdict": 204}
    assert stored == [("edit-1", "accepted", "well done")]


def test_a_slightly_wrong_request_is_answered_or_dropped(
    server: ReviewServer, stored: list[tuple[str, str, str]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert unkept(server, stored, range(100)) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_slightly_wrong_requests(server: ReviewServer, stored: list[tuple[str, str, str]]) -> None:
    assert unkept(server, stored, range(100, 1100)) == []
