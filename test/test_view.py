"""The view beside a real ring: what it shows of services that live, hang and die, and what it does to teas."""

import json
import re
import subprocess
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
from harness import CALL_S, MEMORY, eventually, gone, stopped

from emporium import redisbinary
from emporium.cluster import Cluster, guarded_options
from emporium.ports import Ports
from emporium.view.hub import HEARTBEAT_S

KEPT_EVENTS = 4096
SILENT_S = 3 * HEARTBEAT_S  # nothing comes on a stream for so long: it is broken
LOOKS = re.compile(r'^tea_http_requests_total\{.*route="/trace".*\} ([0-9.e+]+)$', re.MULTILINE)
TEA = "earl 'grey' & $(echo tee) “grün”"  # in a shell, a URL and JSON each of these may mean something


class View:
    """A ring of three that survives faults, with a view, and what a page asks of that."""

    def __init__(self, folder, log_of):
        trace = {"trace": KEPT_EVENTS}
        self.cluster = Cluster(
            Ports.find_free(3),
            3,
            2,
            folder,
            log_of,
            redisbinary.find_or_install(),
            queue_options=trace,
            balancer_options=trace,
            shard_options=lambda index: {**guarded_options(folder / f"db{index}"), **trace, "gossip-ids": True},
            view_options={},
        )

    @property
    def url(self):
        return self.cluster.view.url

    def get(self, path):
        given = requests.get(self.url + path, timeout=CALL_S)
        assert given.status_code == 200, given.text
        return given.json()

    def post(self, path, **body):
        given = requests.post(self.url + path, json=body, timeout=CALL_S)
        assert given.status_code == 200, given.text
        return given.json()

    def write(self, tea, rating, clock):
        return self.post("/api/write", tea=tea, rating=rating, clock=clock)

    def first_state(self):
        """That in the HTML of a page."""
        page = requests.get(self.url, timeout=CALL_S).text
        return json.loads(page.partition('id="first-state">')[2].partition("</script>")[0])

    def times_looked(self):
        """How often each service has been asked for its events."""
        ours = (self.cluster.load_balancer, self.cluster.queue, *self.cluster.shards)
        texts = [requests.get(f"{service.url}/metrics", timeout=CALL_S).text for service in ours]
        return [sum(float(count) for count in LOOKS.findall(text)) for text in texts]

    def state_of(self, name):
        return services_of(self.first_state())[name]["state"]


def services_of(state):
    return {each["name"]: each for each in (state["lb"], state["queue"], *state["shards"], *state["redis"])}


@pytest.fixture(scope="module")
def view(run_folder):
    folder = run_folder / "view"
    folder.mkdir()
    with tempfile.TemporaryDirectory(dir=MEMORY) as stored:
        made = View(Path(stored), lambda name: folder / f"{name}.log")
        with made.cluster:
            assert made.cluster.wait_until_ready(20)
            yield made


@contextmanager
def opened(view, seen=None):
    """Inside, a list that fills with (id, event, data) of a page's stream."""
    got, is_over = [], threading.Event()
    threading.Thread(target=_read, args=(view, seen, got, is_over), daemon=True).start()
    try:
        eventually(lambda: got, "the stream has begun")
        before = view.times_looked()
        # What happens before that look is told to nobody: no page was open.
        eventually(lambda: all(now > then for now, then in zip(view.times_looked(), before, strict=True)), "it looks")
        yield got
    finally:
        is_over.set()


def _read(view, seen, got, is_over):
    headers = {} if seen is None else {"Last-Event-ID": str(seen)}
    with (
        suppress(requests.RequestException),  # the view ends first; who waits for something does not get it
        requests.get(f"{view.url}/api/stream", headers=headers, stream=True, timeout=SILENT_S) as answer,
    ):
        fields = {}
        for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
            if is_over.is_set():  # found out with the next line: there is a heartbeat
                return
            if line:
                name, _, text = line.partition(": ")
                fields[name] = text
            elif "data" in fields:
                got.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
                fields = {}


# ---- how the ring is


def test_a_healthy_ring_is_up_and_says_what_it_holds(view):
    view.write("assam", 3, {"c0": 1})

    def all_is_told():
        state = view.get("/api/state")
        services = services_of(state)
        is_up = {each["state"] for each in services.values()} == {"up"}
        is_counted = all(each["requests_per_s"] is not None for each in state["shards"])
        return is_up and is_counted and sum(each["keys"] for each in state["shards"]) > 0 and state

    state = eventually(all_is_told, "all is up, and a key is stored")
    assert state["lb"]["requests"] > 0
    assert [each["name"] for each in state["shards"]] == ["db0", "db1", "db2"]
    assert (state["shards"][2]["successor"], state["shards"][0]["predecessor"]) == ("db0", "db2")
    assert (state["ndb"], state["digest_length"], state["lab"], state["held"]) == (3, 2, False, False)
    assert [each["name"] for each in state["queue"]["channels"]] == ["db0", "db1", "db2"]


def test_what_is_killed_is_down_in_the_very_first_page(view):
    cluster = view.cluster
    with gone(cluster.shards[1]), gone(cluster.redis[2]), gone(cluster.queue), gone(cluster.load_balancer):

        def those_down():
            services = services_of(view.first_state())
            return {name for name, each in services.items() if each["state"] == "down"}

        eventually(lambda: those_down() == {"db1", "r2", "q", "lb"}, "the dead are down")

    eventually(lambda: those_down() == set(), "they are back")


def test_what_hangs_is_slow_and_not_down(view):
    def hangs():
        shard = services_of(view.first_state())["db0"]
        return shard["state"] == "slow" and "did not answer" in shard["note"]  # it may have been slow before, too

    with stopped(view.cluster.shards[0]):
        eventually(hangs, "db0 is slow")
    eventually(lambda: view.state_of("db0") == "up", "db0 is up again")


def test_an_open_page_sees_a_shard_die_and_come_back(view):
    with opened(view) as got:
        assert got[0][1] == "state"
        with gone(view.cluster.shards[1]):
            eventually(lambda: state_in(got, "db1") == "down", "the page sees it die")
        eventually(lambda: state_in(got, "db1") in ("up", "recovering", "slow"), "the page sees it come back")

        numbers = [number for number, _, _ in got]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def state_in(got, name):
    states = [data for _, event, data in got if event == "state"]
    return services_of(states[-1])[name]["state"]


def test_a_page_that_comes_back_goes_on_where_it_was(view):
    with opened(view) as before:
        seen = before[-1][0]
        view.write("darjeeling", 4, {"c0": 1})
        eventually(lambda: any(event == "trace" for _, event, _ in before), "the write is told")

        with opened(view, seen) as after:
            eventually(lambda: any(event == "trace" for _, event, _ in after), "what was missed is told again")

            assert after[0][0] == seen + 1


def test_an_open_page_is_told_what_happens(view):
    with opened(view) as got:
        request = view.write("oolong", 5, {"c0": 7})["headers"]["X-Request-ID"]

        def told():
            events = [each for _, event, data in got if event == "trace" for each in data["events"]]
            return [each["event"] for each in events if each.get("request") == request]

        eventually(lambda: {"received", "sent", "merged", "stored", "answered"} <= set(told()), "the write is told")


# ---- a tea


def test_a_tea_is_shown_on_every_shard(view):
    for rating, clock in ((2, {"c0": 1}), (4, {"c1": 1})):
        view.write("matcha", rating, clock)

    page = view.get("/api/tea/matcha")

    assert [each["shard"] for each in page["replicas"]] == ["db0", "db1", "db2"]
    [primary] = [each for each in page["replicas"] if each["shard"] == page["primary"]]
    assert (primary["rating"], primary["choices"], primary["behind"]) == (3, [2, 4], False)
    assert primary["clock"] == {"c0": 1, "c1": 1}
    assert page["siblings"]["pairs"][0]["relation"] == "concurrent"


def test_a_shard_that_is_away_is_shown_with_its_trouble(view):
    with gone(view.cluster.shards[2]):
        page = view.get("/api/tea/matcha")

    away = page["replicas"][2]
    assert (away["shard"], away["rating"], away["behind"]) == ("db2", None, None)
    assert "db2" in away["trouble"]
    eventually(lambda: view.state_of("db2") == "up", "db2 is up again")


def test_a_preview_sends_nothing_and_comes_true(view):
    view.write("sencha", 1, {"c0": 1})
    incoming = {"tea": "sencha", "rating": 9, "clock": {"c0": 2}}

    shown = view.post("/api/merge", **incoming)
    read = view.post("/api/read", tea="sencha")
    written = view.post("/api/write", **incoming)

    assert read["body"]["choices"] == [1]
    assert shown["outcome"] == written["headers"]["X-Merge"] == "stored"
    assert view.post("/api/read", tea="sencha")["body"] == shown["after"]


def test_teas_are_listed(view):
    view.write("pu erh", 3, {"c0": 1})

    listed = view.get("/api/teas?max=1000")
    few = view.get("/api/teas?max=1")

    assert "pu erh" in [each["tea"] for each in listed["teas"]] or not listed["complete"]
    assert (len(few["teas"]), few["complete"]) == (1, False)


def test_the_curl_line_does_what_the_form_did(view):
    """Each line is pasted into a shell: what is written there is what the form reads, and the other way round."""
    written = view.write(TEA, 3, {"c0": 1})
    assert in_a_shell(written["curl"]) == written["body"] == {"rating": 3}

    read = view.post("/api/read", tea=TEA, consistency="weak")
    strong = view.post("/api/read", tea=TEA)
    assert "consistency=weak" in read["curl"]
    assert in_a_shell(strong["curl"]) == strong["body"] == {"rating": 3, "choices": [3], "clocks": [{"c0": 1}]}

    deleted = view.post("/api/delete", tea=TEA)
    assert deleted["body"] == {"rating": None}
    assert in_a_shell(deleted["curl"])["status"] == 404


def in_a_shell(line):
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=CALL_S, check=True)
    return json.loads(done.stdout)


def test_what_the_balancer_refuses_is_shown_as_it_is(view):
    refused = view.write("oolong", "five", {"c0": 1})

    assert refused["status"] == 422
    assert "rating" in refused["body"]["detail"]
    assert "X-Request-ID" in refused["headers"]


def test_a_balancer_that_is_away_is_an_error(view):
    with gone(view.cluster.load_balancer):
        given = requests.post(f"{view.url}/api/read", json={"tea": "oolong"}, timeout=CALL_S)

    assert given.status_code == 503
    assert given.headers["Content-Type"] == "application/problem+json"


# ---- the way of a write


def test_a_write_is_seen_on_its_way_round_the_ring(view):
    request = view.write("ceylon", 3, {"c0": 1})["headers"]["X-Request-ID"]
    assert view.get("/api/writes")["writes"][0] | {"at": 0} == {
        "request": request,
        "tea": "ceylon",
        "at": 0,
        "method": "PUT",
        "rating": 3,
        "clock": {"c0": 1},
        "status": 200,
        "outcome": "stored",
    }

    def has_come_round():
        for service in view.cluster.shards:  # gossip moves when shards are asked for something
            requests.put(f"{service.url}/rating/other", json={"rating": 1, "clock": {"c0": 1}}, timeout=CALL_S)
        trace = view.get(f"/api/trace/{request}")
        return trace if {"heard", "put", "taken"} <= {each["event"] for each in trace["events"]} else None

    trace = eventually(has_come_round, "the write has been heard by another shard")
    assert trace["lanes"] == ["lb", "db0", "r0", "db1", "r1", "db2", "r2", "q"]
    assert trace["tea"] == "ceylon"
    events = trace["events"]
    assert [each["at"] for each in events] == sorted(each["at"] for each in events)
    led = {(events[each["from"]]["event"], events[each["to"]]["event"]) for each in trace["arrows"]}
    assert {("sent", "arrived"), ("merged", "stored"), ("due", "put"), ("put", "told"), ("put", "taken")} <= led
    assert ("taken", "heard") in led
    assert all(each["from"] < each["to"] for each in trace["arrows"])
    assert ("answered", "answered") in led


def test_nobody_has_events_of_a_request_that_never_was(view):
    assert requests.get(f"{view.url}/api/trace/never-was", timeout=CALL_S).status_code == 404
