"""What a command may do with the place that it writes to: colour, width, and whether it may move the cursor.

    a terminal        coloured, as wide as it is, may be drawn over
    a file or a pipe  plain, never drawn over

NO_COLOR takes the colour away, and FORCE_COLOR gives it to a pipe, too (no-color.org, force-color.org); neither says
anything of drawing over. Standard library only, but for `console` and `painter`.
"""

import os
import shutil
import sys

COLOURS = {"lb": "green", "q": "yellow", "db": "cyan", "r": "magenta", "view": "blue"}  # as termcolor has them
PLAIN_WIDTH = 160  # of what is written to a file in columns, unless COLUMNS says otherwise


def is_terminal(stream):
    """Whether a person looks at it, and the cursor can be moved there."""
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):  # closed, or none at all
        return False


def has_colour(stream):
    """Whether what is written there may be coloured."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(stream)


def painter(stream):
    """A function (text, colour) -> the text as it is to be written there."""
    if not has_colour(stream):
        return lambda text, _colour: text
    from termcolor import colored

    return lambda text, colour: colored(text, colour, force_color=True)


def width_of(stream):
    """How many characters a line has there."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns


def console(stream=None):
    """A rich Console that obeys what stands above."""
    from rich.console import Console

    stream = stream or sys.stdout
    is_coloured = has_colour(stream)
    return Console(
        file=stream,
        force_terminal=is_terminal(stream) or is_coloured,
        no_color=not is_coloured,
        width=None if is_terminal(stream) else width_of(stream),
        highlight=False,
        # It would believe a shell that exports the size of some time ago.
        _environ={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")},
    )


def printable(text):
    """The text with what would move the cursor, change colours or reverse the writing spelt out, as in '\\x1b'.

    Names of teas and lines of logs come from anybody.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode() for each in text
    )


def colour_of(service):
    """Of the service of this name, such as db2, as termcolor has it."""
    return COLOURS.get(service.rstrip("0123456789"), "white")
