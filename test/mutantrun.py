"""Plants each bug of mutants.py into a copy of the project, and tells which test finds it, and after how long.

    ./tea test --mutants                 all of them
    ./tea test --mutants epoch digest    those whose names hold one of these words

The copy is run once without any bug first: a test that fails by itself finds nothing. Exit codes: 0 all are caught,
1 one survives, 2 the tests fail without a bug or nothing is called so.
"""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from mutants import MUTANTS  # noqa: E402 - found by the path above

from emporium import progress  # noqa: E402

MOST_S = 600  # for the tests of one of them
FOUND = re.compile(r"^(?:FAILED|ERROR) test/(.+?)(?: - .*)?$", re.MULTILINE)


def main(words):
    chosen = [each for each in MUTANTS if not words or any(word in each.name for word in words)]
    if not chosen:
        print(f"no mutant is called so; these are known: {', '.join(each.name for each in MUTANTS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="tea-mutants-") as folder:
        copy = Path(folder)
        copy_project(copy)
        make_environment(copy)
        files = sorted({file for each in chosen for file in each.tests})
        print(f"without a bug: {len(files)} files of tests", flush=True)
        with progress.shown("the tests without a bug"):
            found, took_s, output = run_tests(copy, files)
        if found:
            print(f"{output}\nfails without any bug: {found}", file=sys.stderr)
            return 2
        print(f"without a bug: all pass after {took_s:.0f} s\n", flush=True)
        survivors = []
        for i, each in enumerate(chosen):
            with progress.shown(f"{i + 1} of {len(chosen)}: {each.name}"):
                survivors += [] if is_caught(copy, each) else [each.name]
    print(f"\n{len(chosen) - len(survivors)} of {len(chosen)} are caught")
    if survivors:
        print(f"surviving: {', '.join(survivors)}")
    return 1 if survivors else 0


def copy_project(copy):
    """All files that belong to the project, as they stand now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.split("\0"):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
            (copy / name).chmod((ROOT / name).stat().st_mode)


def make_environment(copy):
    """The copy is a project of its own: its ./tea would make its environment, in the middle of some test."""
    print("making the environment of the copy", flush=True)
    command = "from emporium import environment; environment.make()"
    subprocess.run([sys.executable, "-c", command], cwd=copy, check=True)


def is_caught(copy, mutant):
    """Try one, and print its line."""
    path = copy / mutant.file
    whole = path.read_text()
    write(path, planted(mutant, whole))
    try:
        found, took_s, _ = run_tests(copy, mutant.tests)
    finally:
        write(path, whole)
    print(f"{mutant.name:<62} {took_s:>5.0f} s  {found or 'SURVIVES'}", flush=True)
    return found is not None


def planted(mutant, text):
    """The text of its file with the bug in it. Raises ValueError when it cannot be planted there."""
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: what it replaces is {text.count(mutant.old)} times in {mutant.file}")
    return text.replace(mutant.old, mutant.new)


def write(path, text):
    """Python tells by size and second whether a file has changed; that is not enough here."""
    path.write_text(text)
    Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)


def run_tests(copy, files):
    """(the first test that failed, or None; seconds; the output) of these files. What takes too long finds nothing."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", "-rfE", *files]
    tests = subprocess.Popen(
        command, cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = tests.communicate(timeout=MOST_S)
    except subprocess.TimeoutExpired:
        os.killpg(tests.pid, signal.SIGKILL)
        output, _ = tests.communicate()
        return None, time.monotonic() - began, output
    failed = FOUND.search(output)
    if failed is None and tests.returncode != 0:  # no test has said what is wrong
        print(output, file=sys.stderr)
    return failed and failed[1], time.monotonic() - began, output


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
