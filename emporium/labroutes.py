"""What a service offers to a lab, which `./tea up --lab` starts: gossip held back, and let through record by record.

    POST /lab/hold, /lab/play, /lab/step        the queue
    POST /lab/hold, /lab/play                   a shard: its comparisons with the others

Without the setting `lab` there is nothing behind these paths: 404. The body is a JSON object, {}: so a page of a
stranger, which may post no JSON, holds up nothing.
"""

from emporium import web, wire
from emporium.trace import told_by


def add_to_queue(app, channels, lab):
    """Add them to the queue's App; `lab` is that setting."""
    if lab == "held":
        channels.hold()
    _add(app, lab, channels.hold, channels.play, lambda: state_of(channels))

    @app.post("/lab/step")
    def step():
        _asked(lab)
        if not channels.is_held:
            raise web.Problem(409, "nothing is held back: POST /lab/hold comes first")
        stepped = channels.step()
        if stepped is None:
            return web.answer({"channel": None, "tea": None, **state_of(channels)})
        channel, record = stepped
        return web.answer({"channel": channel, "tea": told_by(record.value).get("tea"), **state_of(channels)})


def add_to_shard(app, upkeep, lab):
    """Add them to a shard's App. `upkeep` is None for one that compares nothing."""

    def set_held(is_held):
        if upkeep:
            upkeep.is_held = is_held

    if lab == "held":
        set_held(True)
    _add(app, lab, lambda: set_held(True), lambda: set_held(False), lambda: {"held": bool(upkeep and upkeep.is_held)})


def state_of(channels):
    """What GET /status of a queue says of it."""
    return {"held": channels.is_held, "let_through": channels.let_through}


def _add(app, lab, hold, play, state):
    @app.post("/lab/hold", endpoint="lab_hold")
    def hold_back():
        _asked(lab)
        hold()
        return web.answer(state())

    @app.post("/lab/play", endpoint="lab_play")
    def play_on():
        _asked(lab)
        play()
        return web.answer(state())


def _asked(lab):
    if not lab:
        raise web.Problem(404, "this is no lab: it was started without the setting lab")
    web.checked(wire.decode_object, web.json_body())
