"""One stream of server-sent events to many open pages.

    publish(("state", json))  -->  [ the last 500 messages, each as it travels ]  -->  Page  Page  Page ...

A message is made into bytes once, whoever reads it, and no page has a buffer of its own: each stands somewhere in the
common one. A page that comes back says where it stood (Last-Event-ID), and gets what it has missed; one that has fallen
behind the buffer is cut, and begins anew with a fresh state.

Ids begin with the time in milliseconds, so that one of an earlier life of this process is never taken for one of ours.

Source: the HTML standard, section 9.2, "Server-sent events".
"""

import threading
import time
from collections import deque
from itertools import islice

from emporium import web

MOST_MESSAGES = 500
MOST_BYTES = 16 * 2**20  # of messages that are kept; the last one is kept whatever its size
HEARTBEAT_S = 5.0
RETRY_MS = 1000


class Hub:
    """The messages of late. Safe between threads."""

    def __init__(self, heartbeat_s=HEARTBEAT_S):
        self._heartbeat_s = heartbeat_s
        self._kept = deque()  # (id, bytes), ids without gaps
        self._size = 0
        self._last = int(time.time() * 1000)
        self._changed = threading.Condition()
        self._pages = 0
        self._is_closed = False

    @property
    def pages(self):
        """How many pages are open."""
        return self._pages

    @property
    def is_closed(self):
        return self._is_closed

    def publish(self, *events):
        """Send these to all pages, who are woken once: (its name, JSON without line breaks as bytes), each."""
        if not events:
            return
        with self._changed:
            for event, data in events:
                self._last += 1
                message = _frame(self._last, event, data)
                self._kept.append((self._last, message))
                self._size += len(message)
            while len(self._kept) > 1 and (len(self._kept) > MOST_MESSAGES or self._size > MOST_BYTES):
                self._size -= len(self._kept.popleft()[1])
            self._changed.notify_all()

    def wait_for_pages(self):
        """Whether none was open: returns when one is, or the hub is closed."""
        with self._changed:
            was_none = not self._pages
            self._changed.wait_for(lambda: self._pages or self._is_closed)
            return was_none

    def wait(self, seconds):
        """Returns after so many seconds, at once when the hub is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, seconds)

    def close(self):
        """Let all pages end."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def open(self, seen, fresh_state):
        """A Page, which gets what comes after the id `seen` as far as that is all kept, else a fresh state first.

        seen         the id that the page had seen last; None for none
        fresh_state  () -> STATE as JSON. May block
        """
        with self._changed:
            is_kept = seen is not None and bool(self._kept) and self._kept[0][0] - 1 <= seen <= self._last
            begins_after = seen if is_kept else self._last
        # What is published from here on comes behind it, and is newer.
        begin = f"retry: {RETRY_MS}\n\n".encode()
        if not is_kept:
            begin += _frame(begins_after, "state", fresh_state())
        with self._changed:
            self._pages += 1
            self._changed.notify_all()
        return Page(self, begins_after, begin)

    def leave(self):
        """A page is gone."""
        with self._changed:
            self._pages -= 1

    def after(self, seen):
        """(all messages after the id `seen` as bytes, the id of the last of them), or a heartbeat when none comes.

        Blocks until then. None when the page is to be cut: the hub is closed, or does not keep all of them any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._last > seen, self._heartbeat_s)
            if self._is_closed:
                return None
            if self._last == seen:
                return b": alive\n\n", seen
            first = self._kept[0][0]
            if first > seen + 1:
                return None
            return b"".join(message for _, message in islice(self._kept, seen + 1 - first, None)), self._last


class Page:
    """The bytes of one page's stream, as WSGI wants them: to be iterated, and closed whatever happens."""

    def __init__(self, hub, seen, begin):
        self._hub = hub
        self._seen = seen
        self._begin = begin
        self._is_closed = False
        self.on_close = lambda: None

    def __iter__(self):
        return self

    def __next__(self):
        if self._begin:
            begin, self._begin = self._begin, None
            return begin
        found = self._hub.after(self._seen)
        if found is None:
            raise StopIteration
        text, self._seen = found
        return text

    def close(self):
        if not self._is_closed:
            self._is_closed = True
            self._hub.leave()
            self.on_close()


class Stream(web.Reply):
    """The answer that a Page is."""

    __slots__ = ("page",)

    def __init__(self, page):
        self.page = page
        self.status, self.body = 200, b""
        self.headers = [("Content-Type", "text/event-stream; charset=utf-8"), ("X-Accel-Buffering", "no")]

    def __call__(self, environ, start_response):
        start_response("200 OK", self.headers)
        if environ["REQUEST_METHOD"] != "HEAD":
            return self.page
        self.page.close()
        return []


def _frame(number, event, data):
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, event.encode(), data)
