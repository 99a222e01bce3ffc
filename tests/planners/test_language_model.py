"""The planner behind an endpoint: good, bad and hostile replies of a fake one on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vseam_core.errors import SampleError, VseamError
from vseam_core.testing.images import BOX, sample
from vseam_plugins.planners.language_model import LanguageModelPlanner

GOOD = {"level": "attribute", "source": "red", "target": "blue", "prompt": "a blue dog", "find": "dog", "answer": "no", "confidence": 0.9}


class Endpoint:
    """Answers with the next of `replies` (an integer is a status) and keeps what it was asked."""

    def __init__(self) -> None:
        self.replies: list[str | int] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                endpoint.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                endpoint.keys.append(self.headers.get("Authorization", ""))
                reply = endpoint.replies.pop(0) if endpoint.replies else 500
                self.send_response(reply if isinstance(reply, int) else 200)
                message = {"role": "assistant", "content": reply}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                body = json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "fake", "choices": [choice]}).encode()
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    pytest.importorskip("openai")
    made = Endpoint()
    yield made
    made.server.shutdown()


def planner(endpoint: Endpoint, **options: Any) -> LanguageModelPlanner:
    return LanguageModelPlanner("fake", base_url=endpoint.url, cache=options.pop("cache", None), **options)


def test_a_good_reply_is_a_plan_with_the_things_box(endpoint: Endpoint) -> None:
    endpoint.replies = [json.dumps(GOOD)]
    plan = planner(endpoint).plan(sample())
    assert (plan.source_term, plan.target_term, plan.target_answer, plan.boxes) == ("red", "blue", "No", (BOX,))
    asked = endpoint.asked[0]["messages"]
    assert len(asked) == 22, "a system message, ten examples, the question"
    assert json.loads(asked[-1]["content"])["annotated things"] == ["dog (red)"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{not json", "reply"),
        (json.dumps({**GOOD, "colour": "x"}), "colour"),
        (json.dumps({**GOOD, "confidence": 3}), "confidence"),
        (json.dumps({**GOOD, "target": "red"}), "the same"),
        (json.dumps({**GOOD, "answer": "Yes."}), "the answer stays"),
        (json.dumps({**GOOD, "target": "<script>alert(1)</script>"}), "target"),
        (json.dumps({**GOOD, "find": "../../etc/passwd\\x"}), "find"),
        (json.dumps({**GOOD, "prompt": "see http://evil.example"}), "prompt"),
        (json.dumps({**GOOD, "source": "red\u0000\u001b[31m"}), "source"),
        (json.dumps({**GOOD, "prompt": "x" * 100_000}), "characters"),
        ("", "reply"),
    ],
)
def test_an_invalid_reply_is_sent_back_with_what_is_wrong_and_repaired(endpoint: Endpoint, bad: str, said: str) -> None:
    endpoint.replies = [bad, f"```json\n{json.dumps(GOOD)}\n```"]
    assert planner(endpoint).plan(sample()).target_term == "blue"
    assert said in endpoint.asked[1]["messages"][-1]["content"]


def test_nonsense_that_stays_is_a_skip_in_one_line(endpoint: Endpoint) -> None:
    endpoint.replies = ["no", "still no", "never"]
    with pytest.raises(SampleError, match="gave no valid plan in 3 replies") as caught:
        planner(endpoint).plan(sample())
    assert "\n" not in str(caught.value)


def test_the_key_is_sent_and_appears_nowhere_else(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VSEAM_LLM_KEY", "sk-secret")
    endpoint.replies = [json.dumps({**GOOD, "prompt": "a blue dog"}), 401]
    one = planner(endpoint, cache=str(tmp_path / "plans"))
    one.plan(sample())
    assert endpoint.keys == ["Bearer sk-secret"]
    with pytest.raises(VseamError, match="refuses the key") as caught:
        one.plan(sample(1, answer="No"))
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "sk-secret" not in written + str(caught.value) + caplog.text + repr(vars(one))


def test_plans_are_kept_by_what_was_asked(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [json.dumps(GOOD), json.dumps({**GOOD, "target": "green"})]
    options = {"cache": str(tmp_path)}
    first = planner(endpoint, **options).plan(sample())
    assert planner(endpoint, **options).plan(sample()) == first
    assert len(endpoint.asked) == 1
    other = LanguageModelPlanner("another", base_url=endpoint.url, cache=str(tmp_path)).plan(sample())
    assert (other.target_term, len(endpoint.asked)) == ("green", 2)


def test_an_endpoint_that_is_down_or_wrong_is_one_line(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint.replies = [404]
    with pytest.raises(VseamError, match="answers with status 404"):
        planner(endpoint).plan(sample())
    endpoint.server.shutdown()
    endpoint.server.server_close()
    with pytest.raises(VseamError, match="no answer from http://127"):
        planner(endpoint, timeout=1.0).plan(sample())
    for name in ("VSEAM_LLM_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(VseamError, match="no key; set VSEAM_LLM_KEY or OPENAI_API_KEY"):
        LanguageModelPlanner("gpt", cache=None).plan(sample())
    with pytest.raises(VseamError, match="needs the name of a model"):
        LanguageModelPlanner()
