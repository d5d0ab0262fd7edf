"""Lines side by side, a column each for whoever says them. Pure.

    time          lb              db0             db1             q
    12:01:03.120  received PUT 3
                  at c0=5
    12:01:03.131                  merged: stored

Widths are those of the terminal's cells: some characters take two.
"""

from emporium import screen

GAP = " "
LEAST_WIDTH = 14  # of a column in which words can be read


class Layout:
    """Columns of equal width behind one for the time, in lines of `width` cells. Pure; `paint(text, name)` colours."""

    def __init__(self, names, width, time_width):
        self._names = names
        self._time_width = time_width
        self._width = (width - time_width) // len(names) - len(GAP) if names else 0

    @property
    def fits(self):
        """Whether words can be read in columns as narrow as these."""
        return self._width >= LEAST_WIDTH

    def heading(self, paint):
        """The names of the columns."""
        cells = (paint(padded(name, self._width), name) for name in self._names)
        return GAP.join([padded("time", self._time_width), *cells])

    def lines(self, at, name, text, paint):
        """The lines in which one of them says this; one that has no column says it in the first."""
        is_known = name in self._names
        indent = GAP + (" " * self._width + GAP) * (self._names.index(name) if is_known else 0)
        pieces = wrapped(text if is_known else f"{name}: {text}", self._width)
        times = [padded(at, self._time_width), *[" " * self._time_width] * (len(pieces) - 1)]
        return [time + indent + paint(piece, name) for time, piece in zip(times, pieces, strict=True)]


class Voices:
    """Prints what services say: each in its column where that is wanted and fits, else with its name in front.

    When the terminal gets another width, the lines from then on have it. `has_columns` says which it is now.
    """

    def __init__(self, names, stream, time_width, wants_columns):
        self._names = names
        self._stream = stream
        self._wants_columns = wants_columns
        self._time_width = time_width
        self._name_width = max(map(len, names), default=0)
        self._colour = screen.painter(stream)
        self._width = None
        self._fit()

    def say(self, at, name, text):
        """One of them says this, printable text, at this time, which is text."""
        self._fit()
        if self.has_columns:
            for line in self._layout.lines(at, name, text, self._paint):
                self.note(line)
        else:
            self.note(f"{at.ljust(self._time_width)} {self._paint(name.rjust(self._name_width), name)} | {text}")

    def note(self, line):
        """A line of ours."""
        print(line.rstrip(), file=self._stream)

    def flush(self):
        self._stream.flush()

    def _fit(self):
        """Lay the columns out, for the width that there is now."""
        width = screen.width_of(self._stream)
        if width == self._width:
            return
        self._width, self._layout = width, Layout(self._names, width, self._time_width)
        self.has_columns = self._wants_columns and self._layout.fits
        if self.has_columns:
            self.note(self._layout.heading(self._paint))

    def _paint(self, text, name):
        return self._colour(text, screen.colour_of(name.strip()))


def wrapped(text, width):
    """The text in pieces of at most `width` cells, between words where that can be; at least one piece."""
    from rich.cells import cell_len, chop_cells

    pieces, line = [], ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= width:
            line = joined
            continue
        if line:
            pieces.append(line)
        *whole, line = chop_cells(word, width)
        pieces += whole
    return [*pieces, line] if line or not pieces else pieces


def padded(text, width):
    """The text with blanks behind it, `width` cells in all, or cut to that."""
    from rich.cells import set_cell_size

    return set_cell_size(text, width)
