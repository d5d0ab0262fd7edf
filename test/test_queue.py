"""The queue and its Python client: order, the cursor of a shard, and what a call says that brought nothing.

Two queues, real processes, serve the whole file: one with its channels in memory, one with them on disk. Every test has
channels of its own, and counts what waits in them. What the death of a queue costs is in test_queue_crash.py.
"""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from itertools import count

import pytest
from asking import CHUNKED, ask, assert_answers, assert_problem, padded
from harness import CALL_S, JSON, gone, start, stopped

from emporium.cluster import accepts_connections, python_service
from emporium.ports import Ports
from emporium.service import stop_these
from queueservice import DEADLINE_S, BadAnswer, NoAnswer, NotReached, Queue, Refused
from vectorclock import VectorClock

MOST_RECORDS = 256


@pytest.fixture(scope="module", params=["in memory", "on disk"])
def service(request, run_folder, tmp_path_factory):
    """The process of the queue."""
    port = Ports.find_free(1).q
    log = run_folder / f"queue-{request.param.replace(' ', '-')}.log"
    settings = {"id": 0, "port": port, "nq": 1, "ndb": 4}
    if request.param == "on disk":
        settings["data-dir"] = str(tmp_path_factory.mktemp("q"))
    made = python_service("q", "serverQ.py", port, lambda name: log, settings)
    try:
        start(made)
        yield made
    finally:
        stop_these([made])


@pytest.fixture(scope="module")
def door(service):
    return Channels(service.port)


@pytest.fixture(scope="module")
def queue(service):
    """A client with patience: what its own deadline does is tested with others."""
    return Queue(service.port, deadline_s=CALL_S)


class Channels:
    """The queue as a client sees it."""

    def __init__(self, port):
        self.port = port
        self.ask = partial(ask, port)

    def put(self, channel, message):
        return self.ask("PUT", f"/q/{channel}", json.dumps(message))

    def get(self, channel):
        answer = self.ask("GET", f"/q/{channel}")
        assert answer.status == 200, answer.text
        return answer.body

    def put_all(self, channel, messages):
        answer = self.ask("POST", f"/channel/{channel}/put", json.dumps({"records": messages}))
        assert answer.status == 200, answer.text
        return answer.body

    def take(self, channel, cursor=None, **most):
        """(records, the cursor behind them)."""
        answer = self.ask("POST", f"/channel/{channel}/take", json.dumps({"cursor": cursor, **most}))
        assert answer.status == 200, answer.text
        return answer.body["records"], answer.body["cursor"]

    def waiting(self, channel):
        return self.ask("GET", "/status").body["channels"].get(channel)

    def clear(self):
        return self.ask("DELETE", "/clear")


fresh_number = count()


@pytest.fixture
def channel():
    """A name that no other test uses."""
    return f"channel-{next(fresh_number)}"


def numbered(*numbers):
    """Messages that can be told apart."""
    return [{"n": number} for number in numbers]


# ---- first in, first out


def test_a_message_is_counted_and_given_out_once(door, channel):
    answer = door.put(channel, {"n": 1})

    assert_answers(answer, {"channel": channel, "length": 1})
    assert_answers(door.ask("GET", f"/q/{channel}"), {"n": 1})
    assert_answers(door.ask("GET", f"/q/{channel}"), {})


def test_the_length_tells_how_many_wait(door, channel):
    lengths = [door.put(channel, {"n": number}).body["length"] for number in range(3)]
    door.get(channel)

    assert lengths == [1, 2, 3]
    assert door.put(channel, {"n": 3}).body["length"] == 3


def test_a_channel_that_nobody_has_written_to_is_empty(door, channel):
    assert_answers(door.ask("GET", f"/q/{channel}"), {})
    assert door.waiting(channel) is None


def test_messages_keep_their_order(door, channel):
    for message in numbered(*range(20)):
        door.put(channel, message)

    assert [door.get(channel) for _ in range(21)] == [*numbered(*range(20)), {}]


def test_messages_that_are_put_between_others_go_to_the_end(door, channel):
    door.put(channel, {"n": 1})
    door.put(channel, {"n": 2})
    first = door.get(channel)
    door.put(channel, {"n": 3})

    assert [first, *(door.get(channel) for _ in range(2))] == numbered(1, 2, 3)


def test_channels_do_not_mix(door, channel):
    door.put(channel, {"n": 1})
    door.put(f"{channel}-another", {"n": 2})

    assert door.get(f"{channel}-another") == {"n": 2}
    assert door.get(channel) == {"n": 1}


@pytest.mark.parametrize(
    "message",
    [
        {"primary": "db0", "key": "white-tea", "rating": 1, "choices": [2, 3], "clocks": [{"c0": 1}, {"c1": 3}]},
        {"clocks": {"CLOCK_LIST_XXX": [{"c0": 1}]}},
        {"": None, "deep": {"er": [[[{"x": True}]]]}},
        {"tea": '茶 ☕ \u0000 " \\', "numbers": [-0.5, 1e300, 2**53, 0]},
    ],
    ids=lambda message: " ".join(message),
)
def test_any_object_comes_back_as_it_went(door, channel, message):
    door.put(channel, message)

    assert door.get(channel) == message


@pytest.mark.parametrize(
    "name",
    [
        "db%200",
        "a%3Fb",
        "%23",
        "100%25",
        "%E8%8C%B6",
        "a+b",
        "..%20",
        "..",
        ".",
        "a/b",
        "a%2Fc",
        "/d",
        "e/",
        "f//g",
        "h%0Ai",
        "%00",
    ],
)
def test_a_channel_may_have_any_name(door, name):
    door.put(name, {"n": name})

    assert door.get("another") == {}
    assert door.get(name) == {"n": name}


def test_many_writers_lose_nothing_and_keep_the_order_of_each(door, channel):
    def write(writer):
        for number in range(40):
            door.put(channel, {"writer": writer, "n": number})

    with ThreadPoolExecutor(8) as at_once:
        list(at_once.map(write, range(8)))

    taken = [door.get(channel) for _ in range(8 * 40)]
    for writer in range(8):
        assert [each["n"] for each in taken if each["writer"] == writer] == list(range(40))
    assert door.get(channel) == {}


def test_many_readers_are_given_each_message_once(door, channel):
    door.put_all(channel, numbered(*range(300)))

    with ThreadPoolExecutor(8) as at_once:
        taken = list(at_once.map(lambda _: door.get(channel)["n"], range(300)))

    assert sorted(taken) == list(range(300))


# ---- what is refused


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON;x=1"]
)
def test_json_with_and_without_parameters_is_taken(door, channel, content_type):
    answer = door.ask("PUT", f"/q/{channel}", '{"n": 1}', {"Content-Type": content_type})

    assert_answers(answer, {"channel": channel, "length": 1})


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "text/json"])
def test_another_type_of_content_is_refused(door, channel, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}

    for method, path in [("PUT", "/q/{}"), ("POST", "/channel/{}/put"), ("POST", "/channel/{}/take")]:
        assert_problem(door.ask(method, path.format(channel), "{}", headers), 415, "application/json")
    assert door.waiting(channel) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"n=1",
        b'{"n":NaN}',
        b'{"n":1} {"n":2}',
        b'{"n":"\xff"}',
        b"{'n':1}",
        b'{"n":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        '{"n":1}'.encode("utf-16"),
        b"[" * 30_000,
    ],
)
def test_what_is_no_json_is_refused_as_such(door, channel, body):
    assert_problem(door.ask("PUT", f"/q/{channel}", body), 400)
    assert door.waiting(channel) is None


@pytest.mark.parametrize("body", ["[]", '[{"n":1}]', "1", '"x"', "null", "true"])
def test_what_is_no_object_is_refused(door, channel, body):
    assert_problem(door.ask("PUT", f"/q/{channel}", body), 422, "object")
    assert door.waiting(channel) is None


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("put", "{}", 422),
        ("put", '{"records": {}}', 422),
        ("put", '{"records": [{"n": 1}, 2]}', 422),
        ("put", '{"records": [{"n": 1}, ]}', 400),
        ("take", "[]", 422),
        ("take", '{"most": 0}', 422),
        ("take", '{"most": 257}', 422),
        ("take", '{"cursor": 3}', 422),
        ("take", '{"cursor": {"life": "x"}}', 422),
        ("take", '{"cursor": {"life": "x", "offset": -1}}', 422),
        ("take", "{", 400),
    ],
)
def test_a_batch_that_makes_no_sense_changes_nothing(door, channel, path, body, status):
    door.put(channel, {"n": 1})

    answer = door.ask("POST", f"/channel/{channel}/{path}", body)

    assert_problem(answer, status)
    assert door.waiting(channel) == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"records": [{"n": 1}, 2]}, 422),
        ({"records": None}, 422),
        ({"to": ""}, 422),
        ({"to": 3}, 422),
        ({"to": "n" * 256}, 400),
        ({"from": "n" * 256}, 400),
        ({"from": ""}, 422),
        ({"cursor": {"life": "x", "offset": -1}}, 422),
        ({"most": -1}, 422),
        ({"most": 257}, 422),
    ],
    ids=str,
)
def test_an_exchange_that_makes_no_sense_changes_nothing(door, channel, change, status):
    door.put(channel, {"n": 1})
    good = {"to": channel, "records": [{"n": 2}], "from": channel, "most": 1}
    (field,) = change

    answer = door.ask("POST", "/exchange", json.dumps({**good, **change}))

    assert_problem(answer, status)
    assert field in answer.body["detail"] or "the body" in answer.body["detail"] or status == 400
    assert door.waiting(channel) == 1


@pytest.mark.parametrize(
    "path",
    ["/", "/q", "/q/", "//q/a", "/rating/assam", "/channel/db0", "/channel/db0/drop", "/channel//put"],
)
def test_an_unknown_path_is_not_found(door, path):
    assert_problem(door.ask("GET", path), 404)


@pytest.mark.parametrize(("name", "words"), [("%ff", "UTF-8"), ("n" * 256, "255 bytes"), ("%C3%A9" * 128, "255 bytes")])
def test_a_name_that_cannot_be_one_is_refused(door, name, words):
    for method, path in [("PUT", f"/q/{name}"), ("GET", f"/q/{name}")]:
        assert_problem(door.ask(method, path, '{"n": 1}'), 400, words)
    for what, body in [("put", '{"records": []}'), ("take", "{}")]:
        assert_problem(door.ask("POST", f"/channel/{name}/{what}", body), 400, words)


@pytest.mark.parametrize("accept", ["text/html", "*/*;q=0"])
def test_whoever_takes_no_json_is_told_so_and_takes_nothing(door, channel, accept):
    door.put(channel, {"n": 1})

    for method in ("GET", "PUT"):
        answer = door.ask(method, f"/q/{channel}", '{"n": 2}', {**JSON, "Accept": accept})
        assert_problem(answer, 406, accept)

    assert door.waiting(channel) == 1


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/q/db0", {"GET", "PUT", "OPTIONS"}),
        ("/clear", {"DELETE", "OPTIONS"}),
        ("/channel/db0/put", {"POST", "OPTIONS"}),
        ("/channel/db0/take", {"POST", "OPTIONS"}),
        ("/healthz", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_options_tells_what_a_path_can_do_and_takes_nothing(door, path, allowed):
    answer = door.ask("OPTIONS", path)

    assert (answer.status, answer.text, answer.headers["Content-Type"]) == (204, "", None)
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/q/db0", {"GET", "PUT"}),
        ("DELETE", "/q/db0", {"GET", "PUT"}),
        ("GET", "/clear", {"DELETE"}),
        ("PUT", "/clear", {"DELETE"}),
        ("GET", "/channel/db0/take", {"POST"}),
        ("PUT", "/channel/db0/put", {"POST"}),
    ],
)
def test_a_method_that_a_path_does_not_know_is_refused_with_those_it_knows(door, method, path, allowed):
    answer = door.ask(method, path)

    assert_problem(answer, 405)
    assert allowed <= set(answer.headers["Allow"].split(", "))


def test_a_head_request_takes_nothing(door, channel):
    door.put(channel, {"n": 1})

    answer = door.ask("HEAD", f"/q/{channel}")

    assert (answer.status, answer.headers["Content-Type"]) == (405, "application/problem+json")
    assert "HEAD" not in answer.headers["Allow"]
    assert door.get(channel) == {"n": 1}


def test_a_message_of_more_than_64_kib_is_refused_whether_or_not_it_tells_its_length(door, channel):
    limit = 64 * 1024

    assert door.ask("PUT", f"/q/{channel}", padded("{}", limit)).status == 200
    assert_problem(door.ask("PUT", f"/q/{channel}", padded("{}", limit + 1)), 413)
    assert_problem(door.ask("PUT", f"/q/{channel}", iter([padded("{}", limit), b" "]), CHUNKED), 413)
    assert door.waiting(channel) == 1


def test_a_message_that_is_cut_short_is_not_put(door, channel):
    head = f"PUT /q/{channel} HTTP/1.1\r\nHost: tea\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n"

    with socket.create_connection(("127.0.0.1", door.port), timeout=5) as connection:
        connection.sendall((head + '{"n":1}').encode())
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read().decode()

    assert answer.startswith("HTTP/1.1 400 ")
    assert door.waiting(channel) is None


def test_a_client_may_say_nothing_about_what_it_accepts(door, channel):
    put = door.ask("PUT", f"/q/{channel}", '{"n":1}', {"Content-Type": "application/json"})
    get = door.ask("GET", f"/q/{channel}", headers={})

    assert (put.status, get.body) == (200, {"n": 1})
    assert_problem(door.ask("GET", "/q", headers={}), 404)


# ---- clear, and health


def test_clear_answers_what_had_waited_and_empties_all(door, channel):
    drained, emptied = f"{channel}-drained", f"{channel}-by-cursor"
    door.put_all(channel, numbered(1, 2, 3))
    door.put(drained, {"n": 1})
    door.get(drained)
    door.put(emptied, {"n": 1})
    _, cursor = door.take(emptied)
    door.take(emptied, cursor)

    first, second = door.clear(), door.clear()

    assert (first.status, first.headers["Content-Type"]) == (200, "application/json")
    assert {name: first.body[name] for name in (channel, drained, emptied)} == {channel: 3, drained: 0, emptied: 0}
    assert second.body == {}  # nothing of them is left, not even the names
    assert door.get(channel) == {}


def test_a_cleared_channel_counts_from_one_again(door, channel):
    door.put_all(channel, numbered(1, 2, 3))
    door.clear()

    assert door.put(channel, {"n": 4}).body["length"] == 1
    assert door.get(channel) == {"n": 4}


def test_the_queue_tells_how_it_is(door, service, channel):
    door.put_all(channel, numbered(1, 2))

    assert_answers(door.ask("GET", "/healthz"), {"service": "q", "pid": service.process.pid})
    assert_answers(door.ask("GET", "/readyz"), {"ready": True, "checks": {"channels": "ok"}})
    status = door.ask("GET", "/status").body
    assert (status["service"], status["pid"], status["channels"][channel]) == ("q", service.process.pid, 2)


# ---- the cursor of a shard


def test_take_removes_nothing_until_the_next_cursor(door, channel):
    door.put_all(channel, numbered(1, 2, 3))

    records, cursor = door.take(channel)

    assert records == numbered(1, 2, 3)
    assert door.waiting(channel) == 3
    assert door.take(channel, cursor)[0] == []
    assert door.waiting(channel) == 0


def test_one_that_died_before_its_next_cursor_is_given_the_same_records_again(door, channel):
    door.put_all(channel, numbered(1, 2, 3, 4))
    _, before = door.take(channel, most=1)
    died_with = door.take(channel, before, most=2)

    again = door.take(channel, before, most=2)

    assert died_with == again
    assert again[0] == numbered(2, 3)
    assert door.take(channel, again[1])[0] == numbered(4)


def test_one_that_has_no_cursor_yet_begins_with_the_oldest(door, channel):
    door.put_all(channel, numbered(1, 2))
    door.take(channel)

    assert door.take(channel)[0] == numbered(1, 2)
    assert door.waiting(channel) == 2


def test_a_cursor_that_comes_twice_removes_nothing_more(door, channel):
    door.put_all(channel, numbered(1, 2))
    _, cursor = door.take(channel)
    door.take(channel, cursor)
    door.put_all(channel, numbered(3, 4))

    records, _ = door.take(channel, cursor)

    assert records == numbered(3, 4)
    assert door.waiting(channel) == 2


def test_a_cursor_that_comes_late_removes_nothing_that_is_newer(door, channel):
    door.put_all(channel, numbered(1, 2, 3))
    _, early = door.take(channel, most=1)
    _, later = door.take(channel, early, most=1)
    door.take(channel, later)

    records, _ = door.take(channel, early)

    assert records == numbered(3)
    assert door.waiting(channel) == 1


def test_at_most_256_records_are_given_at_a_call(door, channel):
    door.put_all(channel, numbered(*range(MOST_RECORDS + 1)))

    first, cursor = door.take(channel)
    second, _ = door.take(channel, cursor)

    assert first == numbered(*range(MOST_RECORDS))
    assert second == numbered(MOST_RECORDS)


def test_a_cursor_ahead_of_all_that_was_ever_put_counts_as_none(door, channel):
    """Nobody gave it out: it was edited by hand, and must not swallow what is yet to come."""
    door.put_all(channel, numbered(1, 2))
    _, cursor = door.take(channel)

    records, right = door.take(channel, {**cursor, "offset": cursor["offset"] + 1})

    assert (records, right) == (numbered(1, 2), cursor)


def test_records_that_come_while_others_are_taken_wait_behind_them(door, channel):
    door.put(channel, {"n": 1})
    _, cursor = door.take(channel)
    door.put(channel, {"n": 2})

    assert door.take(channel, cursor)[0] == numbered(2)


def test_a_channel_without_records_gives_none_and_leaves_the_cursor(door, channel):
    unknown = door.take(channel)
    door.put(channel, {"n": 1})
    _, cursor = door.take(channel)

    assert unknown == ([], None)
    assert door.take(channel, cursor) == ([], cursor)


@pytest.mark.parametrize("how_many", [1, 5])
def test_the_cursor_of_a_cleared_channel_counts_as_none(door, channel, how_many):
    """Its offsets would be those of other records, which nobody has read yet."""
    door.put_all(channel, numbered(1, 2))
    _, cursor = door.take(channel)
    door.clear()
    door.put_all(channel, numbered(*range(3, 3 + how_many)))

    records, new_cursor = door.take(channel, cursor)

    assert records == numbered(*range(3, 3 + how_many))
    assert door.waiting(channel) == how_many
    assert door.take(channel, new_cursor)[0] == []


def test_a_cursor_outlives_a_queue_only_with_its_channels(door, service, channel):
    """On disk it goes on where it stood. In memory it names a channel that is gone, and counts as none."""
    door.put_all(channel, numbered(1, 2, 3))
    _, cursor = door.take(channel, most=2)
    is_durable = door.ask("GET", "/status").body["durable"]
    with gone(service):
        pass
    door.put_all(channel, numbered(4, 5))

    records, _ = door.take(channel, cursor)

    assert records == (numbered(3, 4, 5) if is_durable else numbered(4, 5))


def test_the_cursor_of_another_channel_counts_as_none(door, channel):
    other = f"{channel}-another"
    door.put_all(channel, numbered(1, 2))
    door.put_all(other, numbered(3, 4))
    _, cursor = door.take(other)

    assert door.take(channel, cursor)[0] == numbered(1, 2)
    assert door.waiting(channel) == 2


def test_a_plain_get_goes_on_removing_while_another_takes_with_a_cursor(door, channel):
    door.put_all(channel, numbered(1, 2, 3, 4, 5))
    _, cursor = door.take(channel, most=3)

    got = door.get(channel)
    records, _ = door.take(channel, cursor)

    assert got == {"n": 1}
    assert records == numbered(4, 5)
    assert door.waiting(channel) == 2


def test_a_plain_get_of_more_than_was_taken_does_not_confuse_the_cursor(door, channel):
    door.put_all(channel, numbered(1, 2, 3, 4))
    _, cursor = door.take(channel, most=2)

    got = [door.get(channel) for _ in range(3)]
    records, _ = door.take(channel, cursor)

    assert got == numbered(1, 2, 3)
    assert records == numbered(4)


def test_twenty_thousand_records_are_drained_in_order_and_whole(queue, door, channel):
    """Nothing of it copies what waits behind, so the first record costs as much as the last."""
    sent = [b'{"n":%d}' % number for number in range(20_000)]
    for begin in range(0, len(sent), 2_000):
        queue.put_all(channel, sent[begin : begin + 2_000])

    records, cursor, _ = queue.take(channel, None)
    drained, calls = records, 1
    while records:
        records, cursor, _ = queue.take(channel, cursor)
        drained, calls = drained + records, calls + 1

    assert drained == sent
    assert calls == -(-len(sent) // MOST_RECORDS) + 1  # the last call brings nothing
    assert door.waiting(channel) == 0


# ---- the Python client


def clock(**entries):
    return VectorClock.fromDict(entries)


def test_a_message_comes_back_as_it_went(queue, channel):
    message = {"primary": "db0", "rating": 2.5, "nested": {"a": [1, {"b": None}]}, "clocks": [clock(c0=1), clock(c1=3)]}

    length = queue.put(channel, message)

    assert length == 1
    assert queue.get(channel) == message
    assert queue.get(channel) is None


def test_clocks_travel_plain_under_their_own_name_and_tagged_under_others(queue, door, channel):
    queue.put(channel, {"clocks": [clock(c1=3, c0=1)], "history": [clock(c2=1), clock()]})

    assert door.get(channel) == {
        "clocks": [{"c0": 1, "c1": 3}],
        "history": {"CLOCK_LIST_XXX": [{"c2": 1}, {}]},
    }


@pytest.mark.parametrize("name", ["clocks", "history", "choices"])
@pytest.mark.parametrize("clocks", [[], [{"c0": 1}], [{"c0": 1}, {"c1": 3}]])
def test_tagged_clocks_are_read_under_any_name(queue, door, channel, name, clocks):
    """So does the course's own queue client write them."""
    door.put(channel, {name: {"CLOCK_LIST_XXX": clocks}})

    assert queue.get(channel) == {name: [VectorClock.fromDict(entries) for entries in clocks]}


def test_plain_clocks_are_read_under_their_own_name_only(queue, door, channel):
    door.put(channel, {"clocks": [{"c0": 1}], "history": [{"c0": 1}]})

    assert queue.get(channel) == {"clocks": [clock(c0=1)], "history": [{"c0": 1}]}


def test_lists_of_clocks_come_back_as_clocks_whatever_their_name(queue, channel):
    message = {"clocks": [clock(c0=1)], "history": [clock(c0=0), clock()], "seen": [clock(c1=2)], "choices": [1, 2.5]}

    queue.put(channel, message)

    assert queue.get(channel) == message


@pytest.mark.parametrize("name", ["clocks", "choices", "history"])
def test_an_empty_list_is_a_list_like_any_other(queue, channel, name):
    queue.put(channel, {name: [], "key": "white-tea"})

    assert queue.get(channel) == {name: [], "key": "white-tea"}


def test_the_callers_message_is_left_as_it_was(queue, channel):
    first, second = clock(c0=1), clock(c1=3)
    message = {"clocks": [first, second], "history": [first], "choices": [1, 2], "nested": {"a": []}}
    before = deepcopy(message)

    queue.put(channel, message)

    assert message == before
    assert message["clocks"][0] is first
    assert message["history"][0] is first


@pytest.mark.parametrize(
    "message",
    [
        {"clock": VectorClock()},
        {"clocks": VectorClock()},
        {"clocks": [VectorClock(), {"c0": 1}]},
        {"history": [1, VectorClock()]},
        {"nested": {"clock": VectorClock()}},
        [],
        "text",
        None,
    ],
    ids=repr,
)
def test_a_message_that_could_not_come_back_is_a_type_error_and_is_not_put(queue, door, channel, message):
    with pytest.raises(TypeError):
        queue.put(channel, message)

    assert door.waiting(channel) is None


def test_the_error_about_a_single_clock_says_what_to_do(queue, channel):
    with pytest.raises(TypeError, match=r"clock: .*\[clock\]"):
        queue.put(channel, {"clock": VectorClock()})


def test_clear_answers_what_had_waited(queue, channel):
    queue.put(channel, {"n": 1})
    queue.put(channel, {"n": 2})

    assert queue.clear()[channel] == 2
    assert queue.get(channel) is None


@pytest.mark.parametrize("name", ["db 0", "what?", "100%", "茶"])
def test_a_channel_name_is_quoted(queue, name):
    queue.put(name, {"n": name})
    assert queue.get(name) == {"n": name}

    queue.put_all(name, [b'{"n":1}'])
    assert queue.take(name, None)[0] == [b'{"n":1}']


def test_batches_of_the_client_are_taken_byte_for_byte_and_with_its_cursor(queue, channel):
    records = [b'{"n":1}', b'{ "n" : 2.50 }', '{"tea":"茶"}'.encode()]
    queue.put_all(channel, records[:2])
    queue.put_all(channel, records[2:])

    taken, cursor, left = queue.take(channel, None, most=2)

    assert (taken, left) == (records[:2], 1)
    assert queue.take(channel, None, most=2) == (taken, cursor, 1)
    assert queue.take(channel, cursor) == (records[2:], cursor.back_by(-1), 0)


def test_an_exchange_puts_on_one_channel_and_takes_from_another(queue, channel):
    other = f"{channel}-other"
    queue.put_all(other, [b'{"n":1}', b'{"n":2}', b'{"n":3}'])

    first = queue.exchange(channel, [b'{"m":1}', b'{"m":2}'], other, None, most=2)
    second = queue.exchange(channel, [b'{"m":3}'], other, first.cursor, most=2)

    assert (first.records, first.left) == ([b'{"n":1}', b'{"n":2}'], 1)
    assert (second.records, second.left) == ([b'{"n":3}'], 0)
    assert queue.take(channel, None).records == [b'{"m":1}', b'{"m":2}', b'{"m":3}']


def test_an_exchange_that_asks_for_nothing_says_what_was_taken(queue, channel, door):
    other = f"{channel}-other"
    queue.put_all(other, [b'{"n":1}', b'{"n":2}'])
    taken = queue.take(other, None, most=1)

    assert queue.exchange(channel, [], other, taken.cursor, most=0) == ([], taken.cursor, 1)

    assert door.waiting(other) == 1
    assert door.waiting(channel) is None  # nothing was put, so it did not come into being


def test_no_records_at_all_can_be_put(queue, channel):
    queue.put_all(channel, [])

    assert queue.take(channel, None) == ([], None, 0)


def test_batches_and_single_calls_share_a_channel(queue, channel):
    queue.put(channel, {"n": 1})
    queue.put_all(channel, [b'{"n":2}'])
    queue.put(channel, {"n": 3})

    assert queue.get(channel) == {"n": 1}
    assert queue.take(channel, None)[0] == [b'{"n":2}', b'{"n":3}']


def test_one_client_serves_many_threads(queue, channel):
    with ThreadPoolExecutor(8) as at_once:
        list(at_once.map(lambda number: queue.put(channel, {"n": number}), range(200)))
        taken = list(at_once.map(lambda _: queue.get(channel)["n"], range(200)))

    assert sorted(taken) == list(range(200))


def test_a_plain_queue_is_served_call_by_call(run_folder):
    """It has neither batches nor cursors: each record goes alone, and is gone when it was given."""
    port = Ports.find_free(1).q
    plain = python_service(
        "q", "test/plain/plainQ.py", port, lambda name: run_folder / "plainQ.log", {"port": port}, accepts_connections
    )
    try:
        start(plain)
        queue = Queue(port, deadline_s=CALL_S)
        queue.put_all("db0", [b'{"n":1}', b'{"n":2}'])

        taken = [queue.take("db0", None) for _ in range(3)]

        assert [list(map(json.loads, each.records)) for each in taken] == [numbered(1), numbered(2), []]
        assert [each[1:] for each in taken] == [(None, 1), (None, 1), (None, 0)]

        assert queue.exchange("db0", [b'{"n":3}', b'{"n":4}'], "db0", None, most=0) == ([], None, 0)
        taken = queue.exchange("db1", [b'{"n":5}'], "db0", None, most=64)
        assert (json.loads(*taken.records), taken.left) == ({"n": 3}, 1)
        assert queue.get("db1") == {"n": 5}
    finally:
        stop_these([plain])


# ---- calls that bring nothing


CALLS = {
    "put": lambda queue: queue.put("db0", {"n": 1}),
    "get": lambda queue: queue.get("db0"),
    "clear": lambda queue: queue.clear(),
    "put_all": lambda queue: queue.put_all("db0", [b'{"n":1}']),
    "take": lambda queue: queue.take("db0", None),
    "exchange": lambda queue: queue.exchange("db0", [b'{"n":1}'], "db1", None, 64),
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


def test_where_nobody_listens_nothing_was_done(call):
    with pytest.raises(NotReached, match="refused"):
        call(Queue(Ports.find_free(1).q))


def test_one_that_accepts_and_says_nothing_costs_the_deadline_and_no_more(call):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        queue = Queue(silent.getsockname()[1])
        began = time.monotonic()

        with pytest.raises(NoAnswer, match=f"did not answer within {DEADLINE_S} s"):
            call(queue)

        assert time.monotonic() - began + 0.01 >= DEADLINE_S
        assert_was_asked_once(silent)


def assert_was_asked_once(silent):
    """Nobody waited for it a second time."""
    silent.settimeout(CALL_S)
    silent.accept()[0].close()
    silent.setblocking(False)
    with pytest.raises(BlockingIOError):
        silent.accept()


def test_the_deadline_can_be_chosen():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        queue = Queue(silent.getsockname()[1], deadline_s=2 * DEADLINE_S)
        began = time.monotonic()

        with pytest.raises(NoAnswer):
            queue.get("db0")

        assert time.monotonic() - began + 0.01 >= 2 * DEADLINE_S


@contextmanager
def stranger(reply):
    """The port of a server that gives each connection these bytes, and then hangs up: an HTTP answer should say so,
    or a client may send its next request there just then.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:  # closed, at the end of the test
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_one_that_hangs_up_gives_no_answer(call):
    with stranger(b"") as port, pytest.raises(NoAnswer):
        call(Queue(port))


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 500 Oh\r\nConnection: close\r\nContent-Length: 4\r\n\r\noops",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>",
    ],
    ids=["an error", "a web page"],
)
def test_one_that_is_no_queue_gives_a_bad_answer(reply):
    with stranger(reply) as port:
        for call in (CALLS["put"], CALLS["get"], CALLS["clear"], CALLS["take"]):
            with pytest.raises(BadAnswer):
                call(Queue(port, deadline_s=CALL_S))


@pytest.mark.parametrize("status", [401, 404, 405, 429, 500, 503])
def test_only_what_is_said_of_the_message_counts_as_its_refusal(status):
    """Whoever waits for a queue must not give up its messages because something else is on the port."""
    reply = f"HTTP/1.1 {status} Oh\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()

    with stranger(reply) as port, pytest.raises(BadAnswer) as refused:
        Queue(port, deadline_s=CALL_S).put_all("db0", [b"{}"])

    assert not isinstance(refused.value, Refused)


def test_what_the_queue_refuses_is_told_with_its_reason(queue, channel):
    with pytest.raises(Refused, match=r"413.*65536 bytes"):
        queue.put(channel, {"long": "x" * 70_000})


def test_what_is_refused_for_its_size_costs_no_other_call(queue, channel):
    """The server ends the connection then, and says so: else the next call would go into the dark."""
    for number in range(30):
        with pytest.raises(Refused, match="413"):
            queue.put(channel, {"long": "x" * 70_000})
        assert queue.put(channel, {"n": number}) == number + 1


def test_a_put_that_was_not_answered_may_have_been_done_and_costs_no_other_message(queue, service, channel):
    queue.put(channel, {"n": 1})

    with stopped(service), pytest.raises(NoAnswer):
        Queue(service.port).put(channel, {"n": 2})

    queue.put(channel, {"n": 3})
    left = [message["n"] for message in iter(partial(queue.get, channel), None)]
    assert [number for number in left if number != 2] == [1, 3]


def test_a_queue_that_was_restarted_is_reached_at_once(queue, service, channel):
    queue.put(channel, {"n": 1})

    with gone(service):
        pass

    queue.put(channel, {"n": 2})
    assert {"n": 2} in iter(partial(queue.get, channel), None)


def test_an_answer_that_dribbles_in_costs_the_deadline_and_no_more(dribbling_queue):
    """Each byte comes within the deadline, and the whole does not: who waited for that would have an answer."""
    with pytest.raises(NoAnswer, match=f"did not answer within {DEADLINE_S} s"):
        Queue(dribbling_queue).get("db0")


@pytest.fixture
def dribbling_queue():
    """The port of a queue that sends its answer, which is some 40 bytes long, at ten bytes a second."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=dribble, args=[listener])
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def dribble(listener):
    with listener.accept()[0] as connection:
        connection.recv(1000)
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}":
            try:
                connection.sendall(bytes([byte]))
            except OSError:  # the client has hung up, as it should
                return
            time.sleep(0.1)  # not a wait for anything: slowness is what this peer is for
