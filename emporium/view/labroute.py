"""POST /api/lab: what `./tea break` and `./tea hold` do, by a button. The launcher does it (emporium/lab.py)."""

from emporium import lab, web, wire


def add_routes(app, socket, port_base):
    """Add it to the view's App, for the cluster on this port base. `socket` is its launcher's; None: it is no lab."""

    @app.post("/api/lab")
    def carry_out():
        command = web.checked(lambda text: wire.decode(text, lab.Command), web.json_body())
        if socket is None:
            raise web.Problem(403, "this cluster is no lab, so nothing of it can be broken: ./tea up --lab starts one")
        try:
            done = lab.ask(socket, command)
        except lab.LabRefused as refusal:
            raise web.Problem(409, str(refusal)) from refusal
        except lab.LabGone as error:
            raise web.unavailable(str(error)) from error
        return web.answer({"done": done, "command": lab.typed(command, port_base)})
