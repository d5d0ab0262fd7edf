#!/usr/bin/env python3
"""The course's harness: starts a whole cluster on the course's ports, tells the stories, and tears all down.

    python test/run.py                               all stories
    python test/run.py --test simple                 one of them; --list names them
    python test/run.py --test simple --leavedb       then look inside with redis-cli -p 5555

It works from any folder and finds the project's environment by itself. The same stories run under plain pytest.
Exit code 0: all passed; 1: one failed, or the cluster did not come up; 2: interrupted; 4: wrong use.
"""

import argparse
import signal
import sys
from pathlib import Path

from options import OPTIONS, as_words

TEST = Path(__file__).resolve().parent
sys.path.insert(0, str(TEST.parent))
PYTEST = [str(TEST / "test_stories.py"), "--rootdir", str(TEST.parent), "-c", str(TEST.parent / "pyproject.toml")]


def parser():
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, kind in OPTIONS.items():
        made.add_argument(flag, **kind)
    made.add_argument("--list", action="store_true", help="list the stories")
    made.set_defaults(results="-")  # as in the course
    return made


def main(asked):
    import pytest

    if asked.list:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # run.py --list | head
        return int(pytest.main([*PYTEST, "--collect-only", "-o", "addopts=", "-p", "no:terminal"], plugins=[Lister()]))
    return int(pytest.main([*PYTEST, "--course-ports", "-v", *as_words(asked)]))


class Lister:
    """Prints what pytest found instead of running it."""

    def pytest_collection_finish(self, session):
        from conftest import story_name

        for item in session.items:
            rule = (item.function.__doc__ or "").partition("\n")[0]
            print(f"{story_name(item.name):<72} {rule}".rstrip())


if __name__ == "__main__":
    from emporium import environment

    asked = parser().parse_args()
    environment.enter()
    sys.exit(main(asked))
