"""Operations that travel together, through real processes: POST /operations, and a load balancer that gathers.

Two shards serve the whole file, with a digest so long that nothing is gossiped. What is done alone is done at shard 0
and what is done together at shard 1, each time with the same values stored, so that the answers must be the same.
"""

import json
import re
import select
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from urllib.parse import quote

import pytest
import requests
from asking import CHUNKED, ask, assert_answers, assert_problem, padded
from harness import CALL_S, JSON, UNRATED, Stage, eventually, start, stopped
from rawclient import Request, connect, read_answers
from recorder import Recorder, handed_on_to

from emporium import batch
from emporium.cluster import python_service
from emporium.ports import Ports
from emporium.service import stop_these
from emporium.settings import LBSettings
from serverLB import primary_of

NDB = 2
LIMIT_BYTES = 2 * 1024 * 1024
MOST_TOGETHER = 256
MOST_SIBLINGS = 100
HALF = LBSettings().threads // 2

fresh_number = count()


def fresh_tea():
    """A name that no other test uses."""
    return f"tea-{next(fresh_number)}"


def teas_of(shard):
    """Names without end that no other test uses, whose primary is this shard."""
    return (tea for tea in iter(fresh_tea, None) if primary_of(tea, NDB) == shard)


@pytest.fixture
def tea():
    return fresh_tea()


@pytest.fixture(scope="module")
def course(run_folder):
    folder = run_folder / "together"
    folder.mkdir()
    with Stage(folder, NDB) as stage:
        yield stage.begin(digest_length=1000)


@pytest.fixture(scope="module")
def alone_at(course):
    """alone_at(an operation): the answer of shard 0 to it."""

    def ask_alone(operation):
        body = json.dumps(operation["rated"]) if "rated" in operation else None
        return ask(course.stage.layout.db(0), operation["method"], f"/rating/{quote(operation['tea'])}", body)

    return ask_alone


@pytest.fixture(scope="module")
def shard(course):
    return Together(course.stage.layout.db(1))


class Together:
    """Shard 1, which is asked for many operations at a time."""

    def __init__(self, port):
        self.port = port

    def post(self, body, headers=JSON):
        return ask(self.port, "POST", "/operations", body, headers)

    def carry_out(self, *operations):
        """[Outcome, ...] of these operations."""
        answer = self.post(json.dumps({"operations": operations}))
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json"), answer.text
        return batch.decode_outcomes(answer.text)

    def read(self, tea):
        return ask(self.port, "GET", f"/rating/{tea}").body


def put(tea, rating, **clock):
    return {"method": "PUT", "tea": tea, "rated": {"rating": rating, "clock": clock}}


def get(tea):
    return {"method": "GET", "tea": tea}


def delete(tea):
    return {"method": "DELETE", "tea": tea}


def body_of(outcome):
    return json.loads(bytes(outcome.body))


def reading(rating, **clock):
    return {"rating": rating, "choices": [rating], "clocks": [clock]}


# ---- each is answered as it is alone


@pytest.fixture
def stored(course):
    """stored(value of the hash): a tea with this value in both Redis servers."""

    def store(value):
        tea = fresh_tea()
        for index in range(NDB):
            with course.stage.redis(index) as by_hand:
                by_hand.hset(f"/rating/{tea}", mapping=value)
        return tea

    return store


RATED = {"rating": "3", "choices": "[3]", "clocks": '[{"c0":2}]'}
DAMAGED = {"rating": "3", "choices": "three, I think", "clocks": '[{"c0":2}]'}
CROWDED = {
    "rating": "3",
    "choices": json.dumps([3] * MOST_SIBLINGS),
    "clocks": json.dumps([{f"c{number:02}": 1} for number in range(MOST_SIBLINGS)]),
}


def test_each_operation_has_the_status_the_body_and_the_x_merge_that_it_has_alone(alone_at, shard, stored):
    cases = {
        "stored": put(stored(RATED), 4, c0=3),
        "stored beside": put(stored(RATED), 4, c1=1),
        "the first": put(fresh_tea(), -0.0, c0=1),
        "stale": put(stored(RATED), 9, c0=1),
        "same": put(stored(RATED), 3, c0=2),
        "one sibling too many": put(stored(CROWDED), 5, more=1),
        "none too many": put(stored(CROWDED), 5, c00=2),
        "a write on damage": put(stored(DAMAGED), 4, c0=3),
        "a read of damage": get(stored(DAMAGED)),
        "a delete of damage": delete(stored(DAMAGED)),
        "a read": get(stored(RATED)),
        "a read of a crowd": get(stored(CROWDED)),
        "a read of nothing": get(fresh_tea()),
        "a delete": delete(stored(RATED)),
        "a delete of nothing": delete(fresh_tea()),
        "a name": put(f"the\u0301 '100%' \"\\ \u8336, {fresh_tea()}", 4, c0=1),
    }

    together = shard.carry_out(*cases.values())

    for (name, operation), outcome in zip(cases.items(), together, strict=True):
        alone = alone_at(operation)
        assert (outcome.status, bytes(outcome.body).decode()) == (alone.status, alone.text), name
        assert outcome.merge == alone.headers["X-Merge"], name
        assert outcome.content_type == alone.headers["Content-Type"], name
    assert [each.merge for each in together[:5]] == ["stored", "stored", "stored", "stale", "same"]
    assert [each.status for each in together[5:10]] == [409, 200, 500, 500, 200]
    assert [each.status for each in together[10:]] == [200, 200, 200, 200, 404, 200]


def test_what_one_operation_comes_to_costs_the_others_nothing(shard, stored):
    mine = [fresh_tea() for _ in range(3)]

    shard.carry_out(put(mine[0], 1, c0=1), put(stored(CROWDED), 5, more=1), put(mine[1], 2, c0=1), get(stored(DAMAGED)))
    shard.carry_out(put(stored(DAMAGED), 1, c0=3), delete(fresh_tea()), put(mine[2], 3, c0=1))

    assert [shard.read(tea) for tea in mine] == [reading(number, c0=1) for number in (1, 2, 3)]


def test_the_writes_have_their_effect_before_the_reads_wherever_they_stand(shard, tea):
    read, _, again, _ = outcomes = shard.carry_out(get(tea), put(tea, 4, c1=1), get(tea), put(tea, 3, c0=1))

    both = {"rating": 3.5, "choices": [3, 4], "clocks": [{"c0": 1}, {"c1": 1}]}
    assert [body_of(each) for each in (read, again)] == [both, both]
    assert {each.status for each in outcomes} == {200}


def test_of_several_writes_to_one_tea_each_has_its_own_answer(shard, tea):
    outcomes = shard.carry_out(put(tea, 3, c0=1), put(tea, 4, c0=2), put(tea, 5, c0=1), put(tea, 4, c0=2))

    assert [each.merge for each in outcomes] == ["stored", "stored", "stale", "same"]
    assert [body_of(each) for each in outcomes] == [{"rating": rating} for rating in (3, 4, 4, 4)]


def test_a_delete_comes_after_the_writes_and_only_one_of_two_finds_something(shard, tea):
    read, first, _, second = shard.carry_out(get(tea), delete(tea), put(tea, 3, c0=1), delete(tea))

    assert [body_of(first), first.status, second.status] == [{"rating": None}, 200, 404]
    assert body_of(read) == shard.read(tea) == UNRATED


def test_the_writes_are_remembered_for_gossip_in_their_order(course, shard):
    teas = [fresh_tea() for _ in range(20)]

    shard.carry_out(*(put(tea, 3, c0=1) for tea in teas), get(teas[0]), put(teas[0], 9, c0=0))

    with course.stage.redis(1) as by_hand:
        told = [json.loads(record)["key"] for record in by_hand.lrange("digest", 0, -1)]
    assert told[-21:] == [*teas, teas[0]]  # a stale write is remembered, too


def test_one_word_is_one_tea_however_its_accents_are_encoded(shard, tea):
    written, read = shard.carry_out(put(f"the\u0301 {tea}", 3, c0=1), get(f"th\u00e9 {tea}"))

    assert (written.status, body_of(read)) == (200, reading(3, c0=1))


def test_256_operations_are_as_many_as_may_be_and_none_is_as_few(shard):
    teas = [fresh_tea() for _ in range(MOST_TOGETHER)]

    assert {each.merge for each in shard.carry_out(*(put(tea, 3, c0=1) for tea in teas))} == {"stored"}
    assert {bytes(each.body) for each in shard.carry_out(*map(get, teas))} == {
        b'{"rating":3,"choices":[3],"clocks":[{"c0":1}]}'
    }
    assert shard.carry_out() == []


def test_what_was_changed_by_hand_is_in_the_next_read(course, shard, tea):
    shard.carry_out(put(tea, 3, c0=1), get(tea))
    with course.stage.redis(1) as by_hand:
        by_hand.hset(f"/rating/{tea}", mapping={"rating": "5", "choices": "[5]"})

    changed, _ = shard.carry_out(get(tea), get(fresh_tea()))

    assert body_of(changed) == reading(5, c0=1)


# ---- a call that is not as it should be


GOOD_RATED = '{"rating":9,"clock":{"c0":9}}'


def refused_whole(course, shard, bad, headers=JSON):
    """The answer to a body in which `bad` stands behind a write of a tea, which was not carried out."""
    tea = fresh_tea()
    digest = course.status_of(1)["digest"]
    write = f'{{"method":"PUT","tea":"{tea}","rated":{GOOD_RATED}}}'

    answer = shard.post(bad.replace("GOOD", write), headers)

    assert shard.read(tea) == UNRATED
    assert course.status_of(1)["digest"] == digest
    return answer


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ('{"method":"PATCH","tea":"assam"}', ["operations[1].method", "PATCH"]),
        ('{"method":"put","tea":"assam","rated":RATED}', ["operations[1].method"]),
        ('{"method":null,"tea":"assam"}', ["operations[1].method"]),
        ('{"tea":"assam"}', ["operations[1]", "method"]),
        ('{"method":"GET"}', ["operations[1]", "tea"]),
        ('{"method":"GET","tea":3}', ["operations[1].tea"]),
        ('{"method":"GET","tea":""}', ["operations[1].tea"]),
        ('{"method":"GET","tea":"assam","consistency":"weak"}', ["operations[1]", "consistency"]),
        ('{"method":"PUT","tea":"assam"}', ["operations[1]", "rated"]),
        ('{"method":"PUT","tea":"assam","rated":null}', ["operations[1]", "rated"]),
        ('{"method":"GET","tea":"assam","rated":RATED}', ["operations[1]", "rated"]),
        ('{"method":"DELETE","tea":"assam","rated":RATED}', ["operations[1]", "rated"]),
        ('{"method":"PUT","tea":"assam","rated":3}', ["operations[1].rated"]),
        ('{"method":"PUT","tea":"assam","rated":{"rating":"9","clock":{"c0":9}}}', ["operations[1].rated.rating"]),
        ('{"method":"PUT","tea":"assam","rated":{"rating":1000001,"clock":{"c0":9}}}', ["operations[1].rated.rating"]),
        ('{"method":"PUT","tea":"assam","rated":{"rating":9,"clock":{}}}', ["operations[1].rated.clock"]),
        ('{"method":"PUT","tea":"assam","rated":{"rating":9,"clock":{"c0":-1}}}', ["operations[1].rated.clock"]),
        ('{"method":"PUT","tea":"assam","rated":{"rating":9,"clock":{"c/0":1}}}', ["operations[1].rated.clock"]),
        ('{"method":"PUT","tea":"assam","rated":{"rating":9}}', ["operations[1].rated", "clock"]),
        ('{"method":"PUT","tea":"assam","rated":{"rating":9,"clock":{"c0":9},"x":1}}', ["operations[1].rated", "x"]),
        ("null", ["operations[1]"]),
        ('["GET","assam"]', ["operations[1]"]),
    ],
)
def test_an_operation_that_says_something_else_is_refused_with_its_whole_call(course, shard, operation, words):
    answer = refused_whole(course, shard, f'{{"operations":[GOOD,{operation}]}}'.replace("RATED", GOOD_RATED))

    assert_problem(answer, 422, *words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{}", ["operations"]),
        ("[GOOD]", ["object"]),
        ("null", ["object"]),
        ('{"operations":null}', ["operations"]),
        ('{"operations":{"0":GOOD}}', ["operations"]),
        ('{"operations":[GOOD],"more":[]}', ["more"]),
        ('{"operations":[' + "GOOD," * MOST_TOGETHER + "GOOD]}", ["operations", "256"]),
    ],
)
def test_a_call_that_says_something_else_is_refused(course, shard, body, words):
    assert_problem(refused_whole(course, shard, body), 422, *words)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "operations",
        '{"operations":[GOOD',
        '{"operations":[GOOD]} and more',
        '{"operations":[GOOD,{"method":"GET","tea":"\\ud800"}]}',
        '{"operations":' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"operations":[GOOD,{"method":"PUT","tea":"assam","rated":{"rating":NaN,"clock":{"c0":1}}}]}',
    ],
)
def test_what_is_no_json_is_refused_as_such(course, shard, body):
    assert_problem(refused_whole(course, shard, body), 400)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (".", "'.'"),
        ("..", "'..'"),
        ("a/b", "slash"),
        ("/", "slash"),
        ("two\nlines", "control"),
        ("tea\0", "control"),
        ("\x85", "control"),
        ("n" * 256, "255 bytes"),
        ("\u00e9" * 128, "255 bytes"),
        ("e\u0301" * 128, "255 bytes"),
        ("n" * 100_000, "255 bytes"),
        ("\ufffd", "UTF-8"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_a_name_that_cannot_be_one_is_refused_with_its_whole_call(course, shard, method, name, words):
    rated = f',"rated":{GOOD_RATED}' if method == "PUT" else ""
    bad = f'{{"method":"{method}","tea":{json.dumps(name)}{rated}}}'

    answer = refused_whole(course, shard, f'{{"operations":[GOOD,{bad}]}}')

    assert_problem(answer, 400, "tea", words)


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_another_type_of_content_is_refused(course, shard, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}

    assert_problem(refused_whole(course, shard, '{"operations":[GOOD]}', headers), 415, "application/json")


def test_a_body_may_have_2_mib_and_no_more(shard):
    """Whoever says too much is answered before all of it has been heard."""
    text = json.dumps({"operations": [put(fresh_tea(), 3, c0=1)]})
    assert shard.post(padded(text, LIMIT_BYTES)).status == 200
    assert shard.post(iter([padded(text, LIMIT_BYTES)]), CHUNKED).status == 200

    for framing, body in (
        (b"Content-Length: %d\r\n" % (LIMIT_BYTES + 1), b""),
        (
            b"Transfer-Encoding: chunked\r\n",
            b"%x\r\n%b\r\n0\r\n\r\n" % (LIMIT_BYTES + 1, padded(text, LIMIT_BYTES + 1)),
        ),
    ):
        with connect(shard.port) as connection:
            with suppress(ConnectionError):
                connection.sendall(Request(b"POST", b"/operations", body, framing=framing).raw())
            [answer] = read_answers(connection, 1)
        assert (answer.status, answer.headers["content-type"]) == (413, "application/problem+json")
        assert str(LIMIT_BYTES) in answer.json["detail"]


def test_the_largest_operations_there_can_be_travel_together(shard):
    """Whatever each of 256 clients says: 64 entries with long ids, and a name that takes twice its length in JSON."""
    clock = {f"{number:064}": 2**53 - 1 for number in range(64)}
    names = ['"' * 252 + f"{number:03}" for number in range(MOST_TOGETHER)]

    outcomes = shard.carry_out(*(put(name, -999999.0000001, **clock) for name in names))

    assert {each.merge for each in outcomes} == {"stored"}
    assert shard.carry_out(*map(delete, names))[0].status == 200


def test_the_load_balancer_knows_no_such_call(course):
    assert_problem(ask(course.stage.layout.lb, "POST", "/operations", '{"operations":[]}'), 404)


# ---- a load balancer that gathers, with a recorder between it and shard 0


class Door:
    """A load balancer, and the Recorder which is its only shard."""

    def __init__(self, service, recorder):
        self.service = service
        self.calls = recorder.calls
        self.holding = recorder.holding

    def ask_behind_one_on_its_way(self, clients, operations):
        """Clients ask for all of these, of which the first alone is sent. Call it while the recorder holds."""
        first, *others = operations
        clients.ask(first)
        eventually(lambda: self.calls, "the first is sent")
        for operation in others:
            clients.ask(operation)
        eventually(lambda: self.waiting() == 1 + len(others), "the load balancer has taken all requests in")

    def waiting(self):
        """How many requests wait for the shard, to be sent or to be answered."""
        told = requests.get(f"{self.service.url}/metrics", timeout=CALL_S).text
        return float(re.search(r'^tea_shard_requests_waiting\{shard="db0"\} (\S+)$', told, re.MULTILINE)[1])


@contextmanager
def patient_balancer(folder, **settings):
    """Inside, a load balancer that waits for its shards for as long as a test may hold them."""
    port = Ports.find_free(1).lb
    settings = {"port": port, **settings}
    service = python_service("lb", "test/patientLB.py", port, lambda name: folder / f"{name}.log", settings)
    try:
        start(service)
        yield service
    finally:
        stop_these([service])


@pytest.fixture
def door(request, course, tmp_path):
    with Recorder(handed_on_to(course.stage.layout.db(0))) as recorder:
        settings = {"ndb": 1, "db-base-port": recorder.port, **getattr(request, "param", {})}
        with patient_balancer(tmp_path, **settings) as service:
            yield Door(service, recorder)


PROBLEM = {"Content-Type": "application/problem+json"}
SENSELESS = {
    "status 0": (0, PROBLEM, b"{}"),
    "status 99": (99, PROBLEM, b"{}"),
    "status 204": (204, PROBLEM, b""),
    "status 302": (302, {"Location": "/elsewhere"}, b""),
    "status 600": (600, PROBLEM, b"{}"),
    "status 999": (999, PROBLEM, b"{}"),
    "a problem that is none": (200, PROBLEM, b"{}"),
    "a problem without an object": (503, PROBLEM, b"[]"),
    "an error in its own words": (500, {"Content-Type": "text/html"}, b"<h1>Internal Server Error</h1>"),
    "no object": (200, {}, b'"x"'),
    "no JSON": (200, {}, b"what?"),
}


def test_whatever_a_shard_answers_the_load_balancer_lives_and_says_so(course, tmp_path):
    answers = [None]
    with (
        Recorder(lambda *_call: answers[-1]) as recorder,
        patient_balancer(tmp_path, ndb=1, **{"db-base-port": recorder.port}) as service,
    ):
        for what, senseless in SENSELESS.items():
            answers.append(senseless)
            answer = ask(service.port, "GET", "/rating/assam")
            # One that no HTTP client can make sense of counts as no answer at all.
            assert answer.status == 502 or (senseless[0] < 100 and answer.status == 503), what
        odd = {"X-Merge": "st\xe9red", "Retry-After": "soon"}
        answers.append((200, odd, b'{"rating":3,"choices":[3],"clocks":[{"c0":1}]}'))
        answer = ask(service.port, "GET", "/rating/assam")

    assert answer.status == 200
    assert not odd.keys() & answer.headers.keys()
    assert service.process.returncode == 0


class Crowd:
    """Clients with a connection each, who may ask all at the same time; their answers are in the order of asking."""

    def __init__(self, port):
        self._port = port
        self._left = ExitStack()
        self._asked = []

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self._left.close()

    def ask(self, operation):
        body = json.dumps(operation["rated"]).encode() if "rated" in operation else None
        connection = self._left.enter_context(connect(self._port))
        connection.sendall(Request(operation["method"].encode(), f"/rating/{operation['tea']}".encode(), body).raw())
        self._asked.append(connection)

    def is_answered(self):
        """Of each, whether its answer has begun to come."""
        return [bool(select.select([connection], [], [], 0)[0]) for connection in self._asked]

    def answers(self):
        return [read_answers(connection, 1)[0] for connection in self._asked]


def stored_at_0(course, rating):
    """A tea that somebody has put into the Redis of shard 0 by hand."""
    tea = fresh_tea()
    with course.stage.redis(0) as by_hand:
        by_hand.hset(f"/rating/{tea}", mapping={"rating": rating, "choices": f"[{rating}]", "clocks": '[{"c0":1}]'})
    return tea


def number_of_operations(call):
    return len(call.operations) if call.path == "/operations" else 1


def test_what_waits_for_a_shard_goes_together_and_each_client_has_its_own_answer(course, door):
    writes = [put(fresh_tea(), number, c0=1) for number in range(20)]
    reads = [get(stored_at_0(course, number)) for number in range(20)]
    operations = [*writes, *reads, delete(fresh_tea())]

    with Crowd(door.service.port) as clients:
        with door.holding():
            door.ask_behind_one_on_its_way(clients, operations)
        answers = clients.answers()

    assert [(each.status, each.json, each.headers["x-merge"]) for each in answers[:20]] == [
        (200, {"rating": number}, "stored") for number in range(20)
    ]
    assert [(each.status, each.json) for each in answers[20:40]] == [(200, reading(n, c0=1)) for n in range(20)]
    assert answers[40].status == 404
    assert door.calls[0][:2] == ("PUT", f"/rating/{writes[0]['tea']}")
    assert sum(map(number_of_operations, door.calls)) == len(operations)  # each once
    assert max(map(number_of_operations, door.calls)) > 20, [call[:2] for call in door.calls]


def test_one_client_is_served_in_single_calls(door, tea):
    for operation in (put(tea, 3, c0=1), get(tea), delete(tea), get(tea)):
        with Crowd(door.service.port) as clients:
            clients.ask(operation)
            clients.answers()

    assert [call[:2] for call in door.calls] == [
        (method, f"/rating/{tea}") for method in ("PUT", "GET", "DELETE", "GET")
    ]


@pytest.mark.parametrize("door", [{"gather": False}], indirect=True)
def test_without_gathering_each_request_goes_by_itself_and_at_once(door):
    operations = [put(fresh_tea(), number, c0=1) for number in range(8)]

    with Crowd(door.service.port) as clients:
        with door.holding():
            for operation in operations:
                clients.ask(operation)
            eventually(lambda: len(door.calls) == 8, "all are sent")
        answers = clients.answers()

    assert [each.json for each in answers] == [{"rating": number} for number in range(8)]
    assert {call.method for call in door.calls} == {"PUT"}


def test_what_was_changed_by_hand_while_a_read_waited_is_in_it(course, door):
    teas = [stored_at_0(course, 3) for _ in range(10)]

    with Crowd(door.service.port) as clients:
        with door.holding():
            door.ask_behind_one_on_its_way(clients, map(get, teas))
            with course.stage.redis(0) as by_hand:
                for tea in teas:
                    by_hand.hset(f"/rating/{tea}", mapping={"rating": "5", "choices": "[5]"})
        answers = clients.answers()

    assert [each.json for each in answers] == [reading(5, c0=1)] * 10


@pytest.mark.parametrize("kind", ["alone", "together"])
def test_what_was_changed_by_hand_between_two_reads_is_in_the_second(course, door, kind):
    teas = [stored_at_0(course, 3) for _ in range(1 if kind == "alone" else 10)]
    for rating in (4, 5):
        with course.stage.redis(0) as by_hand:
            for tea in teas:
                by_hand.hset(f"/rating/{tea}", mapping={"rating": rating, "choices": f"[{rating}]"})

        door.calls.clear()
        with Crowd(door.service.port) as clients:
            with door.holding():
                door.ask_behind_one_on_its_way(clients, map(get, teas))
            answers = clients.answers()

        assert [each.json for each in answers] == [reading(rating, c0=1)] * len(teas)


# ---- how many may wait for a shard


def test_beside_the_one_that_was_sent_64_may_wait_and_a_shard_holds_at_most_half_of_the_threads(course, tmp_path):
    """Nobody is refused before half of the load balancer's threads wait, and then the other half serves other teas."""
    assert HALF >= 1 + 64
    mine, hers = next(teas_of(0)), next(teas_of(1))
    balancer = patient_balancer(tmp_path, ndb=NDB, **{"db-base-port": course.stage.layout.db(0)})
    with balancer as service, Crowd(service.port) as clients:
        with stopped(course.stage.cluster.shards[1]):
            for _ in range(HALF + 20):
                clients.ask(get(hers))
            eventually(lambda: sum(clients.is_answered()) >= 20, "those beyond are refused")
            of_others = ask(service.port, "GET", f"/rating/{mine}")
            assert sum(clients.is_answered()) == 20
        answers = clients.answers()

    assert_answers(of_others, UNRATED)
    assert [each.status for each in answers].count(200) == HALF
    refused = [each for each in answers if each.status == 503]
    assert len(refused) == 20
    assert {each.headers["retry-after"] for each in refused} == {"1"}
    assert all(f"has {HALF} requests waiting already" in each.json["detail"] for each in refused)
