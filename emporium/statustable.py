"""What `./tea status` prints: a line a service, each column as wide as its longest cell. Pure.

    service  address                 pid  state  keys  recovery                epoch  lag (s)  waiting gossip
    db2      http://127.0.0.1:3002  4711  up      120  recovering: lost Redis      7     12.0  digest 1, due 4

What a service does not tell, as the servers of strangers do not, is blank.
"""

HEADINGS = (
    "service",
    "address",
    "pid",
    "state",
    "keys",
    "recovery",
    "epoch",
    "lag (s)",
    "waiting gossip",
    "breakers",
)
STATE = HEADINGS.index("state")
COLOURS = {"up": "green", "slow": "yellow", "down": "red"}
NUMBERS = ("pid", "keys", "epoch", "lag (s)")


def lines_of(rows, paint=lambda text, _colour: text):
    """The lines for these rows of running.ask_all, the heading first. `paint(text, colour)` colours a state."""
    lines = aligned(HEADINGS, [_cells(row) for row in rows], NUMBERS)
    for line, row in zip(lines[1:], rows, strict=True):
        line[STATE] = paint(line[STATE], COLOURS[_state(row)])
    return ["  ".join(line).rstrip() for line in lines]


def aligned(headings, rows, numbers):
    """The headings and these rows of cells, each cell as wide as the longest of its column; `numbers`, the headings of
    those columns that are, to the right."""
    table = [list(headings), *rows]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(headings))]
    return [[_aligned(*each, numbers) for each in zip(headings, cells, widths, strict=True)] for cells in table]


def _cells(row):
    lag_s = row["lag-s"]
    cells = (
        row["name"],
        row["url"],
        _or_dash(row["pid"]),
        _state(row),
        _or_dash(row["keys"]),
        row["state"],
        row["epoch"],
        f"{lag_s:.1f}" if isinstance(lag_s, int | float) else lag_s,
        _or_dash(row["gossip"]),
        breakers_in_words(row["breakers"]),
    )
    return ["" if cell is None else " ".join(str(cell).split()) for cell in cells]


def _state(row):
    """In the words of ./tea watch."""
    if row["up"]:
        return "up"
    return "slow" if row["slow"] else "down"


def breakers_in_words(told):
    """{peer: trouble} in words; what is not of this form, as it is."""
    return "; ".join(f"{peer}: {trouble}" for peer, trouble in told.items()) if isinstance(told, dict) else told


def _or_dash(value):
    return "-" if value is None else value


def _aligned(heading, cell, width, numbers):
    return cell.rjust(width) if heading in numbers else cell.ljust(width)
