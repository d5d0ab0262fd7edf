"""One raw request at a time, and what an answer must look like."""

import json
from contextlib import closing, suppress
from http.client import HTTPConnection
from typing import NamedTuple

from harness import CALL_S, JSON

CHUNKED = {**JSON, "Transfer-Encoding": "chunked"}


class Answer(NamedTuple):
    status: int
    headers: dict
    text: str

    @property
    def body(self):
        return json.loads(self.text)


def ask(port, method, path, body=None, headers=JSON, within_s=CALL_S):
    """One request exactly as given: no header of a client library beside Host and the length."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=within_s)) as connection:
        connection.connect()
        with suppress(BrokenPipeError, ConnectionResetError):  # one that has heard enough may have answered already
            connection.request(method, path, body, headers, encode_chunked="Transfer-Encoding" in headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read().decode())


def padded(text, size_bytes):
    """A good body of this size: JSON may have spaces around it."""
    return text.encode().ljust(size_bytes)


def assert_problem(answer, status, *words):
    """The answer is an error in the one form that errors have, and its detail holds these words."""
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.body) == {"type", "title", "status", "detail"}
    assert answer.body["status"] == status
    assert all(isinstance(answer.body[name], str) and answer.body[name] for name in ("type", "title", "detail"))
    for word in words:
        assert word in answer.body["detail"]


def assert_answers(answer, expected):
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json"), answer.text
    assert answer.body == expected
