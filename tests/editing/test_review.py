"""Reviewing edits: the page escapes everything, the local server takes only its own page's verdicts, exports are imported."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vseam_core.api.types import Pair
from vseam_core.editing.folder import EditFolder
from vseam_core.editing.review import find_edit, import_verdicts, review_items
from vseam_core.editing.review_page import difference_view, mask_view, review_page
from vseam_core.editing.review_server import ReviewServer
from vseam_core.errors import InvalidFileError, StoreError, UnknownNameError, VseamError
from vseam_core.store import open_store
from vseam_core.store.store import Store

from .fakes import composed, sample

NASTY = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>& car"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "results.db") as opened:
        yield opened


@pytest.fixture
def pairs(tmp_path: Path, store: Store) -> list[Pair]:
    editor = composed(EditFolder(tmp_path / "edits"))
    made = [editor.edit(sample()), editor.edit(sample(1)), *editor.controls(sample())]
    store.save_pairs(made)
    return made


def test_the_store_keeps_how_an_edit_was_made(store: Store, pairs: list[Pair]) -> None:
    rows = store.edits().set_index("identifier")
    row, record = rows.loc[pairs[0].identifier], pairs[0].record
    assert record is not None
    assert (row["planner"], row["mask_provider"], row["confidence"], row["verdict"]) == ("fake", "fake", 0.75, "passed")
    assert (row["prompt"], row["image_path"], row["mask"], row["clean_path"]) == (
        "a green car on a road",
        record.image_path,
        record.mask_path,
        record.clean_path,
    )
    assert row["checks"] == dict(pairs[0].checks)
    assert json.loads(row["plan"])["region_prompt"] == "a green car"
    assert list(rows["control"].fillna("")).count("repaint") == 1


def test_saving_the_same_edits_again_keeps_rows_and_verdicts(store: Store, pairs: list[Pair]) -> None:
    store.review_edit(pairs[0].identifier, "accepted")
    store.save_pairs(pairs)
    assert len(store.edits()) == len(pairs)
    assert store.is_accepted(pairs[0])


def test_an_edit_is_accepted_when_somebody_accepts_it_and_nobody_rejects_it(store: Store, pairs: list[Pair]) -> None:
    assert not store.is_accepted(pairs[0])
    store.review_edit(pairs[0].identifier, "accepted", "ann")
    assert store.is_accepted(pairs[0])
    assert not store.is_accepted(pairs[1])
    store.review_edit(pairs[0].identifier, "rejected", "bob")
    assert not store.is_accepted(pairs[0])
    store.review_edit(pairs[0].identifier, "accepted", "bob")
    assert store.is_accepted(pairs[0])
    with pytest.raises(StoreError, match="expected accepted or rejected"):
        store.review_edit(pairs[0].identifier, "maybe")  # type: ignore[arg-type]


def test_a_check_that_is_not_finite_is_never_stored(store: Store, pairs: list[Pair]) -> None:
    with pytest.raises(StoreError, match="not finite"):
        store.save_pairs([replace(pairs[0], checks={"seam": float("nan")})])


def test_edits_without_a_verdict_come_first(store: Store, pairs: list[Pair]) -> None:
    assert [item.kind for item in review_items(store)] == ["edit", "elsewhere", "repaint", "edit"]
    first = review_items(store)[0].identifier
    store.review_edit(first, "accepted")
    items = review_items(store)
    assert items[-1].identifier == first
    assert {item.kind for item in items} == {"edit", "repaint", "elsewhere"}
    assert review_items(store, editor="nobody") == review_items(store, dataset="other") == []


def test_everything_on_the_page_is_escaped_and_nothing_comes_from_elsewhere(tmp_path: Path, store: Store) -> None:
    pair = composed(EditFolder(tmp_path / "edits")).edit(sample(question=NASTY, identifier=f"x/{NASTY}", answer=f"Yes {NASTY}"))
    store.save_pairs([pair])
    store.review_edit(pair.identifier, "rejected", NASTY, NASTY)
    page = review_page(review_items(store), NASTY, token="secret", reviewer=NASTY)
    assert len(re.findall(r"<script", page)) == 2
    assert "<img src=x" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    (settings,) = re.findall(r'id="settings">(.*?)</script>', page)
    assert json.loads(settings) == {"schema": "vseam.edit-review/1", "token": "secret", "reviewer": NASTY}
    assert "default-src &#39;none&#39;" in page


def test_the_page_shows_four_images_and_the_numbers_of_each_edit(store: Store, pairs: list[Pair]) -> None:
    page = review_page(review_items(store), "Edits")
    assert page.count("<article ") == len(pairs)
    assert page.count('src="data:image/png;base64,') == 4 * len(pairs)
    assert f"{pairs[0].checks['raw_psnr_outside']:.1f} dB" in page
    assert "control: repaint" in page


def test_a_image_that_is_gone_is_said_and_the_others_are_shown(store: Store, pairs: list[Pair]) -> None:
    assert pairs[1].record is not None
    Path(pairs[1].record.image_path).unlink()
    page = review_page(review_items(store), "Edits")
    assert page.count("no such image; it was moved or deleted") == 1
    assert page.count('src="data:image/png;base64,') == 4 * (len(pairs) - 1)


def test_difference_and_mask_views_pixel_by_pixel() -> None:
    generator = np.random.default_rng(0)
    clean, corrupt = (generator.integers(0, 256, (5, 4, 3)).astype(np.uint8) for _ in range(2))
    mask = generator.random((5, 4)) < 0.5
    shown = np.asarray(difference_view(Image.fromarray(clean), Image.fromarray(corrupt)))
    dimmed = np.asarray(mask_view(Image.fromarray(clean), mask))
    for index in np.ndindex(5, 4, 3):
        assert shown[index] == min(255, 3 * abs(int(clean[index]) - int(corrupt[index])))
        assert dimmed[index] == (clean[index] if mask[index[:2]] else clean[index] // 4)


@contextmanager
def running(store: Store) -> Iterator[ReviewServer]:
    items = review_items(store)

    def decide(identifier: str, verdict: str, comment: str) -> None:
        store.review_edit(identifier, verdict, "ann", comment)  # type: ignore[arg-type]

    with ReviewServer(lambda token: review_page(items, "Edits", token), [item.identifier for item in items], decide) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


def ask(server: ReviewServer, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    text = body if isinstance(body, str | None) else json.dumps(body)
    connection.request(method, path, text, {name.replace("_", "-"): value for name, value in headers.items()})
    reply = connection.getresponse()
    found = reply.status, reply.read().decode()
    connection.close()
    return found


def test_the_server_shows_the_page_and_stores_verdicts(store: Store, pairs: list[Pair]) -> None:
    with running(store) as server:
        status, page = ask(server, "GET", server.address.split(str(server.port))[1])
        assert status == 200
        assert page.count("<article ") == len(pairs)
        entry = {"identifier": pairs[0].identifier, "verdict": "accepted", "comment": "good"}
        assert ask(server, "POST", "/verdict", entry, X_Token=server.token)[0] == 204
        assert server.decided == 1
    assert store.is_accepted(pairs[0])
    (review,) = store.reviews()[pairs[0].identifier]
    assert (review["reviewer"], review["comment"]) == ("ann", "good")


def test_the_server_answers_nobody_else(store: Store, pairs: list[Pair]) -> None:
    entry = {"identifier": pairs[0].identifier, "verdict": "accepted", "comment": ""}
    with running(store) as server:
        assert ask(server, "GET", "/")[0] == 403
        assert ask(server, "GET", "/?token=wrong")[0] == 403
        assert ask(server, "GET", f"/other?token={server.token}")[0] == 404
        assert ask(server, "GET", f"/?token={server.token}", Host="evil.example")[0] == 403
        assert ask(server, "POST", "/verdict", entry)[0] == 403
        assert ask(server, "POST", "/verdict", entry, X_Token="wrong")[0] == 403
        assert ask(server, "POST", "/verdict", entry, X_Token=server.token, Host=f"evil.example:{server.port}")[0] == 403
        assert ask(server, "POST", "/verdict", {**entry, "identifier": "another"}, X_Token=server.token)[0] == 400
        assert ask(server, "POST", "/verdict", {**entry, "verdict": "maybe"}, X_Token=server.token)[0] == 400
        assert ask(server, "POST", "/verdict", "no json", X_Token=server.token)[0] == 400
        assert ask(server, "POST", "/verdict", [1], X_Token=server.token)[0] == 400
        assert ask(server, "POST", "/verdict", {**entry, "comment": "x" * 30_000}, X_Token=server.token)[0] == 413
        assert server.decided == 0
    assert store.reviews() == {}


@pytest.mark.parametrize(
    ("request_lines", "status"),
    [
        (b"GET http://[ HTTP/1.1\r\nHost: {host}\r\n\r\n", b"400"),
        (b"GET /?token=\xff%ff HTTP/1.1\r\nHost: {host}\r\n\r\n", b"403"),
        (b"POST /verdict HTTP/1.1\r\nHost: {host}\r\nX-Token: {token}\r\nContent-Length: \xb2\r\n\r\n", b"413"),
        (b"POST /verdict HTTP/1.1\r\nHost: {host}\r\nX-Token: \xe9\r\nContent-Length: 1\r\n\r\n1", b"403"),
        (b"POST /verdict HTTP/1.1\r\nHost: {host}\r\nX-Token: {token}\r\nContent-Length: 20000\r\n\r\n" + b"[" * 20_000, b"400"),
        (b"POST /verdict HTTP/1.1\r\nHost: {host}\r\nX-Token: {token}\r\nContent-Length: 4300\r\n\r\n" + b"9" * 4300, b"400"),
        (b"NONSENSE / HTTP/9.9\r\n\r\n", b"505"),
    ],
    ids=range(7),
)
def test_a_request_that_cannot_be_understood_is_refused_and_nothing_is_printed(
    request_lines: bytes, status: bytes, store: Store, pairs: list[Pair], capfd: pytest.CaptureFixture[str]
) -> None:
    with running(store) as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        host = f"127.0.0.1:{server.port}".encode()
        client.sendall(request_lines.replace(b"{host}", host).replace(b"{token}", server.token.encode()))
        assert status in client.recv(10_000)
    assert capfd.readouterr() == ("", "")


def test_half_a_character_in_a_comment_is_refused(store: Store, pairs: list[Pair]) -> None:
    entry = {"identifier": pairs[0].identifier, "verdict": "accepted", "comment": "a\ud800"}
    with running(store) as server:
        assert ask(server, "POST", "/verdict", entry, X_Token=server.token)[0] == 400
    assert store.reviews() == {}


def test_a_browser_that_leaves_in_the_middle_ends_nothing_and_prints_nothing(
    store: Store, pairs: list[Pair], capfd: pytest.CaptureFixture[str]
) -> None:
    with running(store) as server:
        client = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets the connection
        client.sendall(f"POST /verdict HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nX-Token: {server.token}\r\n".encode())
        client.sendall(b"Content-Length: 100\r\n\r\n{")
        client.close()
        assert ask(server, "GET", f"/?token={server.token}")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_taken_is_one_line(store: Store, pairs: list[Pair]) -> None:
    with running(store) as server, pytest.raises(VseamError, match=f"cannot serve on 127.0.0.1:{server.port}"):
        ReviewServer(lambda token: "", [], lambda *verdict: None, server.port)


def exported(path: Path, *names: str, **changes: object) -> Path:
    verdicts = [{"identifier": name, "verdict": "accepted", "comment": "ok"} for name in names]
    path.write_text(json.dumps({"schema": "vseam.edit-review/1", "reviewer": "ann", "verdicts": verdicts, **changes}))
    return path


def test_an_export_is_imported_and_edits_that_are_not_here_are_named(tmp_path: Path, store: Store, pairs: list[Pair]) -> None:
    path = exported(tmp_path / "verdicts.json", pairs[0].identifier, "of another database")
    assert import_verdicts(store, path) == (1, ["of another database"])
    assert store.reviews()[pairs[0].identifier][0]["reviewer"] == "ann"


@pytest.mark.parametrize(
    "changes", [{"schema": "vseam.edit-review/2"}, {"verdicts": [{"identifier": "a", "verdict": "maybe"}]}, {"more": 1}]
)
def test_a_file_that_is_no_export_is_refused(tmp_path: Path, store: Store, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidFileError, match="expected an export of the review page"):
        import_verdicts(store, exported(tmp_path / "verdicts.json", **changes))
    (tmp_path / "text").write_text("no json")
    with pytest.raises(InvalidFileError, match="expected an export"):
        import_verdicts(store, tmp_path / "text")


def test_an_edit_is_named_by_its_identifier_or_the_beginning_of_its_key(store: Store, pairs: list[Pair]) -> None:
    items = review_items(store)
    assert pairs[0].record is not None
    assert find_edit(items, pairs[0].identifier) == find_edit(items, pairs[0].record.key[:8]) == pairs[0].identifier
    with pytest.raises(UnknownNameError, match="unknown edit 'zzzzzzzz'"):
        find_edit(items, "zzzzzzzz")
    with pytest.raises(UnknownNameError, match="unknown edit"):
        find_edit(items, pairs[0].record.key[:3])
