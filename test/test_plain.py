"""Any of the three servers can be a stranger's: the course's stories hold with a plain one in each role.

The plain servers of test/plain/ know the course's paths and nothing else. As a shard, every second one is plain,
so that gossip crosses in both directions.
"""

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from asking import ask
from harness import Stage, eventually, start
from recorder import Recorder, handed_on_to
from test_stories import COURSE_STORIES

from emporium.cluster import python_service
from emporium.ports import Ports
from emporium.service import stop_these


@pytest.fixture(scope="module", params=["lb", "db", "q"])
def mixed_stage(request, run_folder):
    folder = run_folder / f"plain-{request.param}"
    folder.mkdir()
    with Stage(folder, plain=[request.param], always_restart=False) as stage:
        yield stage


@pytest.fixture
def course(request, mixed_stage):
    made = mixed_stage.begin(**getattr(request.getfixturevalue("story"), "settings", {}))
    made.volume = 300  # a plain server opens a connection for each call
    return made


@pytest.mark.parametrize("story", COURSE_STORIES, ids=lambda story: story.__name__)
def test_the_story_holds_with_a_plain(story, course, chance):
    wants_chance = "chance" in story.__code__.co_varnames[: story.__code__.co_argcount]
    story(course, chance) if wants_chance else story(course)


def test_our_queue_is_recognised_when_it_takes_a_plain_ones_place(run_folder):
    """A shard that had to do with a plain queue asks again once its connection is opened anew."""
    folder = run_folder / "plain-replaced"
    folder.mkdir()
    with Stage(folder, ndb=2, plain=["q"]) as stage:
        course = stage.begin(digest_length=1)

        def takes_it_for(is_plain):
            course.put_at(0, "persimmon", 5, {"c0": 1})
            return course.status_of(0)["queue-is-plain"] is is_plain

        eventually(lambda: takes_it_for(True), "the shard speaks to a plain queue")

        stage.replace_queue()

        eventually(lambda: takes_it_for(False), "the shard speaks to our queue in batches")
        eventually(lambda: course.read_at(1, "persimmon")["choices"] == [5], "its neighbour hears of it")


CLIENTS, ROUNDS = 16, 5


def test_a_plain_shard_behind_our_load_balancer_gets_single_calls_however_many_ask(run_folder):
    """Each client writes and reads teas of its own, all at the same time, and reads what it wrote."""
    folder = run_folder / "plain-crowd"
    folder.mkdir()
    port = Ports.find_free(1).lb

    def client(number):
        came_to = []
        for turn in range(1, ROUNDS + 1):
            rated = {"rating": number, "clock": {"c0": turn}}
            written = ask(port, "PUT", f"/rating/tea-of-{number}", json.dumps(rated))
            read = ask(port, "GET", f"/rating/tea-of-{number}")
            came_to.append((written.status, written.body, read.status, read.body["choices"], read.body["clocks"]))
        return came_to

    with Stage(folder, ndb=2, plain=["db"]) as stage:
        stage.begin(digest_length=1000)
        with Recorder(handed_on_to(stage.layout.db(1))) as shard, ThreadPoolExecutor(CLIENTS) as pool:
            settings = {"port": port, "ndb": 1, "db-base-port": shard.port}
            lb = python_service("lb", "test/patientLB.py", port, lambda name: folder / f"{name}-of-plain.log", settings)
            try:
                start(lb)
                began = time.monotonic()
                came_to = list(pool.map(client, range(CLIENTS)))
                took_s = time.monotonic() - began
            finally:
                stop_these([lb])

    for number, rounds in enumerate(came_to):
        assert rounds == [(200, {"rating": number}, 200, [number], [{"c0": turn}]) for turn in range(1, ROUNDS + 1)], (
            number
        )
    asked = Counter((call.method, call.path) for call in shard.calls)
    tried = asked.pop(("POST", "/operations"), 0)
    assert tried <= 1 + took_s  # it answered 404; after a second another server may be there
    assert asked == {
        (method, f"/rating/tea-of-{number}"): ROUNDS for number in range(CLIENTS) for method in ("PUT", "GET")
    }
