"""./tea break, mend, hold, step and play: what the buttons of the view do, from the command line (emporium/lab.py).

Imports nothing at its top that must be installed, as command.py.
"""

from emporium.command import DONE, UNREACHABLE, WRONG, Refused

NAME = "db0.., r0.. (the Redis of a shard), q or lb"


def add_to(command, add_port_base):
    """Add them to the commands of ./tea. `command` makes one, `add_port_base` gives it that option."""
    made = command("break", run_break, "kill a service of a lab; it stays dead until mended", "./tea break db2")
    made.add_argument("service", metavar="NAME", help=NAME)
    made.add_argument("--stop", action="store_true", help="rather make it hang: it is there, and does not answer")
    add_port_base(made)

    made = command("mend", run_mend, "start what was broken, or let it go on", "./tea mend db2")
    made.add_argument("service", metavar="NAME", help=NAME)
    add_port_base(made)

    for do, what in (
        ("hold", "hold back all gossip of a lab"),
        ("step", "let one record of gossip through, the one that waits longest"),
        ("play", "let gossip go on"),
    ):
        made = command(do, run_gossip, what, f"./tea {do}")
        made.set_defaults(do=do)
        add_port_base(made)


def run_break(asked):
    return carry_out(asked, "stop" if asked.stop else "kill", asked.service)


def run_mend(asked):
    return carry_out(asked, "start", asked.service)


def run_gossip(asked):
    return carry_out(asked, asked.do)


def carry_out(asked, do, service=None):
    from emporium import lab, running

    note = running.find(asked.port_base)
    if note.lab is None:
        raise Refused(WRONG, "this cluster is no lab, so nothing of it can be broken: start one with ./tea up --lab")
    try:
        print(lab.ask(note.lab, lab.Command(do, service)))
    except lab.LabRefused as refusal:
        raise Refused(WRONG, str(refusal)) from refusal
    except lab.LabGone as error:
        raise Refused(UNREACHABLE, str(error)) from error
    return DONE
