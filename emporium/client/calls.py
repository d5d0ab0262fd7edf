"""One call, from its first try to its answer or its error, within its deadline.

                     503, or no connection      504, or it broke after sending     anything else
    GET              again                      again                              raised
    PUT              again                      again: it is the same write        raised
    DELETE           again                      Unsure                             raised

A PUT at the same clock is the same write however often it comes: what is there already stays as it is. A DELETE that
may have been done is not sent again: it would delete, too, what somebody has written meanwhile.

Between two tries it waits for as long as Retry-After asks for, and for a random part of 0.1 s, then of 0.2 s
(exponential back-off with full jitter). No try begins that has less than 1 s left: sent and not waited for, it would
turn a failure that surely did nothing into one that may have done something.
"""

import os
import random
import secrets
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
from requests.cookies import RequestsCookieJar
from urllib3.exceptions import MaxRetryError, NewConnectionError
from urllib3.util import Timeout

from emporium.client.errors import BadAnswer, TeaError, Unavailable, Unsure, error_of
from emporium.client.pool import DeadlineAdapter

MOST_TRIES = 3
CONNECT_S = 0.5
ANSWER_S = 2.5  # of one try: the load balancer has an answer within 2 s, whatever happens behind it
FIRST_WAIT_S = 0.1
LEAST_TRY_S = 1.0
MOST_BYTES = 16 * 1024 * 1024  # of an answer; a list of 10,000 teas has some 4 MB
PIECE_BYTES = 64 * 1024


class Given(NamedTuple):
    """An answer that is a 200. `tries`: with how many requests it was got."""

    body: bytes
    headers: Mapping[str, str]
    request_id: str
    tries: int


class Calls:
    """Calls to one server. Threads may share it: what they share is the pool of connections, and that is made for it.

    draw   () -> a random number from 0 to 1
    sleep  waits for so many seconds
    """

    def __init__(
        self,
        url: str,
        connections: int,
        draw: Callable[[], float] = random.random,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not _is_address(url):
            raise ValueError(f"{url!r} is no address of a store, such as http://localhost:2500")
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        self._name = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # a password is told in no error
        self._connections = connections
        self._draw = draw
        self._sleep = sleep
        self._of_process = os.getpid(), _Session(connections)

    @property
    def _http(self) -> "_Session":
        """The session of this process. One that was forked off would take answers that are meant for its parent."""
        pid, session = self._of_process
        if pid != os.getpid():
            session = _Session(self._connections)
            self._of_process = os.getpid(), session
        return session

    def close(self) -> None:
        """Close the connections that are kept. A later call opens new ones."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        ends: float,
        request_id: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        answer_s: float = ANSWER_S,
    ) -> Given:
        """The answer, when it is a 200. All tries are over when it `ends`, by time.monotonic(). Raises TeaError.

        answer_s  how long to wait for the answer to one try, at most
        """
        unsure: TeaError | None = None
        for tries in range(1, MOST_TRIES + 1):
            try:
                return self._try(method, path, ends, request_id, body, headers, answer_s)._replace(tries=tries)
            except TeaError as error:
                error.tries = tries
                if error.may_have_happened:
                    unsure = error
                wait_s = self._wait_s(tries, error.retry_after_s)
                if _may_repeat(method, error) and tries < MOST_TRIES and _now() + wait_s + LEAST_TRY_S <= ends:
                    self._sleep(wait_s)
                    continue
                if unsure is None or unsure is error:
                    raise
                # Whatever the last try came to: an earlier one may have been carried out, or may yet.
                raise _told_anew(unsure, tries) from error
        raise AssertionError("the last try returns or raises")

    def _wait_s(self, tries: int, retry_after_s: float | None) -> float:
        return (retry_after_s or 0.0) + self._draw() * FIRST_WAIT_S * (1 << (tries - 1))

    def _try(
        self,
        method: str,
        path: str,
        ends: float,
        request_id: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        answer_s: float,
    ) -> Given:
        """The answer to one request. Raises TeaError."""
        left_s = ends - _now()
        if left_s <= 0:
            raise Unavailable("the deadline was over before anything was sent", request_id=request_id)
        given = {"X-Request-ID": request_id, **(headers or {})}
        if body is not None:
            given["Content-Type"] = "application/json"
        asked = self._http.prepare_request(requests.Request(method, self.url + path, data=body, headers=given))
        timeout = Timeout(connect=min(CONNECT_S, left_s), total=min(answer_s, left_s))
        try:
            with self._http.send(asked, stream=True, timeout=timeout, allow_redirects=False) as answer:
                text = _all_of(answer)
        except requests.RequestException as error:
            raise self._no_answer(method, error, request_id) from error
        request_id = answer.headers.get("X-Request-ID", request_id)
        if answer.status_code != 200:
            refused = error_of(method, answer.status_code, answer.headers, text or b"")
            refused.request_id = request_id
            raise refused
        if text is None:
            raise BadAnswer(f"the answer has more than {MOST_BYTES} bytes", 200, request_id)
        return Given(text, answer.headers, request_id, 1)

    def _no_answer(self, method: str, error: requests.RequestException, request_id: str) -> TeaError:
        if _was_not_sent(error):
            return Unavailable(f"{self._name} cannot be reached: {_cause(error)}", request_id=request_id)
        what = "did not answer in time" if isinstance(error, requests.Timeout) else f"broke off: {_cause(error)}"
        if method == "GET":
            return Unavailable(f"{self._name} {what}", request_id=request_id)
        return Unsure(f"{self._name} {what}; it may have been done all the same", request_id=request_id)


class _Session(requests.Session):
    """A pool of connections, and nothing that answers or the environment would change."""

    def __init__(self, connections: int) -> None:
        super().__init__()
        self.trust_env = False  # no proxy, and no password out of ~/.netrc
        self.cookies = _NoCookies()
        self.headers.update({"Accept": "application/json", "Accept-Encoding": "identity"})
        for scheme in ("http://", "https://"):
            self.mount(scheme, DeadlineAdapter(connections))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere. Also where redirects are not followed, requests would read the whole body of one, however long, and
        take its Location apart, which may be anything."""


class _NoCookies(RequestsCookieJar):
    """Keeps none."""

    def set_cookie(self, *cookie: object, **options: object) -> None:
        return None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_port = parts.port != 0
        requests.Request("GET", url).prepare()
    except ValueError:  # no port from 0 to 65535, no IPv6 address in brackets, or what no host is called
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and is_port and not set("?#") & set(url)


def new_request_id() -> str:
    return secrets.token_hex(8)


def _may_repeat(method: str, error: TeaError) -> bool:
    if isinstance(error, Unavailable):
        return error.status in (None, 503, 504)
    return method == "PUT" and isinstance(error, Unsure) and error.status in (None, 504)


def _told_anew(unsure: TeaError, tries: int) -> TeaError:
    """The same error once more: it is raised a second time, with another cause."""
    told = type(unsure)(unsure.detail, unsure.status, unsure.request_id, tries)
    told.retry_after_s = unsure.retry_after_s
    return told


def _all_of(answer: requests.Response) -> bytes | None:
    """The whole body; None, and the rest is not read, when it has more than MOST_BYTES. Raises RequestException."""
    text = bytearray()
    for piece in answer.iter_content(PIECE_BYTES):
        text += piece
        if len(text) > MOST_BYTES:
            return None
    return bytes(text)


def _was_not_sent(error: requests.RequestException) -> bool:
    """Whether there was no connection at all, so that nothing can have been done."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    reason = error.args[0] if error.args else None
    return isinstance(reason, MaxRetryError) and isinstance(reason.reason, NewConnectionError)


def _cause(error: BaseException) -> str:
    """In words, the innermost reason."""
    while True:
        inner = (
            getattr(error, "reason", None)
            or error.__cause__
            or next((each for each in error.args if isinstance(each, BaseException)), None)
        )
        if not isinstance(inner, BaseException):
            break
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _now() -> float:
    return time.monotonic()
