"""The course's harness, test/run.py, as people start it: on the course's ports, from any folder, by any Python."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from harness import course_ports_trouble, eventually, is_alive
from sharing import only_one

from emporium.environment import ROOT

OUTSIDE = Path(sys.base_prefix) / "bin" / "python3"  # a Python that is not the project's environment
COURSE_NAMES = [
    *["simple", "simpleEv", "discardOlderRating", "testDBUnit", "forceGossip"],
    *["digestLength1", "simpleOneDB", "testGetGossip", "highVolume", "convergence"],
]


@pytest.fixture
def run_py(tmp_path):
    """Runs test/run.py from a folder of its own, once nobody uses the course's ports."""

    def run(*words):
        command = [OUTSIDE, ROOT / "test" / "run.py", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)

    with only_one("course-ports"):
        if trouble := course_ports_trouble(4):
            pytest.skip(f"the course's ports are in use here: {trouble}")
        yield run


def test_it_lists_the_courses_stories_first(run_py):
    done = run_py("--list")

    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[:10]] == COURSE_NAMES


def test_it_tells_one_story_and_leaves_nothing_behind(run_py, tmp_path):
    done = run_py("--test", "simple", "--key", "42", "--results", tmp_path / "results")

    assert done.returncode == 0, done.stdout
    [result] = [json.loads(line) for line in (tmp_path / "results").read_text().splitlines()]
    assert result.pop("seconds") > 0
    assert result == {"name": "simple", "outcome": "passed", "seed": "42", "message": ""}
    assert course_ports_trouble(4) is None


def test_results_go_to_standard_output_as_in_the_course(run_py):
    done = run_py("--test", "discardOlderRating", "--test", "simpleOneDB")

    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [(result["name"], result["outcome"]) for result in results] == [
        ("discardOlderRating", "passed"),
        ("simpleOneDB", "passed"),
    ]


def test_an_unknown_name_lists_the_known_ones(run_py):
    done = run_py("--test", "simpel")

    assert done.returncode == 4
    assert "no story is called simpel" in done.stderr
    assert all(re.search(rf"^  {name}$", done.stderr, re.MULTILINE) for name in COURSE_NAMES)


def test_a_run_that_fails_says_why_and_where_its_logs_are(run_py, tmp_path):
    done = run_py("--test", "simple", "--wait", "0", "--results", tmp_path / "results")

    assert done.returncode == 1
    [result] = [json.loads(line) for line in (tmp_path / "results").read_text().splitlines()]
    assert result["outcome"] == "failed"
    assert "does not answer on port" in result["message"]
    [folder] = re.findall(r"logs of this run: (\S+)", done.stdout)
    assert (tmp_path / folder / "r0.log").exists()


def test_results_that_cannot_be_written_are_told_in_one_line(run_py):
    done = run_py("--results", "/nonexistent/results")

    assert done.returncode == 4
    assert "--results:" in done.stderr
    assert "INTERNALERROR" not in done.stderr


def test_left_redis_servers_can_be_looked_into_and_ended(run_py):
    done = run_py("--test", "simple", "--leavedb")
    assert done.returncode == 0, done.stdout
    looks = re.findall(r"^  \S*redis-cli -p (\d+) keys '\*'$", done.stdout, re.MULTILINE)
    [end] = re.findall(r"^  (kill [\d ]+)$", done.stdout, re.MULTILINE)
    pids = [int(pid) for pid in end.split()[1:]]
    try:
        assert looks == ["5555", "5556", "5557", "5558"]
        assert sum(hashes(int(port)) for port in looks) == 1

        again = run_py("--test", "simple")

        assert again.returncode == 1
        assert f"Redis servers that an earlier --leavedb left are still running; end them: {end}" in again.stderr
    finally:
        subprocess.run(end, shell=True, check=True)

    eventually(lambda: not any(is_alive(pid) for pid in pids), "the servers have ended")
    assert run_py("--test", "simple").returncode == 0


def hashes(port):
    with redis.Redis(port=port) as client:
        return client.exists("/rating/persimmon")
