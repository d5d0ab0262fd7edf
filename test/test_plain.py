"""Any of the three servers can be a stranger's: the course's stories hold with a plain one in each role.

The plain servers of test/plain/ know the course's paths and nothing else. As a shard, every second one is plain,
so that gossip crosses in both directions.
"""

import pytest
from harness import Stage, eventually
from test_stories import COURSE_STORIES


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
        course.put_at(0, "persimmon", 5, {"c0": 1})
        assert course.status_of(0)["queue-is-plain"] is True

        stage.replace_queue()

        def is_recognised():
            course.put_at(0, "persimmon", 5, {"c0": 1})
            return course.status_of(0)["queue-is-plain"] is False

        eventually(is_recognised, "the shard speaks to our queue in batches")
        assert course.read_at(1, "persimmon")["choices"] == [5]
