"""The store over HTTP, row by row: what load balancer and shard answer, how they refuse, who suffers when one fails.

One small cluster serves the whole file: two shards, and a digest so long that nothing is gossiped but what a test
itself puts on a channel. Where both doors have a row, both are asked: the load balancer, and shard 0 directly. Every
test has teas of its own.
"""

import gzip
import json
import os
import socket
import subprocess
import sys
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count, islice
from urllib.parse import quote

import pytest
from asking import CHUNKED, ask, assert_answers, assert_problem, padded
from harness import CALL_S, JSON, UNRATED, Stage, eventually, gone, stopped, unread_bytes

from emporium.environment import ROOT
from serverLB import primary_of

NDB = 2
BODY_LIMIT_BYTES = 64 * 1024
RATED = '{"rating":3,"clock":{"c0":1}}'


class Door:
    """Where a client may knock: the load balancer, or one shard."""

    def __init__(self, name, port, shard_of):
        self.name = name
        self.port = port
        self.shard_of = shard_of  # (tea) -> index of the shard that serves it here
        self.ask = partial(ask, port)

    def put(self, tea, rating, clock):
        return self.put_text(tea, json.dumps({"rating": rating, "clock": clock}))

    def put_text(self, tea, text, headers=JSON):
        return self.ask("PUT", path_of(tea), text, headers)

    def get(self, tea):
        return self.ask("GET", path_of(tea))

    def delete(self, tea):
        return self.ask("DELETE", path_of(tea))


def path_of(tea):
    return f"/rating/{quote(tea, safe='')}"


def reading(rating, *siblings):
    choices, clocks = zip(*siblings, strict=True)
    return {"rating": rating, "choices": list(choices), "clocks": list(clocks)}


# ---- the cluster, and what is done to its processes


@pytest.fixture(scope="module")
def course(run_folder):
    folder = run_folder / "http"
    folder.mkdir()
    with Stage(folder, NDB) as stage:
        yield stage.begin(digest_length=1000)


@pytest.fixture(scope="module")
def lb(course):
    return Door("lb", course.stage.layout.lb, lambda tea: primary_of(tea, NDB))


@pytest.fixture(scope="module")
def shards(course):
    return [Door(f"db{index}", course.stage.layout.db(index), lambda tea, index=index: index) for index in range(NDB)]


@pytest.fixture(params=["lb", "shard"])
def door(request, lb, shards):
    return lb if request.param == "lb" else shards[0]


fresh_number = count()


@pytest.fixture
def tea():
    """A name that no other test uses."""
    return f"tea-{next(fresh_number)}"


def teas_of(shard):
    """Names without end that no other test uses, whose primary is this shard."""
    return (tea for number in fresh_number if primary_of(tea := f"tea-{number}", NDB) == shard)


@pytest.fixture(params=[stopped, gone], ids=lambda away: away.__name__)
def away(request):
    """away(service): a context in which the service does not answer, in one way or the other."""
    return request.param


def wait_until_ready(door):
    eventually(lambda: door.ask("GET", "/readyz").status == 200, f"{door.name} is ready again")


# ---- writing, reading, deleting


def test_a_first_write_is_stored_and_answers_the_mean(door, tea):
    answer = door.put_text(tea, '{"rating": 3, "clock": {"c0": 5}}')

    assert_answers(answer, {"rating": 3})
    assert answer.headers["X-Merge"] == "stored"
    assert_answers(door.get(tea), reading(3, (3, {"c0": 5})))


def test_a_newer_write_is_stored_in_place_of_the_older(door, tea):
    door.put(tea, 3, {"c0": 1})

    answer = door.put(tea, 4, {"c0": 2})

    assert (answer.body, answer.headers["X-Merge"]) == ({"rating": 4}, "stored")
    assert_answers(door.get(tea), reading(4, (4, {"c0": 2})))


def test_a_concurrent_write_is_stored_beside_the_other_and_answers_their_mean(door, tea):
    door.put(tea, 3, {"c0": 1})

    answer = door.put(tea, 4, {"c1": 1})

    assert (answer.body, answer.headers["X-Merge"]) == ({"rating": 3.5}, "stored")
    assert_answers(door.get(tea), reading(3.5, (3, {"c0": 1}), (4, {"c1": 1})))


def test_a_stale_write_changes_nothing_and_answers_the_mean_that_stands(door, tea):
    door.put(tea, 3, {"c0": 2})

    answer = door.put(tea, 9, {"c0": 1})

    assert_answers(answer, {"rating": 3})
    assert answer.headers["X-Merge"] == "stale"
    assert_answers(door.get(tea), reading(3, (3, {"c0": 2})))


def test_a_write_that_is_repeated_is_the_same(door, tea):
    door.put(tea, 3, {"c0": 1})
    door.put(tea, 4, {"c1": 1})

    answer = door.put(tea, 3, {"c0": 1})

    assert_answers(answer, {"rating": 3.5})
    assert answer.headers["X-Merge"] == "same"
    assert_answers(door.get(tea), reading(3.5, (3, {"c0": 1}), (4, {"c1": 1})))


def test_a_tea_never_rated_reads_0_and_two_empty_lists(door, tea):
    answer = door.get(tea)

    assert_answers(answer, {"rating": 0.0, "choices": [], "clocks": []})
    assert answer.text == '{"rating":0.0,"choices":[],"clocks":[]}'


def test_a_deleted_tea_is_unrated_and_cannot_be_deleted_twice(door, tea):
    door.put(tea, 3, {"c0": 1})

    assert_answers(door.delete(tea), {"rating": None})
    assert_problem(door.delete(tea), 404)
    assert_answers(door.get(tea), UNRATED)


def test_a_tea_never_rated_cannot_be_deleted(door, tea):
    assert_problem(door.delete(tea), 404)


def test_a_deleted_tea_can_be_rated_anew_even_at_an_older_clock(door, tea):
    door.put(tea, 3, {"c0": 5})
    door.delete(tea)

    answer = door.put(tea, 4, {"c0": 1})

    assert (answer.body, answer.headers["X-Merge"]) == ({"rating": 4}, "stored")


def test_a_delete_acts_on_the_primary_alone(lb, shards, tea):
    for shard in shards:
        shard.put(tea, 3, {"c0": 1})
    primary = primary_of(tea, NDB)

    lb.delete(tea)

    assert_answers(shards[primary].get(tea), UNRATED)
    assert_answers(shards[1 - primary].get(tea), reading(3, (3, {"c0": 1})))


def test_a_head_request_is_a_read_without_its_body(door, tea):
    door.put(tea, 3, {"c0": 1})

    answer = door.ask("HEAD", path_of(tea))

    assert (answer.status, answer.headers["Content-Type"], answer.text) == (200, "application/json", "")
    assert int(answer.headers["Content-Length"]) == len(door.get(tea).text)


# ---- equal values are equal bytes


@pytest.mark.parametrize(
    ("rating", "stored"),
    [
        ("3", "3"),
        ("3.0", "3"),
        ("3e0", "3"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("2.50", "2.5"),
        ("-1e6", "-1000000"),
        ("1000000.0", "1000000"),
    ],
)
def test_a_rating_is_answered_in_one_form_however_it_was_written(door, tea, rating, stored):
    answer = door.put_text(tea, f'{{"rating": {rating}, "clock": {{"c0": 1}}}}')

    assert answer.text == f'{{"rating":{stored}}}'
    assert door.get(tea).text == f'{{"rating":{stored},"choices":[{stored}],"clocks":[{{"c0":1}}]}}'


def test_the_entries_of_a_clock_are_answered_sorted_by_id(door, tea):
    door.put_text(tea, '{"clock": {"c9": 1, "B": 0, "c10": 9007199254740991, "a": 2}, "rating": 1}')

    assert door.get(tea).text == '{"rating":1,"choices":[1],"clocks":[{"B":0,"a":2,"c10":9007199254740991,"c9":1}]}'


def test_the_same_siblings_are_the_same_bytes_in_whatever_order_they_were_written(door, tea):
    siblings = [(5, {"c2": 1, "c1": 1}), (-0.0, {"c0": 3}), (2.0, {"c1": 2}), (5.0, {"c1": 1, "c2": 1})]
    for rating, clock in siblings:
        door.put(tea, rating, clock)
    for rating, clock in reversed(siblings):
        door.put(f"{tea}-backwards", rating, dict(reversed(clock.items())))

    assert door.get(tea).text == door.get(f"{tea}-backwards").text
    assert door.get(tea).body["rating"] == 7 / 3


def test_a_mean_that_is_whole_is_answered_as_an_integer(door, tea):
    door.put(tea, 1.5, {"c0": 1})

    answer = door.put(tea, 2.5, {"c1": 1})

    assert answer.text == '{"rating":2}'
    assert door.get(tea).body["choices"] == [1.5, 2.5]


# ---- more siblings than a tea may have


MOST = 100


@pytest.fixture
def crowded(door, tea):
    """A tea with as many siblings as may be."""
    for number in range(MOST):
        answer = door.put(tea, number, {f"c{number}": 1})
        assert answer.headers.get("X-Merge") == "stored", answer
    return tea


def test_a_write_that_would_leave_too_many_siblings_is_refused_with_those_that_stand(course, door, crowded):
    before = door.get(crowded)
    digest = course.status_of(door.shard_of(crowded))["digest"]

    answer = door.put(crowded, 5, {"one-more": 1})

    assert (answer.status, answer.headers["Content-Type"]) == (409, "application/problem+json")
    assert {name: answer.body[name] for name in ("title", "status")} == {"title": "Conflict", "status": 409}
    assert str(MOST) in answer.body["detail"]
    assert {name: answer.body[name] for name in before.body} == before.body
    assert len(before.body["choices"]) == MOST
    assert door.get(crowded).text == before.text
    assert course.status_of(door.shard_of(crowded))["digest"] == digest  # and no one is told


def test_a_crowd_of_siblings_still_takes_what_adds_none(door, crowded):
    assert door.put(crowded, 7, {"c7": 1}).headers["X-Merge"] == "same"
    assert door.put(crowded, 9, {"c9": 0}).headers["X-Merge"] == "stale"
    assert door.put(crowded, 2, {"c3": 2}).headers["X-Merge"] == "stored"
    assert len(door.get(crowded).body["choices"]) == MOST

    assert_answers(
        door.put(crowded, 4, {f"c{number}": 2 for number in range(64)}), {"rating": mean_of(range(64, 100), 4)}
    )
    assert len(door.get(crowded).body["choices"]) == MOST - 64 + 1
    assert door.put(crowded, 5, {"one-more": 1}).status == 200


def mean_of(*parts):
    numbers = [number for part in parts for number in ([part] if isinstance(part, int) else part)]
    return sum(numbers) / len(numbers)


def test_gossip_is_never_refused_and_a_user_can_still_settle_it(course, door, crowded):
    shard = door.shard_of(crowded)
    more = {f"more-{number}": 1 for number in range(40)}
    told = {
        "primary": f"db{(shard - 1) % NDB}",
        "key": crowded,
        "rating": 0,
        "choices": [1] * len(more),
        "clocks": [{name: 1} for name in more],
    }

    ask(course.stage.layout.q, "PUT", f"/q/db{(shard - 1) % NDB}", json.dumps(told))

    eventually(lambda: len(door.get(crowded).body["choices"]) == MOST + len(more), "the shard takes the gossip")
    assert door.put(crowded, 5, {"c0": 2}).status == 409  # still more than 100
    assert door.put(crowded, 7, {"c7": 1}).headers["X-Merge"] == "same"
    for part in ({f"c{number}": 2 for number in range(60)}, {f"c{number}": 2 for number in range(60, 100)} | more):
        settled = door.put(crowded, 3, dict(list(part.items())[:64]))
    assert settled.status == 200


# ---- the name of a tea


NAMES = [
    "earl grey",
    " ",
    "what?",
    "tea #5",
    "100% mate",
    "%2F and %41, written out",
    "c++",
    "a&b=c;d",
    'the "best"',
    "l'or",
    "back\\slash",
    "<b>{[|]}^`",
    "thé vert",
    "茶",
    "☕🍵",
    "crème brûlée + 🫖?",
    "n" * 255,
    "é" * 127,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_may_hold_what_it_will(name, course, lb, shards):
    primary = primary_of(name, NDB)

    lb.put(name, 3, {"c0": 1})
    shards[1 - primary].put(name, 4, {"c0": 1})

    assert_answers(lb.get(name), reading(3, (3, {"c0": 1})))
    assert_answers(shards[primary].get(name), reading(3, (3, {"c0": 1})))
    assert_answers(shards[1 - primary].get(name), reading(4, (4, {"c0": 1})))
    assert course.is_stored(primary, name)
    assert_answers(shards[1 - primary].delete(name), {"rating": None})
    assert_answers(lb.delete(name), {"rating": None})


@pytest.mark.parametrize("name", ["thé vert", "ガーデン", "\N{ANGSTROM SIGN}ngström", "tiếng Việt"])
def test_one_word_is_one_tea_however_its_accents_are_encoded(name, course, door, request):
    name = f"{name}, {request.node.name}"  # a tea of its own for each door
    composed, decomposed = unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)
    assert composed != decomposed

    door.put(decomposed, 3, {"c0": 1})

    for spelling in (name, composed, decomposed):
        assert_answers(door.get(spelling), reading(3, (3, {"c0": 1})))
    assert course.is_stored(door.shard_of(composed), composed)
    assert not course.is_stored(door.shard_of(composed), decomposed)
    assert_answers(door.delete(decomposed), {"rating": None})
    assert_answers(door.get(composed), UNRATED)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/rating/" + "n" * 256, "255 bytes"),
        ("/rating/" + quote("é" * 128), "255 bytes"),
        ("/rating/%ff", "UTF-8"),
        ("/rating/tea%C3", "UTF-8"),
        ("/rating/tea%00", "control"),
        ("/rating/two%0Alines", "control"),
        ("/rating/.", "'.'"),
        ("/rating/%2E%2e", "'..'"),
    ],
)
@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PUT", RATED), ("DELETE", None)])
def test_a_name_that_cannot_be_one_is_refused(door, method, body, path, words):
    assert_problem(door.ask(method, path, body), 400, words)


# ---- ordinary mistakes


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "text/json", "application/json2"],
)
def test_another_type_of_content_is_refused(door, tea, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}

    answer = door.put_text(tea, RATED, headers)

    assert_problem(answer, 415, "application/json")
    assert_answers(door.get(tea), UNRATED)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;x=y"]
)
def test_the_type_of_content_may_have_parameters_and_capitals(door, tea, content_type):
    assert_answers(door.put_text(tea, RATED, {"Content-Type": content_type}), {"rating": 3})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"rating=3",
        b'{"rating":3,"clock":{"c0":1}',
        b'{"rating":3,"clock":{"c0":1}} and more',
        b"{'rating':3,'clock':{'c0':1}}",
        b'{"rating":NaN,"clock":{"c0":1}}',
        b'{"rating":Infinity,"clock":{"c0":1}}',
        b'{"rating":-Infinity,"clock":{"c0":1}}',
        b'{"rating":03,"clock":{"c0":1}}',
        b'{"rating":3,"clock":{"c\xff":1}}',
        b'\xef\xbb\xbf{"rating":3,"clock":{"c0":1}}',
        RATED.encode("utf-16"),
        RATED.encode("utf-16-be"),
        RATED.encode("utf-32"),
        b"[" * 30_000 + b"]" * 30_000,
        b'{"rating":' * 5_000 + b"3" + b"}" * 5_000,
        b'{"clock":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"rating":3,"clock":{"c0":1},"x":' + b'{"y":' * 10_000 + b"3" + b"}" * 10_001,
        b'{"rating":[3,"clock":{"c0":1}}',
        b'{"rating":"\\ud800","clock":{"c0":1}}',
    ],
)
def test_what_is_no_json_is_refused_as_such(door, tea, body):
    answer = door.put_text(tea, body)

    assert_problem(answer, 400)
    assert_answers(door.get(tea), UNRATED)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"clock":{"c0":1}}', "rating"),
        ('{"rating":3}', "clock"),
        ("{}", "rating"),
        ("[]", "array"),
        ("3", "int"),
        ("null", "null"),
        ('{"rating":"3","clock":{"c0":1}}', "rating"),
        ('{"rating":true,"clock":{"c0":1}}', "rating"),
        ('{"rating":null,"clock":{"c0":1}}', "rating"),
        ('{"rating":"NaN","clock":{"c0":1}}', "rating"),
        ('{"rating":1000001,"clock":{"c0":1}}', "rating"),
        ('{"rating":-1000000.5,"clock":{"c0":1}}', "rating"),
        ('{"rating":3,"clock":null}', "clock"),
        ('{"rating":3,"clock":[]}', "clock"),
        ('{"rating":3,"clock":{}}', "clock"),
        ('{"rating":3,"clock":{"c0":-1}}', "clock"),
        ('{"rating":3,"clock":{"c0":1.5}}', "clock"),
        ('{"rating":3,"clock":{"c0":"1"}}', "clock"),
        ('{"rating":3,"clock":{"c0":9007199254740992}}', "clock"),
        ('{"rating":3,"clock":{"":1}}', "clock"),
        ('{"rating":3,"clock":{"c0":true}}', "clock"),
        ('{"rating":3,"clock":{"c0":null}}', "clock"),
        ('{"rating":3,"clock":{"c0":1e400}}', "clock"),
        ('{"rating":3,"clock":{"c/0":1}}', "clock"),
        ('{"rating":3,"clock":{"c0\\n":1}}', "clock"),
        ('{"rating":3,"clock":{"th\\u00e9":1}}', "clock"),
        (json.dumps({"rating": 3, "clock": {"c" * 65: 1}}), "clock"),
        (json.dumps({"rating": 3, "clock": {f"c{n}": 1 for n in range(65)}}), "clock"),
        ('{"rating":{},"clock":{"c0":1}}', "rating"),
        ('{"rating":[3],"clock":{"c0":1}}', "rating"),
        ('{"rating":"","clock":{"c0":1}}', "rating"),
        ('{"rating":' + "9" * 5_000 + ',"clock":{"c0":1}}', "rating"),
        ('{"Rating":3,"clock":{"c0":1}}', "Rating"),
        ('{"rating":3,"clock":{"c0":1},"consistency":"weak"}', "consistency"),
    ],
)
def test_json_that_says_something_else_is_refused_and_the_field_is_named(door, tea, body, field):
    answer = door.put_text(tea, body)

    assert_problem(answer, 422, field)
    assert_answers(door.get(tea), UNRATED)


@pytest.mark.parametrize(
    "body",
    [
        '{"rating":9,"rating":3,"clock":{"c0":1}}',
        '{"clock":{"c1":7},"rating":3,"clock":{"c0":1}}',
        '{"rating":3,"clock":{"c0":7,"c0":1}}',
        '{"rating":3,"clock":{' + '"c0":2,' * 200 + '"c0":1}}',
    ],
)
def test_of_a_field_that_is_given_twice_the_last_counts(door, tea, body):
    assert_answers(door.put_text(tea, body), {"rating": 3})
    assert_answers(door.get(tea), reading(3, (3, {"c0": 1})))


@pytest.mark.parametrize("count", ["2.0", "2e0", "20e-1"])
def test_a_whole_number_may_be_written_with_a_point(door, tea, count):
    """To JSON these are the same number, and some libraries know no other."""
    assert_answers(door.put_text(tea, f'{{"rating":3.0,"clock":{{"c0":{count}}}}}'), {"rating": 3})

    assert door.get(tea).text == '{"rating":3,"choices":[3],"clocks":[{"c0":2}]}'


def test_a_refused_write_leaves_what_stands_as_it_is(door, tea):
    door.put(tea, 3, {"c0": 1})
    before = door.get(tea).text

    door.put_text(tea, '{"rating":"9","clock":{"c0":2}}')

    assert door.get(tea).text == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/rating"),
        ("GET", "/rating/"),
        ("PUT", "/rating/"),
        ("GET", "/rating/two/names"),
        ("GET", "/rating/two%2Fnames"),
        ("GET", "/q/db0"),
        ("POST", "/no/such/path"),
        ("DELETE", "/clear"),
        ("GET", "/static/app.js"),
        ("GET", "/%ff"),
    ],
)
def test_an_unknown_path_is_not_found(door, method, path):
    assert_problem(door.ask(method, path, RATED if method in ("PUT", "POST") else None), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/rating/assam", {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}),
        ("PATCH", "/rating/assam", {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}),
        ("BREW", "/rating/assam", {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}),
        ("TRACE", "/rating/assam", {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}),
        ("CONNECT", "/rating/assam", {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}),
        ("PUT", "/ratings", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/healthz", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/readyz", {"GET", "HEAD", "OPTIONS"}),
        ("PUT", "/status", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_method_that_a_path_does_not_know_is_refused_with_those_it_knows(door, method, path, allowed):
    answer = door.ask(method, path)

    assert_problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "query", ["wek", "", "Weak", "weak,strong", "weak&consistency=weak", "weak&consistency=strong"]
)
def test_a_consistency_that_does_not_exist_is_refused(lb, tea, query):
    assert_problem(lb.ask("GET", f"{path_of(tea)}?consistency={query}"), 400, "consistency")


def test_a_client_may_say_nothing_about_what_it_accepts(door, tea):
    only_the_type = {"Content-Type": "application/json"}

    put = door.ask("PUT", path_of(tea), RATED, only_the_type)
    read, deleted, again = (door.ask(method, path_of(tea), headers={}) for method in ("GET", "DELETE", "DELETE"))

    assert_answers(put, {"rating": 3})
    assert_answers(read, reading(3, (3, {"c0": 1})))
    assert_answers(deleted, {"rating": None})
    assert_problem(again, 404)


def test_an_error_is_never_html_even_for_those_who_ask_for_it(door, tea):
    headers = {"Accept": "text/html, */*;q=0.1", "Content-Type": "text/html"}

    assert_problem(door.ask("PUT", path_of(tea), RATED, headers), 415)
    assert_problem(door.ask("GET", "/nothing/here", headers=headers), 404)
    assert_problem(door.ask("POST", path_of(tea), headers=headers), 405)


# ---- methods and types that a path does not have


OPTIONS_OF = {"/rating/assam": {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}, "/ratings": {"GET", "HEAD", "OPTIONS"}}


@pytest.mark.parametrize("path", OPTIONS_OF)
def test_options_tells_what_a_path_can_do(door, path):
    answer = door.ask("OPTIONS", path)

    assert (answer.status, answer.text, answer.headers["Content-Type"]) == (204, "", None)
    assert set(answer.headers["Allow"].split(", ")) == OPTIONS_OF[path]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "POST"])
@pytest.mark.parametrize(
    "path", ["/", "/rating", "/rating/", "/rating/a/b", "/rating/a%2Fb", "/rating/a%2fb", "/nothing", "//healthz", "*"]
)
def test_another_path_is_not_found_whatever_the_method(door, method, path):
    answer = door.ask(method, path, RATED if method == "PUT" else None)

    assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json")


ANYTHING = [
    None,
    "",
    "*/*",
    "application/*",
    "application/json",
    "text/html, */*;q=0.1",
    "application/json;charset=utf-8",
]
NO_JSON = ["text/html", "application/xml, text/*", "application/json;q=0, */*", "*/*;q=0", "tea"]


@pytest.mark.parametrize("accept", ANYTHING)
def test_whoever_takes_json_gets_it(door, tea, accept):
    headers = {"Content-Type": "application/json"} | ({} if accept is None else {"Accept": accept})

    assert_answers(door.put_text(tea, RATED, headers), {"rating": 3})
    assert_answers(door.ask("GET", path_of(tea), headers=headers), reading(3, (3, {"c0": 1})))


@pytest.mark.parametrize("accept", NO_JSON)
def test_whoever_takes_no_json_is_told_so_and_changes_nothing(door, tea, accept):
    headers = {"Content-Type": "application/json", "Accept": accept}

    for method, path in (("PUT", path_of(tea)), ("GET", path_of(tea)), ("GET", "/healthz")):
        assert_problem(door.ask(method, path, RATED if method == "PUT" else None, headers), 406, accept)

    assert_answers(door.get(tea), UNRATED)


@pytest.mark.parametrize("header", ["Accept", "Content-Type"])
@pytest.mark.parametrize("filling", [" ", "\t", "a/b,", ";a=b", '"'])
def test_a_header_that_would_take_long_to_take_apart_is_refused(door, header, filling):
    """With 30,000 spaces the library needed seconds, in which no thread of the server could run."""
    value = "a/b" + filling * (30_000 // len(filling)) + "x"

    answer = door.ask("PUT", "/rating/assam", RATED, {"Content-Type": "application/json", header: value})

    assert_problem(answer, 431, header, "1000 characters")


def test_headers_of_more_than_64_kb_are_refused_before_our_code(door):
    assert door.ask("GET", "/rating/assam", headers={"X-Long": "x" * 70_000}).status == 431


def test_a_compressed_body_is_refused(door, tea):
    answer = door.put_text(tea, gzip.compress(RATED.encode()), {**JSON, "Content-Encoding": "gzip"})

    assert_problem(answer, 415, "Content-Encoding", "gzip")


# ---- bodies that are too long or too short


def test_a_body_may_have_64_kib(door, tea):
    answers = [
        door.put_text(tea, padded(RATED, BODY_LIMIT_BYTES)),
        door.put_text(tea, iter([padded(RATED, BODY_LIMIT_BYTES)]), CHUNKED),
    ]

    assert [answer.status for answer in answers] == [200, 200]


def test_a_body_of_more_than_64_kib_is_refused_whether_or_not_it_tells_its_length(door, tea):
    answers = [
        door.put_text(tea, padded(RATED, BODY_LIMIT_BYTES + 1)),
        door.put_text(tea, iter([padded(RATED, BODY_LIMIT_BYTES + 1)]), CHUNKED),
        door.put_text(tea, iter([padded(RATED, BODY_LIMIT_BYTES), b" "]), CHUNKED),
    ]

    for answer in answers:
        assert_problem(answer, 413, "65536 bytes")
    assert_answers(door.get(tea), UNRATED)


def test_a_body_without_a_length_is_read_whole(door, tea):
    pieces = [RATED[:9].encode(), RATED[9:20].encode(), RATED[20:].encode()]

    assert_answers(door.put_text(tea, iter(pieces), CHUNKED), {"rating": 3})


def test_a_body_that_is_cut_short_changes_nothing(door, tea):
    """What came is a whole JSON text; that more was announced tells that it may not be what was meant."""
    announced = (
        f"PUT {path_of(tea)} HTTP/1.1\r\nHost: tea\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n"
    )

    with socket.create_connection(("127.0.0.1", door.port), timeout=CALL_S) as connection:
        connection.sendall((announced + RATED).encode())
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read().decode()

    assert answer.startswith("HTTP/1.1 400 ")
    assert "application/problem+json" in answer
    assert f"{len(RATED)} of 60 bytes" in answer
    assert_answers(door.get(tea), UNRATED)


# ---- which shard


# sha256sum of the name, its first 16 digits as a number; this modulo 2, 3, 4 and 8. Written down once and for all:
# whoever changes a number here moves keys of every store that exists.
PRIMARIES = {
    "persimmon": (0, 0, 0, 0),
    "white-tea": (0, 2, 0, 0),
    "keemun": (1, 2, 3, 7),
    "assam": (0, 1, 2, 2),
    "darjeeling": (1, 0, 1, 1),
    "bancha": (0, 1, 2, 6),
    "chai": (1, 0, 3, 3),
    "sencha": (1, 0, 1, 5),
    "matcha": (0, 2, 0, 0),
    "oolong": (1, 2, 3, 3),
    "pu-erh": (1, 1, 1, 1),
    "rooibos": (0, 0, 2, 6),
    "lapsang-souchong": (0, 1, 0, 4),
    "earl grey": (1, 2, 1, 5),
    "thé vert": (0, 2, 2, 6),
    "茶": (1, 2, 3, 7),
    "☕": (0, 1, 2, 6),
    "100% mate": (0, 2, 2, 2),
    "a": (0, 1, 2, 2),
    "c++": (1, 2, 3, 3),
    "what?": (1, 0, 1, 5),
}


@pytest.mark.parametrize("name", PRIMARIES)
def test_a_name_leads_to_the_same_primary_for_ever(name):
    assert tuple(primary_of(name, ndb) for ndb in (2, 3, 4, 8)) == PRIMARIES[name]
    assert primary_of(name, 1) == 0


@pytest.mark.parametrize("ndb", [2, 3, 4, 8])
def test_the_teas_are_spread_evenly(ndb):
    names = [f"tea-{number}" for number in range(10_000)]

    primaries = [primary_of(name, ndb) for name in names]

    fair = len(names) / ndb
    assert set(primaries) == set(range(ndb))
    for shard in range(ndb):
        assert abs(primaries.count(shard) - fair) < 4 * fair**0.5, f"db{shard}"


def test_the_primary_does_not_depend_on_pythons_salted_hash():
    program = f"import serverLB; print([serverLB.primary_of(name, 8) for name in {list(PRIMARIES)!r}])"
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1", "4711")
    }

    assert told == {str([primaries[-1] for primaries in PRIMARIES.values()])}


@pytest.mark.parametrize("name", ["persimmon", "keemun", "thé vert", "茶"])
def test_the_load_balancer_writes_to_the_primary_and_nowhere_else(name, course, lb):
    lb.put(name, 3, {"c0": 1})

    assert course.primary_of(name) == PRIMARIES[name][0]


# ---- weak reads


def test_a_weak_read_asks_any_shard_and_a_strong_one_the_primary(lb, shards, tea):
    for index, shard in enumerate(shards):
        shard.put(tea, index + 1, {"c0": 1})

    weak = {lb.ask("GET", f"{path_of(tea)}?consistency=weak").text for _ in range(100)}
    strong = {lb.ask("GET", f"{path_of(tea)}{query}").text for query in ["", "?consistency=strong"] for _ in range(20)}

    assert weak == {shard.get(tea).text for shard in shards}
    assert strong == {shards[primary_of(tea, NDB)].get(tea).text}


def test_a_weak_read_of_a_tea_never_rated_is_empty(lb, tea):
    assert_answers(lb.ask("GET", f"{path_of(tea)}?consistency=weak"), UNRATED)


# ---- a shard that does not answer


def test_a_primary_that_is_gone_costs_its_own_teas_and_no_others(course, lb):
    mine, lost = next(teas_of(0)), next(teas_of(1))
    lb.put(mine, 3, {"c0": 1})
    lb.put(lost, 4, {"c0": 1})

    with gone(course.stage.cluster.shards[1]):
        refused = [lb.put(lost, 5, {"c0": 2}), lb.get(lost), lb.delete(lost)]
        weak = [lb.ask("GET", f"{path_of(mine)}?consistency=weak") for _ in range(60)]
        served = [lb.put(mine, 5, {"c0": 2}), lb.get(mine), lb.delete(mine)]

    for answer in refused:
        assert_problem(answer, 503, "db1", "refused")
        assert answer.headers["Retry-After"] == "1"
    assert [answer.status for answer in served] == [200, 200, 200]
    assert {answer.status for answer in weak} == {200}
    assert_answers(lb.get(lost), reading(4, (4, {"c0": 1})))


# What a shard may be asked when it hangs: how, what comes of it, and what may stand afterwards instead of 4.
FIRST = {
    "a write": (lambda lb, tea: lb.put(tea, 5, {"c0": 2}), 504, "may have been done", [reading(5, (5, {"c0": 2}))]),
    "a delete": (lambda lb, tea: lb.delete(tea), 504, "may have been done", [UNRATED]),
    "a read": (lambda lb, tea: lb.get(tea), 503, "did not answer", []),
}


@pytest.mark.parametrize("first", FIRST)
def test_a_primary_that_hangs_leaves_a_write_unsure_and_a_read_undone(course, lb, first):
    """504: it may have been done, or may yet, and is safe to repeat. Only the first is sent, and what waits behind it
    is surely not done: 503."""
    mine, hers, others = next(teas_of(0)), next(teas_of(1)), list(islice(teas_of(1), 3))
    how, status, words, after = FIRST[first]
    for name in (mine, hers, *others):
        lb.put(name, 4, {"c0": 1})

    with stopped(course.stage.cluster.shards[1]), ThreadPoolExecutor(4) as at_once:
        asked = [at_once.submit(how, lb, hers)]
        eventually(lambda: unread_bytes(course.stage.cluster.shards[1]), "the first is sent")
        asked += [at_once.submit(how, lb, tea) for tea, (how, *_) in zip(others, FIRST.values(), strict=True)]
        served = [lb.put(mine, 5, {"c0": 2}), lb.get(mine)]
        served_while_they_wait = not any(each.done() for each in asked)
        sent, *waited = (each.result() for each in asked)

    assert [answer.status for answer in served] == [200, 200]
    assert served_while_they_wait
    assert_problem(sent, status, "db1", words)
    for answer in waited:
        assert_problem(answer, 503, "db1")
        assert answer.headers["Retry-After"] == "1"
    wait_until_ready(lb)
    for tea in others:
        assert_answers(lb.get(tea), reading(4, (4, {"c0": 1})))
    assert lb.get(hers).body in [reading(4, (4, {"c0": 1})), *after]
    assert_answers(lb.put(hers, 5, {"c0": 2}), {"rating": 5})


def test_a_shard_that_comes_back_is_served_at_once_over_the_connections_that_its_end_has_broken(course, lb):
    mine = next(teas_of(1))
    lb.put(mine, 3, {"c0": 1})

    with gone(course.stage.cluster.shards[1]):
        pass

    assert_answers(lb.put(mine, 4, {"c0": 2}), {"rating": 4})
    assert_answers(lb.get(mine), reading(4, (4, {"c0": 2})))


def test_a_weak_read_goes_on_to_a_shard_that_answers(course, lb, shards, away):
    """Also right after the shard fell silent: then it waits once, and nobody after it."""
    name = next(teas_of(0))
    lb.put(name, 3, {"c0": 1})
    shards[1].put(name, 4, {"c1": 1})

    with away(course.stage.cluster.shards[1]):
        answers = [lb.ask("GET", f"{path_of(name)}?consistency=weak") for _ in range(40)]

    assert {(answer.status, answer.text) for answer in answers} == {(200, lb.get(name).text)}
    wait_until_ready(lb)


def test_a_weak_read_goes_round_a_shard_without_its_redis(course, lb, away):
    name = next(teas_of(0))

    with away(course.stage.cluster.redis[1]):
        answers = [lb.ask("GET", f"{path_of(name)}?consistency=weak") for _ in range(40)]

    assert {answer.status for answer in answers} == {200}
    wait_until_ready(lb)


def test_a_weak_read_that_no_shard_can_answer_is_refused_within_its_deadline(course, lb):
    with stopped(course.stage.cluster.shards[0]), stopped(course.stage.cluster.shards[1]):
        began = time.monotonic()
        answer = lb.ask("GET", "/rating/assam?consistency=weak")
        took_s = time.monotonic() - began

    assert_problem(answer, 503)
    assert answer.headers["Retry-After"] == "1"
    assert took_s < 4  # 2 s, and as much again for a busy machine
    wait_until_ready(lb)


def test_after_one_timeout_a_shard_that_hangs_is_left_alone(course, lb):
    """The first write waits for it and is unsure; those after it are surely not done, and wait for nobody."""
    first, name = next(teas_of(1)), next(teas_of(1))

    with stopped(course.stage.cluster.shards[1]):
        assert lb.put(first, 3, {"c0": 1}).status == 504
        began = time.monotonic()
        refused = [lb.put(name, 3, {"c0": count + 1}) for count in range(20)] + [lb.get(name), lb.delete(name)]
        took_s = time.monotonic() - began

    for answer in refused:
        assert_problem(answer, 503, "db1", "left alone")
        assert answer.headers["Retry-After"] == "1"
    assert took_s < 10  # for all 22, each of which would wait for 1 s
    wait_until_ready(lb)
    assert_answers(lb.get(name), UNRATED)


# ---- a Redis or a queue that does not answer


def test_without_its_redis_a_shard_answers_503_and_serves_again_when_it_is_back(course, lb, shards, away):
    mine, others = next(teas_of(1)), next(teas_of(0))
    lb.put(mine, 3, {"c0": 1})

    with away(course.stage.cluster.redis[1]):
        refused = [
            ask()
            for door in (lb, shards[1])
            for ask in (partial(door.get, mine), partial(door.put, mine, 9, {"c1": 1}))
        ]
        refused.append(shards[1].ask("GET", "/ratings"))
        listed = lb.ask("GET", "/ratings")
        served = lb.put(others, 4, {"c0": 1})
        alive = shards[1].ask("GET", "/healthz")

    for answer in refused:
        assert_problem(answer, 503, "Redis")
        assert answer.headers["Retry-After"] == "1"
    assert (listed.body["unreachable"], listed.body["complete"]) == (["db1"], False)
    assert (served.status, alive.status) == (200, 200)
    wait_until_ready(shards[1])
    assert_answers(lb.get(mine), reading(3, (3, {"c0": 1})))


def test_a_write_that_was_answered_is_there_after_its_redis_was_killed(course, lb, tea):
    lb.put(tea, 3, {"c0": 1})

    with gone(course.stage.cluster.redis[primary_of(tea, NDB)]):
        pass

    assert_answers(lb.get(tea), reading(3, (3, {"c0": 1})))


def test_without_the_queue_a_shard_serves_as_usual(course, door, tea, away):
    with away(course.stage.cluster.queue):
        answers = [
            door.put(tea, 3, {"c0": 1}),
            door.get(tea),
            door.put(tea, 4, {"c1": 1}),
            door.delete(tea),
            door.ask("GET", "/ratings"),
        ]

    assert [answer.status for answer in answers] == [200] * 5


# ---- health


def test_healthz_tells_which_process_lives(course, lb, shards):
    services = [course.stage.cluster.load_balancer, *course.stage.cluster.shards]

    for door, service in zip([lb, *shards], services, strict=True):
        assert_answers(door.ask("GET", "/healthz"), {"service": door.name, "pid": service.process.pid})


def test_readyz_has_an_entry_for_each_thing_that_is_needed(lb, shards):
    for shard in shards:
        wait_until_ready(shard)

    assert_answers(lb.ask("GET", "/readyz"), {"ready": True, "checks": {"db0": "ok", "db1": "ok"}})
    assert_answers(shards[0].ask("GET", "/readyz"), {"ready": True, "checks": {"redis": "ok", "queue": "ok"}})


@pytest.mark.parametrize("what", ["redis", "queue"])
def test_readyz_names_what_is_away(course, lb, shards, away, what):
    cluster = course.stage.cluster
    other = {"redis": "queue", "queue": "redis"}[what]

    with away(cluster.redis[0] if what == "redis" else cluster.queue):
        at_shard, at_lb, alive = (
            door.ask("GET", path)
            for door, path in zip((shards[0], lb, shards[0]), ("/readyz", "/readyz", "/healthz"), strict=True)
        )

    assert (at_shard.status, at_shard.body["ready"]) == (503, False)
    assert at_shard.body["checks"][other] == "ok"
    assert str(cluster.redis[0].port if what == "redis" else cluster.queue.port) in at_shard.body["checks"][what]
    assert (at_lb.status, at_lb.body["ready"]) == (503, False)
    assert what in at_lb.body["checks"]["db0"]
    assert (at_lb.body["checks"]["db1"] == "ok") == (what == "redis")
    assert alive.status == 200
    wait_until_ready(lb)


def test_the_load_balancers_readyz_names_the_shard_that_is_away(course, lb, away):
    with away(course.stage.cluster.shards[1]):
        answer = lb.ask("GET", "/readyz")

    assert (answer.status, answer.body["ready"]) == (503, False)
    assert answer.body["checks"]["db0"] == "ok"
    assert "db1" in answer.body["checks"]["db1"]
    wait_until_ready(lb)


def test_status_tells_where_a_service_stands(course, lb, shards):
    layout = course.stage.layout
    of_shard = shards[1].ask("GET", "/status").body

    assert of_shard["service"] == "db1"
    assert (of_shard["ndb"], of_shard["digest-length"], of_shard["hears"]) == (NDB, 1000, "db0")
    assert of_shard["keys"] == len(course.stage.redis(1).keys("/rating/*"))
    assert of_shard["digest"] == course.stage.redis(1).llen("digest")
    assert of_shard["due"] == 0
    assert str(layout.redis(1)) in of_shard["redis"]
    of_lb = lb.ask("GET", "/status").body
    assert (of_lb["service"], of_lb["ndb"]) == ("lb", NDB)
    assert [(shard["name"], shard["url"].rpartition(":")[2]) for shard in of_lb["shards"]] == [
        ("db0", str(layout.db(0))),
        ("db1", str(layout.db(1))),
    ]


def test_status_answers_and_tells_of_the_trouble_while_redis_and_queue_are_away(course, shards, tea):
    cluster = course.stage.cluster

    with gone(cluster.queue), gone(cluster.redis[0]):
        status = shards[0].ask("GET", "/status")

    assert status.status == 200
    assert (status.body["keys"], status.body["due"]) == (None, None)
    assert str(cluster.redis[0].port) in status.body["trouble"]


# ---- listing


def test_ratings_lists_the_teas_of_a_shard(shards, tea):
    shards[0].put(tea, 3, {"c0": 1})
    shards[0].put(tea, 4, {"c1": 1})
    shards[1].put(f"{tea}-elsewhere", 4, {"c1": 1})

    listed = {row["tea"]: row for row in shards[0].ask("GET", "/ratings").body["teas"]}

    assert listed[tea] == {"tea": tea, "rating": 3.5, "siblings": 2}
    assert f"{tea}-elsewhere" not in listed


def test_ratings_lists_each_tea_once_as_its_primary_sees_it(lb, shards, tea):
    primary = primary_of(tea, NDB)
    shards[primary].put(tea, 3, {"c0": 2})
    shards[1 - primary].put(tea, 9, {"c0": 1})
    shards[1 - primary].put(f"only a replica holds {tea}", 7, {"c0": 1})

    listed = lb.ask("GET", "/ratings").body

    rows = [row for row in listed["teas"] if tea in row["tea"].split()]
    assert [(row["tea"], row["rating"]) for row in rows] == [(f"only a replica holds {tea}", 7), (tea, 3)]
    assert rows[1] == {"tea": tea, "rating": 3, "siblings": 1, "shard": f"db{primary}"}
    assert listed["complete"] is True
    names = [row["tea"] for row in listed["teas"]]
    assert names == sorted(set(names))


def test_ratings_goes_through_all_pages(course, lb, shards, tea):
    """A shard answers about 500 teas a page; `next` leads on, until it is null."""
    names = {f"{tea}, cup {number}" for number in range(1500)}
    with course.stage.redis(0).pipeline() as pipe:
        for name in names:
            pipe.hset(f"/rating/{name}", mapping={"rating": "3", "choices": "[3]", "clocks": '[{"c0":1}]'})
        pipe.execute()

    found, page, pages = set(), 0, 0
    while page is not None:
        listed = shards[0].ask("GET", f"/ratings?page={page}").body
        found |= {row["tea"] for row in listed["teas"]}
        page, pages = listed["next"], pages + 1
    through_the_lb = {row["tea"] for row in lb.ask("GET", "/ratings").body["teas"]}
    course.stage.redis(0).delete(*(f"/rating/{name}" for name in names))

    assert names <= found
    assert pages > 1
    assert names <= through_the_lb


# ---- a value that was damaged by hand


GOOD = {"rating": "3", "choices": "[3]", "clocks": '[{"c0":1}]'}
DAMAGES = {
    "garbage in choices": {**GOOD, "choices": "three, I think"},
    "choices of another type": {**GOOD, "choices": '["3"]'},
    "no number in rating": {**GOOD, "rating": "NaN"},
    "garbage in clocks": {**GOOD, "clocks": b"\xff\xfe"},
    "more choices than clocks": {**GOOD, "choices": "[3,4]"},
    "a field is missing": {"rating": "3", "choices": "[3]"},
    "a key of another type": "3",
}


@pytest.fixture(params=DAMAGES)
def damaged(request, course, door, tea):
    """A tea that was rated, and whose value in the Redis behind `door` was then damaged."""
    door.put(tea, 3, {"c0": 1})
    with course.stage.redis(door.shard_of(tea)) as by_hand:
        by_hand.delete(f"/rating/{tea}")
        damage = DAMAGES[request.param]
        if isinstance(damage, str):
            by_hand.set(f"/rating/{tea}", damage)
        else:
            by_hand.hset(f"/rating/{tea}", mapping=damage)
    return tea


def test_a_damaged_value_is_a_clear_error_for_that_tea_only(door, damaged):
    neighbour = next(teas_of(door.shard_of(damaged)))

    answers = [door.get(damaged), door.put(damaged, 9, {"c0": 2}), door.get(damaged)]

    for answer in answers:
        assert_problem(answer, 500, "cannot be read", "DELETE")
    assert_answers(door.put(neighbour, 4, {"c0": 1}), {"rating": 4})
    assert_answers(door.get(neighbour), reading(4, (4, {"c0": 1})))
    assert neighbour in {row["tea"] for row in door.ask("GET", "/ratings").body["teas"]}


def test_a_delete_mends_a_damaged_value(door, damaged):
    assert_answers(door.delete(damaged), {"rating": None})

    assert_answers(door.get(damaged), UNRATED)
    assert_answers(door.put(damaged, 4, {"c0": 1}), {"rating": 4})
    assert_answers(door.get(damaged), reading(4, (4, {"c0": 1})))


def test_gossip_mends_a_damaged_value(course, door, damaged):
    teller = (door.shard_of(damaged) - 1) % NDB
    told = {"primary": f"db{teller}", "key": damaged, "rating": 6, "choices": [5, 7], "clocks": [{"c0": 2}, {"c1": 1}]}

    put = ask(course.stage.layout.q, "PUT", f"/q/db{teller}", json.dumps(told))

    assert put.status == 200
    eventually(lambda: door.get(damaged).status == 200, "the shard takes the gossip")
    assert_answers(door.get(damaged), reading(6, (5, {"c0": 2}), (7, {"c1": 1})))


@pytest.mark.parametrize("page", ["-1", "x", "", "1.0", "99999999999999999999999"])
def test_a_page_that_is_none_is_refused(shards, page):
    assert_problem(shards[0].ask("GET", f"/ratings?page={page}"), 400, "page")


@pytest.mark.parametrize("path", ["/rating//x", "/rating/x/", "/rating/x//"])
def test_a_slash_too_many_is_another_path(door, path):
    assert_problem(door.ask("GET", path), 404)
