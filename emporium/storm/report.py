"""One HTML file that shows a storm: what was checked, operations and latency over time, and traces of what is wrong.

Self-contained: its pictures are inline SVG, and it names no address.
"""

from html import escape
from math import log10

from emporium.storm.history import FAIL, OK, UNKNOWN, by_tea
from emporium.storm.judge import GOOD, WRONG
from emporium.storm.plan import KILL, STOP

MOST_TRACES = 20
AROUND_S, MOST_LINES = 3.0, 80  # of a trace
WIDTH, HEIGHT, LEFT = 1100, 160, 60
COLOURS = {OK: "#4c9a6a", FAIL: "#d9a441", UNKNOWN: "#b5493b"}
SHADES = {KILL: "#b5493b", STOP: "#5b6fa8"}
LINK_SHADE = "#8a6fb0"
LATENCIES_MS = (1, 10, 100, 1000)
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1160px;margin:2em auto;padding:0 1em;color:#222;background:#fdfcf9}
table{border-collapse:collapse}td,th{padding:.2em .8em .2em 0;text-align:left;vertical-align:top}
.good{color:#2d7a4c}.wrong{color:#b5493b}.invalid{color:#a8760f}svg{width:100%;height:auto}text{font-size:11px;fill:#555}
pre{background:#f3f0e8;padding:.8em;overflow-x:auto;font-size:12px}mark{background:#f6c9bf}
"""


def write(evidence, verdict, seed):
    """The text of the file."""
    span_s = max([evidence.minutes * 60, *(each.end for each in evidence.operations)])
    name = {GOOD: "good", WRONG: "wrong"}.get(verdict.code, "invalid")
    parts = [
        f"<h1>A storm of {evidence.minutes:g} minutes, seed {seed}: <span class={name}>{name}</span></h1>",
        *(f"<p class=invalid>Invalid: {escape(reason)}.</p>" for reason in verdict.invalid),
        "<h2>What was checked</h2>",
        _checks(verdict),
        "<h2>Operations in each second</h2>",
        "<p>Green succeeded, yellow surely did nothing, red is unknown. Shaded are faults: red kills, blue stops, "
        "violet links.</p>",
        _throughput(evidence, span_s),
        "<h2>Latency in each second</h2><p>The median and the slowest of 100, in ms.</p>",
        _latency(evidence, span_s),
        _traces(evidence, verdict),
        "<h2>Faults</h2>",
        _faults(evidence),
    ]
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>Storm {seed}: {name}</title><style>{STYLE}</style>"
    return head + "\n".join(parts) + "</html>\n"


def _checks(verdict):
    rows = []
    for what, how_many, findings in verdict.checked:
        judged = f"<b class=wrong>wrong, {len(findings)} times</b>" if findings else "<b class=good>good</b>"
        rows.append(f"<tr><td>{escape(what)}<td>{escape(how_many)}<td>{judged}")
    return f"<table>{''.join(rows)}</table>"


def _throughput(evidence, span_s):
    seconds = [dict.fromkeys(COLOURS, 0) for _ in range(int(span_s) + 1)]
    for operation in evidence.operations:
        seconds[int(operation.begin)][operation.outcome] += 1
    most = max(sum(each.values()) for each in seconds) or 1
    bars = []
    for second, counts in enumerate(seconds):
        base = HEIGHT
        for outcome, colour in COLOURS.items():
            high = counts[outcome] / most * HEIGHT
            if high:
                base -= high
                x, wide = _x(second, span_s), max(0.5, _x(1, span_s) - LEFT - 0.3)
                bars.append(f"<rect x={x:.1f} y={base:.1f} width={wide:.1f} height={high:.1f} fill='{colour}' />")
    return _picture(_shades(evidence, span_s) + bars + [_level(0, most), _level(HEIGHT, 0)], span_s)


def _latency(evidence, span_s):
    seconds = {}
    for operation in evidence.operations:
        seconds.setdefault(int(operation.begin), []).append((operation.end - operation.begin) * 1000)
    lines = []
    for share, colour in ((0.5, "#2d7a4c"), (0.99, "#333")):
        points = []
        for second, took in sorted(seconds.items()):
            ms = sorted(took)[min(len(took) - 1, int(len(took) * share))]
            points.append(f"{_x(second, span_s):.1f},{_y(ms):.1f}")
        lines.append(f"<polyline points='{' '.join(points)}' fill=none stroke='{colour}' />")
    return _picture(_shades(evidence, span_s) + lines + [_level(_y(ms), ms) for ms in LATENCIES_MS], span_s)


def _picture(parts, span_s):
    step_s = max(5, round(span_s / 16 / 5) * 5)
    for at_s in range(0, int(span_s) + 1, step_s):
        parts.append(f"<text x={_x(at_s, span_s):.1f} y={HEIGHT + 14}>{at_s} s</text>")
    return f"<svg viewBox='0 -8 {WIDTH} {HEIGHT + 30}'>{''.join(parts)}</svg>"


def _shades(evidence, span_s):
    shades = []
    for each in evidence.happened:
        x = _x(each.began_s, span_s)
        over_s = max(filter(None, (each.began_s, each.ended_s, each.back_s)))
        wide = max(1.0, _x(over_s, span_s) - x)
        colour = SHADES.get(each.fault.what, LINK_SHADE)
        title = escape(f"{each.fault.what} {each.fault.target} at {each.began_s:.1f} s")
        box = f"x={x:.1f} y=0 width={wide:.1f} height={HEIGHT} fill='{colour}' fill-opacity=0.18"
        shades.append(f"<rect {box}><title>{title}</title></rect>")
    return shades


def _x(at_s, span_s):
    return LEFT + at_s / span_s * (WIDTH - LEFT)


def _y(ms):
    """On a scale of powers of ten, from 0.1 ms to 10 s."""
    return HEIGHT * (1 - (log10(min(10_000, max(0.1, ms))) + 1) / 5)


def _level(y, value):
    return f"<text x=0 y={y + 4:.1f}>{value}</text><path d='M{LEFT} {y:.1f}H{WIDTH}' stroke='#ddd' />"


def _traces(evidence, verdict):
    if not verdict.findings:
        return ""
    teas = by_tea(evidence.operations)
    shown = _one_of_each_first(verdict.findings)[:MOST_TRACES]
    parts = [f"<h2>What is wrong</h2><p>{len(verdict.findings)} findings, {len(shown)} of them here.</p>"]
    for finding in shown:
        parts.append(
            f"<h3 class=wrong>({escape(finding.rule)}) {escape(finding.tea)}</h3><p>{escape(finding.words)}</p>"
        )
        if finding.tea:
            parts.append(f"<pre>{_trace(finding, teas.get(finding.tea, []), evidence)}</pre>")
    return "".join(parts)


def _one_of_each_first(findings):
    """The findings so ordered that the first ones of each rule come before the second ones."""
    seen = {}
    ranked = []
    for finding in findings:
        seen[finding.rule] = seen.get(finding.rule, 0) + 1
        ranked.append((seen[finding.rule], finding))
    return [finding for _, finding in sorted(ranked, key=lambda each: each[0])]


def _trace(finding, operations, evidence):
    """All operations on the tea around the one at fault, and the faults; without one, the last operations."""
    wrong = finding.operation
    near = operations
    if wrong:
        near = [each for each in near if each.end > wrong.begin - AROUND_S and each.begin < wrong.end + AROUND_S]
    lines = [(each.begin, _line(each, each is wrong)) for each in near]
    lines.sort()
    if wrong and len(lines) > MOST_LINES:
        place = next(i for i, (begin, _) in enumerate(lines) if begin >= wrong.begin)
        lines = lines[max(0, place - MOST_LINES // 2) : place + MOST_LINES // 2]
    lines = lines[-MOST_LINES:]
    if lines:
        first, last = lines[0][0], lines[-1][0]
        for each in evidence.happened:
            if first - 1 < each.began_s < last + 1:
                lines.append((each.began_s, f"{each.began_s:10.3f}            -- {_fault_words(each)}"))
    return "\n".join(line for _, line in sorted(lines))


def _line(operation, is_wrong):
    what = f"c{operation.client} {operation.what}"
    told = str(operation.written or "")
    if operation.is_ok and operation.what in ("read", "weak"):
        told = "[" + "; ".join(map(str, operation.seen)) + "]"
    asked = f" asked for {operation.session}" if operation.session else ""
    text = f"{operation.begin:10.3f} {operation.end:10.3f} {what:<10} {operation.outcome:<8}{told}{asked}"
    return f"<mark>{escape(text)}</mark>" if is_wrong else escape(text)


def _faults(evidence):
    rows = ["<tr><th>at, s<th>what<th>on<th>until, s<th>answers again, s<th>hit"]
    for each in evidence.happened:
        fault = each.fault
        delay = f" by {fault.delay_s:g} s" if fault.delay_s else ""
        cells = (f"{each.began_s:.2f}", fault.what + delay, fault.target, _time(each.ended_s), _time(each.back_s))
        hit = "yes" if each.has_hit else "<b class=invalid>no</b>"
        rows.append(f"<tr><td>{'<td>'.join(map(escape, cells))}<td>{hit}")
    return f"<table>{''.join(rows)}</table>"


def _fault_words(each):
    return escape(f"{each.fault.what} {each.fault.target} until {_time(each.ended_s)} s")


def _time(at_s):
    return "" if at_s is None else f"{at_s:.2f}"
