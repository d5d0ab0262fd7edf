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
NUMBERS = ("req/s", "keys", "due", "lag (s)", "epoch")
LEFT_OUT_FIRST = ("epoch", "req/s", "lag (s)", "keys")
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


def plain_lines(state):
    """The whole table as lines of text, the heading first."""
    return ["  ".join(line).rstrip() for line in aligned(HEADINGS, rows_of(state), NUMBERS)]


def summary(state):
    """How it is at a glance: '3 of 4 shards serve; db2, r2 down'."""
    shards = state["shards"]
    serving = sum(shard["state"] in ("up", "slow") for shard in shards)
    troubled = {}
    for each in (state["lb"], state["queue"], *shards, *state["redis"]):
        if each["state"] != "up":
            troubled.setdefault(each["state"], []).append(each["name"])
    words = [f"{', '.join(names)} {how}" for how, names in troubled.items()]
    return "; ".join([f"{serving} of {len(shards)} shards serve", *words])


def fitting(rows, width, height):
    """(headings, rows, how many rows are left out) of what a terminal of this size can show; height without heading.

    What is in trouble is shown before what is well.
    """
    kept = list(HEADINGS)
    for heading in LEFT_OUT_FIRST:
        if _width(kept, rows) <= width:
            break
        kept.remove(heading)
    shown = rows
    if len(rows) > height:
        room = max(0, height - 1)  # the last line says how many are missing
        well_last = sorted(range(len(rows)), key=lambda index: (_is_well(rows[index]), index))
        shown = [rows[index] for index in sorted(well_last[:room])]
    places = [HEADINGS.index(heading) for heading in kept]
    return kept, [[row[place] for place in places] for row in shown], len(rows) - len(shown)


def _width(headings, rows):
    """Of the table with these columns, its notes cut to what is of use."""
    widths = []
    for heading in headings:
        place = HEADINGS.index(heading)
        widest = max(len(heading), *(len(row[place]) for row in rows))
        widths.append(min(widest, LEAST_NOTE) if heading == "note" else widest)
    return sum(widths) + GAP * (len(widths) - 1)


def _is_well(row):
    return row[1] == "up" and row[HEADINGS.index("redis")] in ("", "up")


def _row(service, keys="", digest="", due="", lag="", channel="", redis="", epoch="", note=None):
    note = service["note"] or "" if note is None else note
    rate = _number(service.get("requests_per_s"), ".1f")
    cells = (service["name"], service["state"], rate, keys, digest, due, lag, channel, redis, epoch, note)
    return [printable(" ".join(cell.split())) for cell in cells]


def _digest(shard):
    filled, length = shard.get("digest"), shard.get("digest_length")
    return "" if filled is None else f"{filled} of {length}" if length else str(filled)


def _channel(channel, successor):
    if channel is None:
        return ""
    oldest_s = channel["oldest_age_s"]
    age = f", {oldest_s:.1f} s" if channel["depth"] and oldest_s is not None else ""
    return f"db{successor} hears {channel['depth']}{age}"


def _all_channels(channels):
    total, used = sum(channel["depth"] or 0 for channel in channels), sum(bool(each["depth"]) for each in channels)
    return f"{total} in {used} channel{'' if used == 1 else 's'}" if channels else ""


def _note(shard, store):
    """What is amiss with a shard, its Redis, and whom it leaves alone."""
    notes = [shard["note"]]
    if store["note"]:
        notes.append(f"{store['name']}: {store['note']}")
    if shard.get("breakers"):
        notes.append(f"leaves alone {breakers_in_words(shard['breakers'])}")
    return "; ".join(note for note in notes if note)


def _number(value, form="d"):
    """The number as text; nothing for none, and what is no number as it is."""
    if value is None:
        return ""
    return format(value, form) if isinstance(value, int | float) else str(value)
