"""Every curl line, every command and every Python block of README and docs works as it stands there.

A cluster of `./tea up` on ports of its own; each document is followed line by line, in a folder that looks like the
project. The ports that a document names are replaced by those, and nothing else is. doclines.py tells what is run.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from itertools import count

import pytest
from doclines import Mistake, is_as_shown, steps_of
from harness import eventually

from emporium.environment import ROOT
from emporium.ports import COURSE_BASE, Ports, is_free

DOCUMENTS = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
SHARDS = 4
LINE_S = 60
LOG_PORT = 8080
COURSE = [COURSE_BASE, *(base + i for base in (3000, 5555) for i in range(SHARDS)), 6000, 8000, LOG_PORT]
ENDLESS = re.compile(r"\./tea (log serve\b|trace (?!.*--(last|for|open) ))|--follow\b")  # until Ctrl-C


class Reader:
    """Somebody who types what documents say, beside a cluster that runs."""

    def __init__(self, folder, layout):
        self.folder = folder
        self.layout = layout
        self.log_port = at(layout, LOG_PORT)
        self._terminals = count()
        self._environ = {
            **os.environ,
            "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

    def type(self, line, ends_well=True):
        """What a line in the shell prints. `ends_well`: whether it must succeed."""
        done = subprocess.run(
            ["bash", "-c", self.moved(line)],
            cwd=self.folder,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=LINE_S,
        )
        assert done.returncode == 0 or not ends_well, f"{line}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def run(self, program):
        """What a Python program prints."""
        command = [sys.executable, "-W", "error", "-"]
        done = subprocess.run(
            command,
            input=self.moved(program),
            cwd=self.folder,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=LINE_S,
        )
        assert done.returncode == 0, f"{program}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def beside(self, line):
        """Inside, this line is at work in another terminal. It ends with Ctrl-C, and well."""
        said = self.folder / f"terminal-{next(self._terminals)}.out"  # its own: others may be at work, too
        with open(said, "w+") as out:
            command = ["bash", "-c", f"exec {self.moved(line)}"]
            process = subprocess.Popen(command, cwd=self.folder, env=self._environ, stdout=out, stderr=out)
            try:
                eventually(
                    lambda: process.poll() is not None or os.fstat(out.fileno()).st_size,
                    f"{line} says something",
                    LINE_S,
                )
                if "serve" in line:
                    eventually(lambda: process.poll() is not None or accepts(self.log_port), f"{line} serves", LINE_S)
                assert process.poll() is None, f"{line} has ended:\n{said.read_text()}"
                yield
                process.send_signal(signal.SIGINT)
                assert process.wait(LINE_S) == 0, f"{line}\n{said.read_text()}"
            finally:
                process.kill()
                process.wait()

    def moved(self, text):
        """The text for the ports of this reader."""
        ports = {port: at(self.layout, port) for port in COURSE}
        moved = re.sub(
            rf"(?<![\w.])(?:{'|'.join(map(str, ports))})(?!\w)", lambda found: str(ports[int(found[0])]), text
        )
        moved = re.sub(r"^\./tea log serve\b", f"./tea log serve --data-dir {self.folder}/var/log", moved)
        moved = re.sub(r"^\./tea log (\w+)", rf"./tea log \1 --port {self.log_port}", moved)
        moved = re.sub(r"^\./tea (?!log )(\w+)", rf"./tea \1 --port-base {self.layout.base}", moved)
        # Where a program leaves out the address, it means the course's port.
        return re.sub(r"\bTeaStore\((?!\"|http)", f'TeaStore("http://localhost:{self.layout.lb}", ', moved)


def at(layout, port):
    """Where the layout has what has this port in the course."""
    return port - COURSE_BASE + layout.base


def free_layout():
    """One on which the log's port is free, too, which is none of those that the kernel gives to clients."""
    layouts = (Ports.find_free(SHARDS) for _ in range(1000))
    return next(layout for layout in layouts if is_free(at(layout, LOG_PORT)))


def accepts(port):
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("as-the-project")
    for path in ROOT.iterdir():
        if path.name != "var":
            (folder / path.name).symlink_to(path)
    (folder / "var").mkdir()
    made = Reader(folder, free_layout())
    made.type("./tea up --detach --data var/data")
    yield made
    made.type("./tea down")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_line_of_a_document_works_as_it_stands_there(document, reader):
    with ExitStack() as other_terminals:
        for step in steps_of((ROOT / document).read_text()):
            where = f"{document}:{step.line}"
            if step.kind == "python":
                printed = reader.run(step.text)
            elif step.text == "./tea up":
                continue  # that is how the reader began
            elif ENDLESS.search(step.text):
                other_terminals.enter_context(reader.beside(step.text))
                continue
            else:
                printed = reader.type(quiet(step.text, step.shown), ends_well=step.shown is None)
            if step.shown is not None:
                assert is_as_shown(printed, reader.moved(step.shown)), (
                    f"{where} prints\n{printed}\nand not\n{step.shown}"
                )


def quiet(line, shown):
    """curl without its progress, and with a failure that can be told, unless a failure is what the document shows."""
    return re.sub(r"^curl ", f"curl -sS -m {LINE_S} {'' if shown else '--fail-with-body '}", line)


def test_the_documents_are_full_of_lines_to_type():
    """As many as there were when this was written, so that no change of their form hides them from us."""
    steps = [step for document in DOCUMENTS for step in steps_of((ROOT / document).read_text())]

    assert sum(step.text.startswith("curl") for step in steps) >= 11
    assert sum(step.text.startswith("./tea") for step in steps) >= 10
    assert sum(step.kind == "python" for step in steps) >= 7


@pytest.mark.parametrize(
    "text",
    [
        "curl http://localhost:2500/status\n",
        "- in a list:\n\n    curl http://localhost:2500/status\n",
        "```text\ncurl http://localhost:2500/status\n```\n",
        "```\n$ ./tea list\n```\n",
        "```\npython serverLB.py\n```\n",
        "Look with `curl http://localhost:2500/status` at it.\n",
        "```py\nprint(1)\n```\n",
        "```\nfrom emporium.client import TeaStore\n```\n",
        "```text\n>>> print(1)\n```\n",
        "- in a list:\n\n  ```python\n  print(1)\n  ```\n",
    ],
)
def test_a_line_that_nobody_runs_is_found(text):
    with pytest.raises(Mistake):
        steps_of(text)


def test_steps_are_read_in_their_order_with_what_they_print():
    text = (
        "```console\n$ ./tea put x 1\n1\n2\n$ curl a \\\n  b\n```\n```sh\n# a comment\n./tea list  # all\n```\n"
        "```python\nprint(1)\n```\n\n```text\n1\n```\n\nWords.\n\n```python\npass\n```\nMore.\n```text\nno\n```\n"
    )

    assert [tuple(step) for step in steps_of(text)] == [
        ("command", "./tea put x 1", 2, "1\n2"),
        ("command", "curl a \\\n  b", 5, None),
        ("command", "./tea list  # all", 10, None),
        ("python", "print(1)\n", 13, "1"),
        ("python", "pass\n", 23, None),
    ]


def test_dots_stand_for_anything():
    assert is_as_shown('{"pid":4711}\n', '{"pid":...}')
    assert not is_as_shown('{"pid":4711}', '{"pid":47}')
    assert not is_as_shown("1\n2", "1")
