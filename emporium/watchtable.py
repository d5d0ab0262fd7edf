"""What `./tea watch` shows of a state of the ring (emporium/ringstate.py): a row a shard. Pure.

    service  state  req/s  keys  digest  due  lag (s)  channel         redis  epoch  note
    lb       up      12.0
    q        up      30.5                              2 in 1 channel
    db0      up       8.0   120  1 of 2    0      0.0  db1 hears 2     up         7
    db2      down                                      db3 hears 0     down          cannot be reached: refused

`channel` is what its successor has not heard yet. On a terminal that is too narrow the columns that say least are left
out, and where it is too low for all rows, those that are well.
"""

from emporium.screen import printable
from emporium.statustable import aligned, breakers_in_words

HEADINGS = ("service", "state", "req/s", "keys", "digest", "due", "lag (s)", "channel", "redis", "epoch", "note")
STATES = (HEADINGS.index("state"), HEADINGS.index("redis"))
NUMBERS = ("req/s", "keys", "due", "lag (s)", "epoch")
NOTE = HEADINGS.index("note")
LEFT_OUT_FIRST = ("epoch", "req/s", "lag (s)", "keys", "channel", "due")
LEAST_NOTE = 12  # characters of a note that are of any use
COLOURS = {"up": "green", "slow": "yellow", "recovering": "yellow", "fenced": "red", "down": "red"}
GAP = 2


def rows_of(state):
    """The cells of each row, in the order of HEADINGS: load balancer, queue, and the shards in theirs."""
    depths = {channel["name"]: channel for channel in state["queue"].get("channels", [])}
    return [
        _row(state["lb"]),
        _row(state["queue"], channel=_all_channels(depths.values())),
        *(
            _row(
                shard,
                keys=_number(shard.get("keys")),
                digest=_digest(shard),
                due=_number(shard.get("due")),
                lag=_number(shard.get("lag_s"), ".1f"),
                channel=_channel(depths.get(shard["name"]), (index + 1) % len(state["shards"])),
                redis=store["state"],
                epoch=_number(shard.get("epoch")),
                note=_note(shard, store),
            )
            for index, (shard, store) in enumerate(zip(state["shards"], state["redis"], strict=True))
        ),
    ]


def plain_lines(state, paint=lambda text, _colour: text):
    """The whole table as lines of text, the heading first. `paint(text, colour)` colours a state."""
    heading, *rows = aligned(HEADINGS, rows_of(state), NUMBERS)
    for row in rows:
        for place in STATES:
            if colour := COLOURS.get(row[place].strip()):
                row[place] = paint(row[place], colour)
    return ["  ".join(line).rstrip() for line in (heading, *rows)]


def summary(state):
    """How it is at a glance: '3 of 4 shards serve; db2, r2 down'."""
    shards = state["shards"]
    serving = sum(shard["state"] in ("up", "slow") for shard in shards)
    troubled = {}
    for each in (state["lb"], state["queue"], *shards, *state["redis"]):
        if each["state"] != "up":
            troubled.setdefault(each["state"], []).append(each["name"])
    words = [f"{', '.join(names)} {how}" for how, names in troubled.items()]
    words += ["gossip is held"] * bool(state.get("held"))
    return "; ".join([f"{serving} of {len(shards)} shards serve", *words])


def fitting(rows, width, height):
    """(headings, rows, how many rows are left out) of what a terminal of this size can show, heights without heading.

    All cells are as wide as their column. What is in trouble is shown before what is well, and notes are cut.
    """
    shown = rows
    if len(rows) > height:
        room = max(0, height - 1)  # the last line says how many are missing
        well_last = sorted(range(len(rows)), key=lambda index: (_is_well(rows[index]), index))
        shown = [rows[index] for index in sorted(well_last[:room])]
    kept = list(HEADINGS)
    for heading in LEFT_OUT_FIRST:
        if _width(kept, shown) <= width:
            break
        kept.remove(heading)
    room = max(LEAST_NOTE, width - _width(kept, shown) + LEAST_NOTE)
    places = [HEADINGS.index(heading) for heading in kept]
    cells = [[*(row[place] for place in places[:-1]), _cut(row[NOTE], room)] for row in shown]
    heading, *lines = aligned(kept, cells, NUMBERS)
    return dict(zip(kept, heading, strict=True)), lines, len(rows) - len(shown)


def _width(headings, rows):
    """Of the table with these columns, its notes cut to what is of use."""
    widths = [
        LEAST_NOTE if heading == "note" else max([len(heading), *(len(row[HEADINGS.index(heading)]) for row in rows)])
        for heading in headings
    ]
    return sum(widths) + GAP * (len(widths) - 1)


def _cut(text, width):
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _is_well(row):
    return all(row[place] in ("", "up") for place in STATES)


def _row(service, keys="", digest="", due="", lag="", channel="", redis="", epoch="", note=None):
    note = _own_words(service) if note is None else note
    rate = _number(service.get("requests_per_s"), ".1f")
    cells = (service["name"], service["state"], rate, keys, digest, due, lag, channel, redis, epoch, note)
    return [printable(" ".join(cell.split())) for cell in cells]


def _digest(shard):
    filled, length = shard.get("digest"), shard.get("digest_length")
    return "" if filled is None else f"{filled} of {length}" if length else str(filled)


def _channel(channel, successor):
    if channel is None or channel["depth"] is None:
        return ""
    oldest_s = channel["oldest_age_s"]
    age = f", {oldest_s:.1f} s" if channel["depth"] and oldest_s is not None else ""
    return f"db{successor} hears {channel['depth']}{age}"


def _all_channels(channels):
    depths = [channel["depth"] for channel in channels if channel["depth"] is not None]
    used = sum(depth > 0 for depth in depths)
    return f"{sum(depths)} in {used} channel{'' if used == 1 else 's'}" if depths else ""


def _note(shard, store):
    """What is amiss with a shard, its Redis, and whom it leaves alone."""
    notes = [_own_words(shard)]
    if store["note"] and not notes[0]:
        notes.append(f"{store['name']}: {store['note']}")
    if shard.get("breakers"):
        notes.append(f"leaves alone {breakers_in_words(shard['breakers'])}")
    return "; ".join(note for note in notes if note)


def _own_words(service):
    """Its note, without the name and the address, which stand beside it or in ./tea status."""
    return (service["note"] or "").removeprefix(f"{service['name']} at {service.get('url')} ")


def _number(value, form="d"):
    """The number as text; nothing for none, and what is no number as it is."""
    if value is None:
        return ""
    return format(value, form) if isinstance(value, int | float) else str(value)
