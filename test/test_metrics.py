"""GET /metrics of every service: what it says is true, has no user's words in it, and comes whatever hangs."""

import re
from collections import defaultdict
from urllib.parse import quote

import pytest
from asking import ask
from guardedring import GuardedRing
from harness import CALL_S, Stage, eventually, gone, stopped
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families as read_text

import serverLB
from emporium import settings, web
from emporium.cluster import python_service, view_settings
from emporium.environment import ROOT
from emporium.ports import Ports
from queueservice import Queue
from serverLB import primary_of

NDB = 2
PECULIAR = "zanzibar-☕-quux"  # no word of ours has a part of it
OPEN = {"Accept": "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"}


@pytest.fixture(scope="module")
def course(run_folder):
    folder = run_folder / "metrics"
    folder.mkdir()
    with Stage(folder, NDB) as stage:
        yield stage.begin(digest_length=2)


@pytest.fixture(scope="module")
def log(course, tmp_path_factory):
    """The log as a service, beside the course's."""
    port = Ports.find_free(1).lb
    folder = tmp_path_factory.mktemp("log")
    service = python_service("log", "serverLog.py", port, course.stage._log_of, {"port": port, "data-dir": str(folder)})
    course.stage.cluster.start_these([service])
    yield port
    service.kill()


@pytest.fixture(scope="module")
def view(course):
    """The port of a view beside the course's."""
    layout = course.stage.layout
    found = {**view_settings(layout, NDB), "port": layout.view}
    service = python_service("view", "serverView.py", layout.view, course.stage._log_of, found)
    course.stage.cluster.start_these([service])
    yield layout.view
    service.kill()


def ports_of(course):
    layout = course.stage.layout
    return {"lb": layout.lb, "q": layout.q, **{f"db{index}": layout.db(index) for index in range(NDB)}}


def scrape(port, headers=()):
    """{sample's name: {its labels, as a frozenset of pairs: its value}}, as the parser of the format reads it."""
    answer = ask(port, "GET", "/metrics", headers=dict(headers))
    assert answer.status == 200, answer.text
    is_open = answer.headers["Content-Type"].startswith("application/openmetrics-text")
    found = defaultdict(dict)
    for family in (read_open_metrics if is_open else read_text)(answer.text):
        assert family.documentation, family.name
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            assert labels not in found[sample.name], f"{sample.name} {labels} is there twice"
            found[sample.name][labels] = sample.value
    return found


def value(found, name, **labels):
    """The sample with exactly these labels; 0 where there is none."""
    return found[name].get(frozenset(labels.items()), 0)


def tea_of(shard):
    return next(name for number in range(100) if primary_of(name := f"tea-{number}", NDB) == shard)


def path_of(tea):
    return f"/rating/{quote(tea, safe='')}"


def quiet(course):
    """Let what is told be heard: a record goes from one of the two shards to the other, and home."""
    ports = [course.stage.layout.db(index) for index in range(NDB)]

    def all_is_heard():
        for port in ports:
            ask(port, "GET", "/rating/assam")
        waiting = course.waiting()
        is_all_told = all(scrape(port)["tea_gossip_due_records"] == {frozenset(): 0} for port in ports)
        return is_all_told and not any(waiting.get(f"db{index}") for index in range(NDB))

    eventually(all_is_heard, "all gossip is heard")


def put_on(course, channel):
    """How many records have ever been put on this channel."""
    found = ask(course.stage.layout.q, "GET", f"/channel/{channel}/info")
    return found.body["next"] if found.status == 200 else 0


# ---- requests


def test_requests_are_counted_by_route_method_and_status(course):
    tea, port = tea_of(0), course.stage.layout.lb
    before = scrape(port)

    course.put_rating(tea, 3, {"c0": 1})
    course.put_rating(tea, 4, {"c0": 2})
    course.strong_read(tea)
    ask(port, "PUT", path_of(tea), "no JSON")
    ask(port, "GET", "/no/such/path")
    ask(port, "BREW", path_of(tea))

    after = scrape(port)
    expected = {
        ("PUT", "/rating/<tea>", "200"): 2,
        ("GET", "/rating/<tea>", "200"): 1,
        ("PUT", "/rating/<tea>", "400"): 1,
        ("GET", "-", "404"): 1,
        ("other", "-", "405"): 1,
    }
    for (method, route, status), count in expected.items():
        labels = {"method": method, "route": route, "status": status}
        name = "tea_http_requests_total"
        assert value(after, name, **labels) - value(before, name, **labels) == count, labels
    of_puts = {"method": "PUT", "route": "/rating/<tea>"}
    took = "tea_http_request_duration_seconds"
    assert value(after, f"{took}_count", **of_puts) - value(before, f"{took}_count", **of_puts) == 3
    assert 0 < value(after, f"{took}_sum", **of_puts) < 3 * CALL_S


def test_what_is_refused_at_the_door_is_counted_too(tmp_path):
    app = web.create_app_for("x", 1, checks=dict, status=dict)

    @app.get("/wait")
    def wait():
        return web.answer(app.test_client().get("/readyz").get_data())  # the one thread that there is, is taken

    assert b"hands full" in app.test_client().get("/wait").data
    _, text = app.metrics.text("")
    assert b'tea_http_requests_total{method="GET",route="-",status="503"} 1.0' in text
    assert b"tea_http_requests_in_flight 0.0" in text


def test_the_metrics_are_told_while_a_service_has_its_hands_full():
    app = web.create_app_for("x", 1, checks=dict, status=dict)

    @app.get("/wait")
    def wait():
        return web.answer(app.test_client().get("/metrics").get_data())

    assert b"tea_http_requests_in_flight 1.0" in app.test_client().get("/wait").data


def test_two_applications_in_one_process_count_each_for_itself():
    one, other = (web.create_app_for(name, 8, checks=dict, status=dict) for name in ("one", "other"))

    one.test_client().get("/healthz")

    assert b'route="/healthz"' in one.metrics.text("")[1]
    assert b'route="/healthz"' not in other.metrics.text("")[1]


# ---- the format


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/plain", "text/plain; version=0.0.4"),
        ("text/plain;version=nonsense", "text/plain; version=0.0.4"),
        ("image/png", "text/plain; version=0.0.4"),
        (OPEN["Accept"], "application/openmetrics-text; version="),
        ("application/openmetrics-text;version=nonsense", "application/openmetrics-text; version="),
    ],
)
def test_whatever_a_scraper_accepts_it_gets_a_format_of_prometheus(course, log, accept, content_type):
    for port in (*ports_of(course).values(), log):
        answer = ask(port, "GET", "/metrics", headers={"Accept": accept} if accept else {})

        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith(content_type)
        assert scrape(port, {"Accept": accept} if accept else {})["process_cpu_seconds_total"]


def test_every_service_tells_what_it_is_and_how_much_it_takes(course, log, view):
    for name, port in {**ports_of(course), "log": log, "view": view}.items():
        found = scrape(port, OPEN)

        assert value(found, "tea_service_info", service=name) == 1
        assert value(found, "process_resident_memory_bytes") > 1e6
        assert value(found, "process_start_time_seconds") > 1e9


def test_each_name_is_in_the_documents_and_each_of_those_is_told(course, log, view):
    documented = set(re.findall(r"`((?:tea|process)_\w+)`", (ROOT / "docs" / "operating.md").read_text()))
    guarded = {f"tea_{name}" for name in ("recovering", "fenced", "epoch", "repaired_values_total")}
    guarded.add("tea_gossip_dropped_records_total")

    told = set()
    for port in (*ports_of(course).values(), log, view):
        told |= {re.sub("_(bucket|count|sum)$", "", name) for name in scrape(port)}

    assert told == documented - guarded


def test_names_end_in_their_units_and_begin_with_tea(course, log):
    for port in (*ports_of(course).values(), log):
        for family in read_open_metrics(ask(port, "GET", "/metrics", headers=OPEN).text):
            assert family.name.startswith(("tea_", "process_")), family.name
            assert not family.name.endswith(("_ms", "_us", "_kb")), family.name


# ---- no user's words


def test_no_label_has_a_word_of_a_user(course, log, view):
    stage = course.stage
    doors = [stage.layout.lb, *(stage.layout.db(index) for index in range(NDB))]
    for port in doors:
        for count in range(3):  # a digest is full, and its records travel
            ask(port, "PUT", path_of(PECULIAR), f'{{"rating":3,"clock":{{"{quote("zanzibar")}{count}":1}}}}')
        ask(port, "GET", path_of(PECULIAR))
        ask(port, "GET", path_of(PECULIAR) + "?consistency=weak")
        ask(port, "DELETE", path_of(PECULIAR))
        ask(port, "DELETE", path_of(PECULIAR))
        ask(port, "POST", path_of(PECULIAR))
        ask(port, "GET", f"/{quote(PECULIAR)}")
        ask(port, "ZANZIBAR", path_of(PECULIAR))
    queue = Queue(stage.layout.q, deadline_s=CALL_S)
    queue.put(PECULIAR, {"key": PECULIAR})
    queue.get(PECULIAR)
    queue.put("db0-zanzibar", {})
    ask(stage.layout.q, "GET", f"/channel/{quote(PECULIAR)}/info")
    ask(log, "GET", f"/?offset={quote(PECULIAR)}")
    ask(log, "GET", f"/{quote(PECULIAR)}")

    for path in ("/", "/api/tea/", "/static/", "/api/trace/"):
        ask(view, "GET", path + quote(PECULIAR))

    for port in (*doors, stage.layout.q, log, view):
        for headers in ({}, OPEN):
            text = ask(port, "GET", "/metrics", headers=headers).text.lower()
            for word in ("zanzibar", "quux", "☕", quote("☕").lower()):
                assert word not in text


# ---- what each service measures


def test_a_shard_tells_of_merges_gossip_and_siblings(course):
    tea, layout = tea_of(0), course.stage.layout
    port, successor = layout.db(0), layout.db(1)
    course.delete(tea)
    quiet(course)
    before, before_there, put_before = scrape(port), scrape(successor), put_on(course, "db0")

    for clock in ({"a": 1}, {"b": 1}, {"a": 1}, {"a": 0}):
        ask(port, "PUT", path_of(tea), f'{{"rating":2,"clock":{{"{next(iter(clock))}":{next(iter(clock.values()))}}}}}')
    after = eventually(
        lambda: (now := scrape(port)) and value(now, "tea_gossip_due_records") == 0 and now, "all of it is told"
    )

    def more(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)

    def heard():
        ask(successor, "GET", path_of(tea))  # it hears what was told
        labels = {"direction": "heard"}
        there = scrape(successor)
        return value(there, "tea_gossip_records_total", **labels) - value(
            before_there, "tea_gossip_records_total", **labels
        )

    assert more("tea_operations_total") == 4
    assert more("tea_merges_total", source="write", outcome="stored") == 2
    assert more("tea_merges_total", source="write", outcome="same") == 1
    assert more("tea_merges_total", source="write", outcome="stale") == 1
    assert more("tea_siblings_count") == 4
    assert more("tea_siblings_bucket", le="1.0") == 1
    assert more("tea_siblings_bucket", le="2.0") == 4
    assert more("tea_siblings_sum") == 1 + 2 + 2 + 2
    told = more("tea_gossip_records_total", direction="told")
    put = put_on(course, "db0") - put_before
    assert 4 <= told <= put  # what the queue is late to answer is told once more
    eventually(lambda: heard() == put, "all of it is heard")
    assert value(after, "tea_gossip_lag_seconds") == 0
    assert value(after, "tea_up", part="redis") == 1
    assert value(after, "tea_stored_teas") >= 1


def test_refused_and_set_aside_records_are_counted(course):
    queue, port = Queue(course.stage.layout.q, deadline_s=CALL_S), course.stage.layout.db(0)
    quiet(course)
    before = scrape(port)
    queue.put("db1", {"key": "no record"})
    queue.put("db1", {"primary": "db0", "key": "came-home", "rating": 1, "choices": [1], "clocks": [{"c0": 1}]})

    name = "tea_gossip_set_aside_records_total"

    def heard():
        ask(port, "GET", path_of("assam"))
        now = scrape(port)
        return value(now, name) > value(before, name) and now

    after = eventually(heard, "both are heard")
    for outcome in ("aside", "home"):
        labels = {"source": "gossip", "outcome": outcome}
        assert value(after, "tea_merges_total", **labels) - value(before, "tea_merges_total", **labels) == 1
    assert value(after, name) - value(before, name) == 1


def test_a_shard_tells_how_much_gossip_is_due_and_for_how_long(course):
    port = course.stage.layout.db(0)
    with gone(course.stage.cluster.queue):
        for count in range(2):
            assert ask(port, "PUT", path_of("bancha"), f'{{"rating":3,"clock":{{"due":{count}}}}}').status == 200

        found = eventually(
            lambda: (now := scrape(port)) and value(now, "tea_gossip_lag_seconds") > 0 and now, "gossip is late"
        )

        assert value(found, "tea_gossip_due_records") >= 2
        assert value(found, "tea_digest_records") < 2
        assert value(found, "tea_breaker_open", peer="queue") == 1

    eventually(lambda: value(scrape(port), "tea_gossip_due_records") == 0, "all is told")
    eventually(lambda: value(scrape(port), "tea_gossip_lag_seconds") == 0, "nothing is late, unasked")


def test_the_queue_tells_how_much_waits_and_for_how_long(course):
    port = course.stage.layout.q
    queue = Queue(port, deadline_s=CALL_S)
    queue.clear()
    queue.put("db7", {"n": 1})
    queue.put("db7", {"n": 2})
    for name in ("mine", "yours", "db7x", "db\u0667", "db12345"):  # another script's 7, too
        queue.put(name, {})

    aged = eventually(
        lambda: (now := scrape(port)) and value(now, "tea_queue_oldest_age_seconds", channel="db7") > 0 and now,
        "it ages",
    )

    assert {labels: depth for labels, depth in aged["tea_queue_depth"].items() if depth} == {
        frozenset({("channel", "db7")}): 2,
        frozenset({("channel", "other")}): 5,
    }
    assert value(aged, "tea_queue_oldest_age_seconds", channel="db7") < CALL_S * 4
    queue.get("db7")
    queue.get("db7")
    assert value(scrape(port), "tea_queue_oldest_age_seconds", channel="db7") == 0
    queue.clear()


def test_the_load_balancer_tells_how_many_operations_travel_together(course):
    tea, port = tea_of(1), course.stage.layout.lb
    before = scrape(port)

    course.strong_read(tea)

    after = scrape(port)
    name = "tea_gather_operations"
    assert value(after, f"{name}_count", shard="db1") - value(before, f"{name}_count", shard="db1") == 1
    assert (
        value(after, f"{name}_bucket", shard="db1", le="1.0") - value(before, f"{name}_bucket", shard="db1", le="1.0")
        == 1
    )
    assert value(after, "tea_shard_requests_waiting", shard="db1") == 0


def test_the_log_tells_how_far_it_is(log):
    before = scrape(log)

    ask(log, "POST", "/", '{"record": {"value": "TGV0J3MgR28gIzEK"}}')

    after = scrape(log)
    assert value(after, "tea_log_next_offset") == value(before, "tea_log_next_offset") + 1
    assert value(after, "tea_log_bytes") > value(before, "tea_log_bytes")
    assert value(after, "tea_log_segments") == 1
    assert value(after, "tea_up", part="log") == 1


def test_a_guarded_shard_tells_its_epoch_and_what_it_leaves_alone(run_folder):
    with GuardedRing(run_folder / "metrics-guarded", ndb=2) as ring:
        ring.must_put("assam", 3, c0=1)

        found = scrape(ring.layout.db(0))

        assert value(found, "tea_epoch") == ring.status(0)["epoch"]
        assert value(found, "tea_recovering") == value(found, "tea_fenced") == 0
        assert value(found, "tea_gossip_dropped_records_total") == value(found, "tea_repaired_values_total") == 0
        with stopped(ring.cluster.shards[1]):
            eventually(lambda: value(scrape(ring.layout.db(0)), "tea_breaker_open", peer="db1"), "db1 is left alone")
            ask(ring.layout.lb, "GET", path_of(ring.tea_of(1)))
            assert value(scrape(ring.layout.lb), "tea_breaker_open", peer="db1") == 1
        eventually(lambda: not value(scrape(ring.layout.db(0)), "tea_breaker_open", peer="db1"), "it is asked again")


# ---- whatever fails


@pytest.mark.parametrize("fault", [stopped, gone])
def test_a_shard_is_scraped_though_its_redis_hangs_or_is_down(course, fault):
    port = course.stage.layout.db(0)
    with fault(course.stage.cluster.redis[0]):
        for _ in range(2):
            found = scrape(port)  # which waits for no more than CALL_S, and Redis is away for longer

            assert value(found, "tea_up", part="redis") == 0
            assert not found["tea_stored_teas"]
            assert not found["tea_digest_records"]
            assert found["tea_merges_total"]
            assert found["process_cpu_seconds_total"]
            assert ask(port, "GET", path_of("assam")).status == 503
        name = "tea_operations_total"
        assert value(scrape(port), name) == value(found, name)  # what was refused was not carried out
    eventually(lambda: value(scrape(port), "tea_up", part="redis") == 1, "Redis is asked again")
    eventually(lambda: scrape(port)["tea_stored_teas"], "what it holds is told again")


def test_a_load_balancer_is_scraped_though_all_else_is_gone():
    app = serverLB.create_app(settings.LBSettings(ndb=3, db_base_port=1))

    told = app.test_client().get("/metrics")

    assert b'tea_breaker_open{peer="db2"} 0.0' in told.data
