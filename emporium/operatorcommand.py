"""./tea backup, restore and recover: what the operator of a running cluster can do, from the command line.

Imports nothing at its top that must be installed, as command.py.
"""

from datetime import UTC, datetime

from emporium.command import DONE, FAILED, WRONG, Refused, call


def add_to(command, add_port_base):
    """Add them to the commands of ./tea. `command` makes one, `add_port_base` gives it that option."""
    made = command("backup", run_backup, "write what a running cluster holds to a file", "./tea backup teas.jsonl.gz")
    made.add_argument("file", metavar="FILE", help="where to; gzip when it ends in .gz")
    add_port_base(made)

    made = command(
        "restore",
        run_restore,
        "merge a backup into a running cluster; what is newer stays",
        "./tea restore teas.jsonl.gz",
    )
    made.add_argument("file", metavar="FILE", help="what ./tea backup has written")
    add_port_base(made)

    made = command(
        "recover",
        run_recover,
        "let a shard that recovers do without some that it waits for; says what that may lose",
        "./tea recover db2 --without db3",
    )
    made.add_argument("shard", metavar="SHARD", help="the one that recovers, such as db2")
    made.add_argument(
        "--without",
        action="append",
        required=True,
        metavar="NAME",
        help="a shard, or q, that it is to wait for no longer; may be repeated",
    )
    add_port_base(made)


def run_backup(asked):
    from emporium import backup, backupfile, progress, running
    from serverLB import primary_of

    note = running.find(asked.port_base)
    try:
        backupfile.require_writable(asked.file)
        with progress.shown("backing up") as told:
            records = backup.collect(backup.shards_of(note), primary_of, told=told)
            told(f"writing {len(records)} teas")
            made = datetime.now(UTC).isoformat(timespec="seconds")
            backupfile.write(asked.file, note.ndb, made, records)
    except (backup.Failed, backupfile.BackupRefused) as error:
        raise Refused(FAILED, str(error)) from error
    print(f"{_teas([record.value for record in records])} from {note.ndb} shards are in {asked.file}")
    return DONE


def run_restore(asked):
    from emporium import backup, backupfile, progress, running
    from serverLB import primary_of

    note = running.find(asked.port_base)
    try:
        with progress.shown("restoring") as told:
            told(f"reading {asked.file}")
            header, values = backupfile.read(asked.file)  # all of it, before anything is changed
            backup.give_back(
                backup.shards_of(note), values, primary_of, lambda done: told(f"{done} of {len(values)} teas")
            )
    except (backup.Failed, backupfile.BackupRefused) as error:
        raise Refused(FAILED, str(error)) from error
    print(f"{_teas([value for _tea, value in values])} of {header.made} are merged into {note.ndb} shards")
    print("Newer ratings, and what was deleted since, stay as they are.")
    return DONE


def run_recover(asked):
    from emporium import running

    note = running.find(asked.port_base)
    shards = [f"db{index}" for index in range(note.ndb)]
    others = [name for name in (*shards, "q") if name != asked.shard]
    if asked.shard not in shards:
        raise Refused(WRONG, f"there is no shard {asked.shard}; there are {', '.join(shards)}")
    for name in asked.without:
        if name not in others:
            raise Refused(WRONG, f"{asked.shard} waits for no {name}; it can be told to do without {', '.join(others)}")
    without = list(dict.fromkeys(asked.without))
    told, _headers = call(asked, "POST", "/recover", {"without": without}, service=asked.shard)
    print(f"{asked.shard} is {told['state']}")
    print(f"What this may lose: {told['may-lose']}")
    return DONE


def _teas(values):
    deleted = sum(1 for value in values if not value.living)
    return f"{len(values)} teas" + (f" ({deleted} of them deleted)" if deleted else "")
