"""What a document asks its reader to type, and what it says that comes of it.

    ```console     `$ ` lines are typed, and what is below each is its answer: exactly, but for ..., which is anything
    ```sh          all lines are typed, and end well
    ```python      is run; a ```text right below it is what it prints
    ```text        is only shown, and so is a fence without a word

A curl line anywhere else is a mistake (`curl -d` in a sentence is none), and so are a command of ours or Python in a
fence that does not say what it is, a fence with another word, and one that is indented, which nobody would find.
"""

import re
from typing import NamedTuple

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CURL = re.compile(r"^\s*(?:\$ )?(curl .*)$", re.MULTILINE)
INLINE = re.compile(r"`(curl [^`]*\bhttp[^`]*)`")
COMMAND = re.compile(r"^(?:\$ )?(?:curl|\./tea|python) .*$", re.MULTILINE)
PYTHON = re.compile(r"^(?:>>> .*|from [\w.]+ import .*|import [\w.]+)$", re.MULTILINE)
INDENTED = re.compile(r"^[ \t>]+```.*$|^~~~.*$", re.MULTILINE)


class Step(NamedTuple):
    """One thing to type. `shown`: what the document says that it prints, None when it says nothing."""

    kind: str  # "command" or "python"
    text: str
    line: int
    shown: str | None


class Mistake(Exception):
    """A document has a line that nobody would run."""


def steps_of(text):
    """The Steps of this document, in order. Raises Mistake."""
    fences = list(FENCE.finditer(text))
    found = []
    for number, fence in enumerate(fences):
        kind, body = fence.groups()
        line = text[: fence.start()].count("\n") + 2
        if kind == "console":
            found += _of_console(body, line)
        elif kind == "sh":
            found += [Step("command", each, at, None) for at, each in _whole_lines(body, line)]
        elif kind == "python":
            found.append(Step("python", body, line, _printed(text, fence, fences[number + 1 : number + 2])))
        elif kind == "" and (command := COMMAND.search(body)):
            raise Mistake(f"is this run? Say ```sh, ```console or ```text: {command[0]}")
        elif kind not in ("", "text"):
            raise Mistake(f"nobody runs ```{kind}: say ```sh, ```console, ```python or ```text")
        elif program := PYTHON.search(body):
            raise Mistake(f"this Python stands where nobody runs it: {program[0]}")
    if indented := INDENTED.search(text):
        raise Mistake(f"a fence begins with three backticks at the left edge, not as this one: {indented[0]}")
    run = {each.text.partition("\n")[0] for each in found}
    for curl in CURL.findall(text):
        if curl.removesuffix("\\").rstrip() not in {each.removesuffix("\\").rstrip() for each in run}:
            raise Mistake(f"this curl line stands where nobody runs it: {curl}")
    if inline := INLINE.search(FENCE.sub("", text)):
        raise Mistake(f"this curl line stands in a sentence, where nobody runs it: {inline[1]}")
    return found


def _of_console(body, line):
    steps = []
    for at, each in _whole_lines(body, line):
        if each.startswith("$ "):
            steps.append(Step("command", each[2:], at, None))
        elif steps:
            last = steps[-1]
            steps[-1] = last._replace(shown=each if last.shown is None else f"{last.shown}\n{each}")
    return steps


def _whole_lines(body, first):
    """(its number, line) of all lines but empty ones and comments; one that ends with a backslash goes on below."""
    gathered = []
    for number, line in enumerate(body.splitlines(), first):
        gathered.append(line)
        if line.endswith("\\"):
            continue
        whole, gathered = "\n".join(gathered), []
        if whole.strip() and not whole.startswith("#"):
            yield number - whole.count("\n"), whole


def _printed(text, fence, below):
    """The text of the fence right below, when it is one of ```text."""
    if below and below[0][1] == "text" and not text[fence.end() : below[0].start()].strip():
        return below[0][2].strip()
    return None


def is_as_shown(printed, shown):
    """Whether this was printed, where `...` may be anything."""
    pattern = ".*".join(map(re.escape, shown.strip().split("...")))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None
