"""Thousands of random mutations of good requests, sent raw to each server: what they answer, and what is left of it.

Every answer must be a documented one in its documented form. Afterwards each server is the process that it was, has
hardly grown, has logged no error, and holds what it said that it holds.

--key repeats a run. A mutation that found something is shown whole, to be sent again by `converse`.
"""

import gzip
import json
import secrets
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import pytest
from asking import ask, assert_answers
from harness import Stage, eventually
from rawclient import BadAnswer, Heard, Request, answers_in, converse, memory_mb, served, warm_up

from serverLB import primary_of

NDB = 2
MUTATIONS = 5_000  # for each server
CLIENTS = 24
AT_ONCE_S = 1.0
MOST_GROWN_MB = 30
SHOWN = 3  # of the mutations that failed, each in full


# ---- good requests


CLOSING = (b"Connection", b"close")
LAST_WORD = Request(b"GET", b"/healthz", headers=(CLOSING,))
HEALTH = [(0.5, [Request(b"GET", path)]) for path in (b"/healthz", b"/readyz", b"/status")]
RATED = b'{"rating": 3.5, "clock": {"c0": 5, "c1": 2}}'


def rating_stories(name):
    """[(weight, the requests that a good client makes about one tea, on one connection)]"""
    path = b"/rating/" + name
    put, get, delete = Request(b"PUT", path, RATED), Request(b"GET", path), Request(b"DELETE", path)
    return [
        (10, [put]),
        (4, [put, get, delete]),
        (2, [get]),
        (2, [Request(b"GET", path + b"?consistency=weak")]),
        (2, [delete]),
        (0.5, [Request(b"GET", b"/ratings?page=0")]),  # seldom, since it lists all
        *HEALTH,
    ]


def queue_stories(name):
    """The same about one channel of the queue."""
    path, batches = b"/q/" + name, b"/channel/" + name
    put, get = Request(b"PUT", path, gossip(0, name)), Request(b"GET", path)
    put_all = Request(b"POST", batches + b"/put", b'{"records": [%b, {"n": [1, {"x": null}]}]}' % gossip(1, name))
    take = Request(b"POST", batches + b"/take", b'{"cursor": {"life": "0123abcd", "offset": 41}, "most": 256}')
    return [
        (5, [put]),
        (3, [put, get]),
        (2, [get]),
        (4, [put_all]),
        (4, [put_all, take]),
        (3, [take]),
        (1, [Request(b"PUT", b"/q/db%d" % shard, gossip(shard, name)) for shard in range(NDB)]),
        (0.5, [Request(b"DELETE", b"/clear")]),
        *HEALTH,
    ]


def gossip(primary, name):
    return (
        b'{"primary": "db%d", "key": "gossip-%b", "rating": 2.5, "choices": [2, 3], "clocks": [{"c0": 1}, {"c1": 3}]}'
        % (primary, name)
    )


# ---- changes to a request that leave it one, for our code to judge


METHODS = [*b"GET PUT POST DELETE PATCH HEAD OPTIONS TRACE CONNECT get Put BREW M-SEARCH P@T P\xc3\x9cT".split(), b""]

ODD_PATHS = [
    *b"/ // . .. /.. %2F %2f%2F %00 %0A %0d%0aX:%20y %ff %C3 %ed%a0%80 %f0%9f%8d%b5 % %zz %1 %u1234 + ; # \\ *".split(),
    *b"?consistency=weak ?consistency=wek ?consistency=weak&consistency=weak ?consistency=%ff ? ?& ?=&&=".split(),
    *b"/ratings?page=x /ratings?page=-1 /ratings?page=18446744073709551616 ?page=%31 ?page".split(),
    *b"/rating /rating/ /ratings /q /q/ /channel/x /channel/x/drop /clear /healthz /status/ /readyz?x /static".split(),
    *b"http://tea/rating/x http://[::1 tea:80 \xff\xfe \xc3\xa9 e\xcc\x81 \xe2\x84\xab \xef\xbb\xbf".split(),
    *(b" ", b"\t", b"\0", b"n" * 255, b"n" * 256, b"n" * 9_000, b"%41" * 300),
]

ODD_HEADERS = {
    b"Accept": b"*/*|text/html|application/*|application/json;q=0|text/html, */*;q=0.1|a/b;q=nan|;,;q=1e400|\xff|",
    b"Content-Type": b"application/json;charset=utf-16|APPLICATION/JSON|text/plain|application/json;a*=x''%ff|\xff|",
    b"Content-Encoding": b"gzip|identity|br|\xff|",
    b"Expect": b"100-continue|200-ok|",
    b"Connection": b"keep-alive|close|upgrade|Content-Length|\x80",
    b"Upgrade": b"websocket|h2c|TLS/1.0",
    b"Host": b"|a b|[::1|tea:99999999|\xff|../",
    b"Cookie": b"a=\xff; ;;=|" + b"x" * 5_000,
    b"Authorization": b"Basic !!!|Digest \xff",
    b"Range": b"bytes=0-1|bytes=9-1|x",
    b"If-None-Match": b"*",
    b"X-HTTP-Method-Override": b"DELETE",
    b"Script-Name": b"/rating",
    b"Content_Length": b"1",
    b"Transfer_Encoding": b"chunked",
}

ODD_JSON = [
    *b"0 -0 -1 1.0 1.5 1e3 1e400 -1e400 1e-400 NaN Infinity -Infinity 9007199254740992 1000001 01 +1 .5 0x1".split(),
    *b"18446744073709551616 true null [] {} [[]] [{}] [1,2,3] [null] tru , : ] } \0 \xff".split(),
    *rb'"" "3" "c0" "\ud800" "\udc00x" "\u0000" "\ud83c\udf75" "\x" {"":0} {"c0":1}'.split(),
    *(b'{"CLOCK_LIST_XXX":[{"c0":1}]}', b'"\xc3\xa9"', b'"\xed\xa0\x80"', b'"\x01"', b'"a\nb"', b'"'),
    *(b"9" * 400, b"-" + b"9" * 5_000, b'"%b"' % (b"x" * 10_000)),
    *(b"[" * 100 + b"]" * 100, b"[" * 980 + b"]" * 980, b"[" * 30_000, b'{"rating":' * 3_000 + b"1" + b"}" * 3_000),
    b"{" + b",".join(b'"c%d":1' % number for number in range(65)) + b"}",
]


def odd_method(chance, request):
    return request._replace(method=chance.choice(METHODS))


def odd_path(chance, request):
    path, odd = request.path, chance.choice(ODD_PATHS)
    above = path[: path.rindex(b"/") + 1] if b"/" in path else b""
    return request._replace(path=chance.choice([path + odd, path + odd, above + odd, odd, put_in(chance, path, odd)]))


def odd_header(chance, request):
    name = chance.choice(list(ODD_HEADERS))
    header = name, chance.choice(ODD_HEADERS[name].split(b"|"))
    others = [each for each in request.headers if each[0] != name]
    return request._replace(headers=chance.choice([(*others, header), (*request.headers, header), (header, *others)]))


def few_headers(chance, request):
    return request._replace(headers=tuple(header for header in request.headers if chance.random() < 0.5))


def many_headers(chance, request):
    number = chance.choice([10, 90, 200])
    return request._replace(headers=(*request.headers, *((b"X-%d" % index, b"x" * 50) for index in range(number))))


def odd_framing(chance, request):
    length, chunked = len(request.body or b""), b"Transfer-Encoding: chunked\r\n"
    lies = [length + 1, max(0, length - 1), 0, -1, 2**31, 2**63 - 1, 2**64 - 1, 10**30]
    told = [
        *(b"Content-Length: %d\r\n" % lie for lie in lies),
        b"Content-Length: +%d\r\n" % length,
        b"Content-Length: 0x%x\r\n" % length,
        b"Content-Length: %d, %d\r\n" % (length, length),
        b"Content-Length: %d\r\nContent-Length: %d\r\n" % (length, length),
        b"Content-Length: %d\r\nContent-Length: %d\r\n" % (length, length + 1),
        b"Content-Length: %d\r\n%b" % (length, chunked),
        b"%bContent-Length: %d\r\n" % (chunked, length),
        chunked,
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"",
    ]
    return request._replace(framing=chance.choice(told))


def in_chunks(chance, request):
    """Its body in chunks, which now and then are none."""
    body = request.body or b""
    at = chance.randrange(len(body) + 1)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:at], body[at:]) if piece)
    begins = [b""] * 16 + [b"ffffffffffffffff1\r\n", b"fffffffffffffff\r\n", b"\r\n", b"0x1\r\n"]
    ends = [b"0\r\n\r\n"] * 4 + [b"0;x=y\r\nTrailer: x\r\n\r\n", b"0\r\n", b"", b"zz\r\n", b"-1\r\n"]
    chunks = chance.choice(begins) + chunks + chance.choice(ends)
    return request._replace(body=chunks, framing=b"Transfer-Encoding: chunked\r\n")


def too_long(chance, request):
    return request._replace(body=(request.body or b"{}").ljust(chance.choice([65_537, 70_000])))


def otherwise_encoded(chance, request):
    text = (request.body or b"{}").decode(errors="replace")
    encoded = [text.encode(name, errors="replace") for name in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7")]
    return request._replace(body=chance.choice([*encoded, gzip.compress(text.encode()), chance.randbytes(20)]))


# ---- changes to its JSON


class Object(list):
    """The Members of a JSON object, in a list, so that one may be there twice."""


class Member(list):
    """A name and a value, as long as nothing is done to them."""


class Literal(bytes):
    """JSON as it is to be written, be it ever so odd."""


def odd_json(chance, request):
    """Something in its JSON replaced by something odd, or left out, or there twice."""
    try:
        return request._replace(body=with_something_odd(chance, request.body))
    except (TypeError, ValueError, RecursionError):  # there is no JSON in it, or it is odd already
        return request._replace(body=chance.choice(ODD_JSON))


def with_something_odd(chance, text):
    whole = [json.loads(text, object_pairs_hook=lambda members: Object(map(Member, members)))]
    within, index = chance.choice(list(places(whole)))
    match chance.randrange(6):
        case 0:
            del within[index]
        case 1:
            within.insert(index, within[index])
        case _:
            within[index] = Literal(chance.choice(ODD_JSON))
    return b"".join(map(written, whole))


def places(within):
    """Each place in nested lists, as (the list, the index in it)."""
    for index, item in enumerate(within):
        yield within, index
        if isinstance(item, list):
            yield from places(item)


def written(value):
    match value:
        case Object():
            return b"{%b}" % b",".join(map(written, value))
        case Member():
            return b":".join(map(written, value))
        case list():
            return b"[%b]" % b",".join(map(written, value))
        case Literal():
            return value
        case _:
            return json.dumps(value).encode()


# ---- changes to bytes, whatever they mean


def flip_bits(chance, raw, other):
    changed = bytearray(raw)
    for _ in range(chance.choice([1, 1, 2, 8])):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def drop_bytes(chance, raw, other):
    begin, end = some_part(chance, raw)
    return raw[:begin] + raw[end:]


def double_bytes(chance, raw, other):
    begin, end = some_part(chance, raw)
    return raw[:end] + raw[begin:]


def insert_bytes(chance, raw, other):
    odd = chance.choice([chance.choice(ODD_PATHS), b"\r\n", b"\r\n\r\n", b"\0", b" ", b":", chance.randbytes(5)])
    return put_in(chance, raw, odd)


def truncate(chance, raw, other):
    return raw[: chance.randrange(len(raw) + 1)]


def drop_line(chance, raw, other):
    lines = raw.split(b"\r\n")
    del lines[chance.randrange(len(lines))]
    return b"\r\n".join(lines)


def double_line(chance, raw, other):
    lines = raw.split(b"\r\n")
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))
    return b"\r\n".join(lines)


def other_line_ends(chance, raw, other):
    return raw.replace(b"\r\n", chance.choice([b"\n", b"\r", b"\r\n "]), chance.choice([1, 3, -1]))


def splice(chance, raw, other):
    """The beginning of one and the end of another."""
    return truncate(chance, raw, other) + other[chance.randrange(len(other) + 1) :]


def put_in(chance, text, odd):
    at = chance.randrange(len(text) + 1)
    return text[:at] + odd + text[at:]


def some_part(chance, raw):
    begin = chance.randrange(len(raw) + 1)
    return begin, begin + chance.choice([1, 1, 3, 20, 200])


OF_REQUESTS = [odd_json] * 5 + [odd_path] * 3 + [odd_header] * 2 + [odd_method, odd_framing, in_chunks]
OF_REQUESTS += [few_headers, many_headers, too_long, otherwise_encoded]
OF_BYTES = [
    flip_bits,
    drop_bytes,
    double_bytes,
    insert_bytes,
    truncate,
    drop_line,
    double_line,
    other_line_ends,
    splice,
]


class Mutation(NamedTuple):
    name: str  # of the tea or the channel that the good requests were about
    how: tuple
    said: bytes
    hangs_up: bool  # as soon as all is said


def mutation(chance, stories_of):
    """A few good requests on one connection, changed in one to three ways."""
    name = f"fuzz-{chance.getrandbits(64):016x}"  # a flipped bit does not make it that of another
    story, other = (chosen(chance, stories_of(name.encode())) for _ in range(2))
    leaves_requests = chance.random() < 0.6
    how = chance.choices(OF_REQUESTS if leaves_requests else OF_BYTES, k=chance.choice([1, 1, 1, 2, 3]))
    if leaves_requests:
        index = chance.randrange(len(story))
        for change in how:
            story[index] = change(chance, story[index])
    ends_well = chance.random()  # else the server waits for more, and we for the server
    if ends_well < 0.5:
        story[-1] = story[-1]._replace(headers=(*story[-1].headers, CLOSING))
    elif ends_well < 0.95:
        story.append(LAST_WORD)
    said, other = (b"".join(request.raw() for request in requests) for requests in (story, other))
    if not leaves_requests:
        for change in how:
            said = change(chance, said, other)
    return Mutation(name, tuple(change.__name__ for change in how), said, chance.random() < 0.05)


def chosen(chance, stories):
    weights, requests = zip(*stories, strict=True)
    return list(chance.choices(requests, weights)[0])


# ---- the servers, and what must not happen to them


class Server:
    """One of the servers, as it was when it was warm."""

    def __init__(self, service, log):
        self.name, self.port, self.pid = service.name, service.port, service.process.pid
        self._log = log
        self._warm_mb = memory_mb(self.pid)

    def assert_unharmed(self):
        """It lives, has hardly grown, and its log holds no error but those about gossip that makes no sense."""
        eventually(lambda: self._says_who_it_is_s() < AT_ONCE_S, f"{self.name} answers at once")
        eventually(lambda: memory_mb(self.pid) < self._warm_mb + MOST_GROWN_MB, f"{self.name} has not grown")
        print(f"{self.name}: {self._warm_mb:.1f} MB when warm, {memory_mb(self.pid):.1f} MB now")
        lines = self._log.read_text().splitlines()
        assert not [line for line in lines if "Traceback" in line or (" ERROR " in line and "set aside" not in line)]

    def _says_who_it_is_s(self):
        """How long that took."""
        asked_at = time.monotonic()
        assert_answers(ask(self.port, "GET", "/healthz"), {"service": self.name, "pid": self.pid})
        return time.monotonic() - asked_at


@pytest.fixture(scope="module")
def course(run_folder):
    folder = run_folder / "fuzz"
    folder.mkdir()
    with Stage(folder, NDB) as stage:
        yield stage.begin(digest_length=2)


@pytest.fixture(scope="module")
def servers(course):
    """{name: Server}, all warm."""
    cluster = course.stage.cluster
    for service in (cluster.load_balancer, *cluster.shards):
        warm_up(service.port, Request(b"PUT", b"/rating/warm", RATED))
    warm_up(cluster.queue.port, Request(b"PUT", b"/q/warm", gossip(0, b"warm")))
    services = [cluster.load_balancer, *cluster.shards, cluster.queue]
    return {service.name: Server(service, course.stage.folder / f"{service.name}.log") for service in services}


@pytest.fixture(scope="module")
def kept(course):
    """Teas whose names nobody can guess: (their names, what reads answer, what the Redis of their primaries hold)."""
    names = [f"kept-{secrets.token_hex(8)}" for _ in range(20)]
    for number, name in enumerate(names):
        for node, rating in (("c0", number), ("c1", number + 0.5)):
            body = json.dumps({"rating": rating, "clock": {node: 1}})
            assert served(course.stage.layout.lb, "PUT", f"/rating/{name}", body).status == 200
    return names, *state_of(course, names)


def state_of(course, names):
    texts = [served(course.stage.layout.lb, "GET", f"/rating/{name}").text for name in names]
    hashes = [course.stage.redis(primary_of(name, NDB)).hgetall(f"/rating/{name}") for name in names]
    return texts, hashes


# ---- the tests


def answer_of(status, body, *headers, kind="application/problem+json"):
    lines = [
        f"HTTP/1.1 {status} -",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Server: granian",
        *headers,
    ]
    return "\r\n".join([*lines, "", body]).encode()


PROBLEM = '{"type":"about:blank","title":"Bad","status":%d,"detail":"it is bad"}'


@pytest.mark.parametrize(
    "received",
    [
        b"It works!\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nServer: granian\r\n\r\n{}",
        answer_of(200, "{}", "Content-Length: 2", kind="application/json"),
        answer_of(200, "{}", "Hea der: x", kind="application/json"),
        answer_of(200, '{"rating":NaN}', kind="application/json"),
        answer_of(200, "[]", kind="application/json"),
        answer_of(200, "{}", kind="text/html"),
        answer_of(201, "{}", kind="application/json"),
        answer_of(400, ""),
        answer_of(400, "<html>Bad Request</html>", kind="text/html"),
        answer_of(400, PROBLEM % 400, kind="application/json"),
        answer_of(400, PROBLEM % 404),
        answer_of(400, '{"type":"about:blank","title":"Bad","status":400}'),
        answer_of(405, PROBLEM % 405),
        answer_of(500, PROBLEM % 500),
        answer_of(502, PROBLEM % 502),
        answer_of(503, PROBLEM % 503),
        b"HTTP/1.1 500 -\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 400 -\r\nContent-Length: 4\r\n\r\noops",
    ],
)
def test_an_answer_in_another_form_is_found_out(received):
    answers_in(answer_of(400, PROBLEM % 400) + answer_of(503, PROBLEM % 503, "Retry-After: 1"))

    with pytest.raises(BadAnswer):
        answers_in(received)


@pytest.mark.parametrize(
    ("name", "stories_of"), [("lb", rating_stories), ("db0", rating_stories), ("q", queue_stories)]
)
def test_5000_mutations_of_good_requests_harm_nothing(name, stories_of, servers, course, kept, chance, request):
    server = servers[name]
    mutations = [mutation(chance, stories_of) for _ in range(MUTATIONS)]

    with ThreadPoolExecutor(CLIENTS) as clients:
        heard = list(clients.map(partial(what_is_heard, server.port), mutations))

    failed = [(each, what) for each, what in zip(mutations, heard, strict=True) if not isinstance(what, Heard)]
    failed = failed or done_without_a_word(course, mutations, heard)
    if failed:
        failed.sort(key=lambda each: len(each[0].said))
        shown = "\n\n".join(f"{what}\nafter {' and '.join(each.how)}: {each}" for each, what in failed[:SHOWN])
        seed = request.config.getoption("--key")
        pytest.fail(f"{len(failed)} of {MUTATIONS} mutations, with --key {seed}:\n\n{shown}", pytrace=False)
    assert_worth_their_while(name, heard)
    names, *before = kept
    assert state_of(course, names) == tuple(before)
    assert_serves(server, f"afterwards-{name}")
    for each in servers.values():
        each.assert_unharmed()


def what_is_heard(port, mutation):
    """What the server had to say, or what was wrong with it."""
    try:
        return converse(port, mutation.said, mutation.hangs_up)
    except (BadAnswer, OSError) as error:
        return error


def done_without_a_word(course, mutations, heard):
    """[(mutation, what is wrong)] for each that has changed something, and was told nothing like that."""
    stored = {
        key.removeprefix("/rating/") for index in range(NDB) for key in course.stage.redis(index).keys("/rating/*")
    }
    stored |= set(course.waiting())
    return [
        (each, f"{each.name} is stored, and nobody said so: {what}")
        for each, what in zip(mutations, heard, strict=True)
        if each.name in stored and what.is_all and not any(tells_of_it(answer) for answer in what.answers)
    ]


def tells_of_it(answer):
    """Whether it says that something was stored, or may have been."""
    is_stored = answer.headers.get("x-merge") == "stored" or (answer.status == 200 and b'"length":' in answer.body)
    return is_stored or answer.status == 504


def assert_worth_their_while(name, heard):
    """They are for our code to judge. What the HTTP server refuses for us is of little interest."""
    answers = [answer for what in heard for answer in what.answers]
    statuses = Counter(f"{answer.status}{'' if answer.is_ours else ' by the HTTP server'}" for answer in answers)
    silent = sum(not what.answers for what in heard)
    print(f"{name}: {dict(statuses.most_common())}, and {silent} of {len(heard)} connections without an answer")
    assert sum(answer.is_ours for answer in answers) > MUTATIONS / 2
    assert all(statuses[str(status)] > MUTATIONS / 500 for status in (200, 400, 404, 405, 406, 413, 415, 422)), statuses


def assert_serves(server, name):
    if server.name == "q":
        assert_answers(served(server.port, "PUT", f"/q/{name}", '{"n":1}'), {"channel": name, "length": 1})
        assert_answers(served(server.port, "GET", f"/q/{name}"), {"n": 1})
    else:
        assert_answers(served(server.port, "PUT", f"/rating/{name}", RATED), {"rating": 3.5})
        read = served(server.port, "GET", f"/rating/{name}")
        assert_answers(read, {"rating": 3.5, "choices": [3.5], "clocks": [{"c0": 5, "c1": 2}]})
