"""The options of the course's harness: for run.py, which shows them, and for pytest, which obeys them.

Standard library only: run.py shows them before anything is installed.
"""

OPTIONS = {
    "--test": {"action": "append", "default": [], "metavar": "NAME", "help": "tell only this story; may be repeated"},
    "--leavedb": {"action": "store_true", "help": "leave the Redis servers running, to look inside"},
    "--ndb": {"type": int, "default": 4, "metavar": "N", "help": "number of shards, at least 2 (4)"},
    "--key": {"metavar": "SEED", "help": "seed of the random numbers, to repeat a run (drawn, and shown)"},
    "--results": {"metavar": "FILE", "help": "one JSON object a story, one a line, goes there; - is standard output"},
    "--wait": {"type": float, "default": 20, "metavar": "SECONDS", "help": "how long servers may take to answer (20)"},
}


def as_words(asked):
    """The options of a parsed command line as words of another one."""
    words = []
    for flag, kind in OPTIONS.items():
        value = getattr(asked, flag.removeprefix("--"))
        if kind.get("action") == "store_true":
            words += [flag] if value else []
        elif value is not None:
            words += [word for each in (value if isinstance(value, list) else [value]) for word in (flag, str(each))]
    return words
