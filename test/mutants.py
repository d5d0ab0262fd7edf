"""Bugs to plant into the code, each of which some test must find: P-13, the suite itself works.

`./tea test --mutants` tries them, see mutantrun.py. A test that finds one knows nothing of it. Each is one change of
one file: `old` stands there exactly once.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """`tests` are the files of which one is to find it, in this order."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple


def mutant(name, file, old, new, *tests):
    return Mutant(name, file, old, new, tuple(f"test/test_{each}.py" for each in tests))


# The fifteen of P-13. Some can be planted in more than one way.
REQUIRED = [
    mutant(
        "no MULTI",
        "emporium/store.py",
        '*_, results = round_trip(connection, [("MULTI",), *commands, ("EXEC",)])',
        "results = round_trip(connection, commands)",
        "store",
    ),
    mutant(
        "no MULTI, on a guarded shard",
        "emporium/store.py",
        """*_, results, _, fields = round_trip(
            connection, [("MULTI",), *commands, step, ("EXEC",), ("WATCH", fence.KEY), STANDING]
        )""",
        """*results, _, fields = round_trip(
            connection, [*commands, step, ("WATCH", fence.KEY), STANDING]
        )""",
        "fence",
    ),
    mutant(
        "no outbox: value first, digest later",
        "emporium/store.py",
        """        if changes.remembered:
            commands""",
        """        if changes.remembered and commands:
            self._change(commands)
            commands = []
        if changes.remembered:
            commands""",
        "store",
    ),
    mutant(
        "ack before merge: an answer although Redis failed",
        "serverDB.py",
        """                if has_writes:
                    raise
""",
        "",
        "step",
    ),
    mutant(
        "ack before merge: the queue forgets what it gives out",
        "emporium/channel.py",
        "                cursor = wire.Cursor(self.life, records[-1].offset)\n",
        "                cursor = wire.Cursor(self.life, records[-1].offset)\n"
        "                self._finish_up_to(cursor.offset)\n",
        "queue",
    ),
    mutant("HEAD pops", "serverQ.py", 'rule.methods.discard("HEAD")', "pass", "queue"),
    mutant(
        "builtin hash",
        "serverLB.py",
        'int.from_bytes(hashlib.sha256(tea.encode()).digest()[:8], "big") % ndb',
        "hash(tea) % ndb",
        "http",
    ),
    mutant(
        "first-wins tie",
        "emporium/siblings.py",
        "if (key := _canonical(sibling)) not in known}",
        "if (key := _canonical(sibling)) not in known\n"
        "        and all(sibling.clock != each.clock for each in value.siblings)}",
        "siblings",
    ),
    mutant(
        "no tombstone",
        "emporium/shard.py",
        'return Written(merge(before, [tombstone(before)]), "stored")',
        'return Written(UNRATED, "stored")',
        "session",
    ),
    mutant(
        "everysec is not noticed",
        "emporium/store.py",
        "            if found.decode() != value:\n",
        "            if not found:\n",
        "fence",
    ),
    mutant(
        "no recovery state",
        "serverDB.py",
        """            if self.store.recovering:
                return self""",
        """            if False:
                return self""",
        "recovery",
    ),
    mutant(
        "no hop limit: a record of no shard circulates",
        "emporium/shard.py",
        'if outcome == "changed" or place.knows(primary):',
        "if True:",
        "shard",
    ),
    mutant(
        "no hop limit: a record goes on where it came from",
        "emporium/shard.py",
        '    if primary == place.name:\n        return "home", None\n',
        "",
        "shard",
    ),
    mutant(
        "no timeout",
        "emporium/peers.py",
        "handle.setopt(pycurl.TIMEOUT_MS, _ms(deadline_s))",
        "handle.setopt(pycurl.TIMEOUT_MS, _ms(20))",
        "queue",
    ),
    mutant(
        "unquoted key",
        "emporium/shardpeer.py",
        "{quote(operation.tea, safe='')}",
        "{operation.tea}",
        "http",
    ),
    mutant(
        "clear before send",
        "serverDB.py",
        """            self.queue_watch.failed(error)
            return 0, NOTHING""",
        """            self.queue_watch.failed(error)
            return len(due), NOTHING""",
        "step",
    ),
    mutant("float order", "emporium/siblings.py", "fsum(ratings) / len", "sum(ratings) / len", "siblings"),
    mutant(
        "limit on the repair path",
        "emporium/shard.py",
        "+ len(told.siblings) > MOST_HELD",
        "+ len(told.siblings) > MOST_SIBLINGS",
        "shard",
    ),
]

MORE = [
    # ---- a second process, and a memory that is not what it was
    mutant(
        "no WATCH at the load",
        "emporium/store.py",
        'WATCHING = (("UNWATCH",), ("WATCH", fence.KEY))',
        'WATCHING = (("UNWATCH",), ("PING",))',
        "fence",
    ),
    mutant(
        "no WATCH for the second change of a step",
        "emporium/store.py",
        'step, ("EXEC",), ("WATCH", fence.KEY), STANDING]',
        'step, ("EXEC",), ("PING",), STANDING]',
        "fence",
    ),
    mutant(
        "a new connection counts as watched",
        "emporium/store.py",
        """                    if is_own:
                        self._is_watching = False
""",
        "",
        "fence",
    ),
    mutant(
        "the epoch is not compared",
        "emporium/fence.py",
        "if found.epoch > self.mine.epoch:",
        "if False:",
        "fence",
    ),
    mutant(
        "an epoch is used twice",
        "emporium/fence.py",
        "epoch = max(found.epoch, noted.epoch, first) + 1",
        "epoch = found.epoch + 1",
        "fence",
    ),
    mutant("the step is not noted", "emporium/fence.py", "self._note.write_step(standing)", "pass", "fence"),
    mutant("the step is not compared", "emporium/fence.py", "if found.step < noted.step:", "if False:", "fence"),
    mutant("the life is not compared", "emporium/fence.py", "if found.life != noted.life:", "if False:", "fence"),
    mutant(
        "a torn note is trusted",
        "emporium/fence.py",
        "    if noted.life is None:\n",
        "    if False:\n",
        "fence",
    ),
    mutant(
        "the claim is not noted",
        "emporium/fence.py",
        "        self._note.write(standing)\n",
        "",
        "fence",
    ),
    # ---- values that were damaged
    mutant(
        "the checksum is not compared",
        "emporium/stored.py",
        "if check is not None and check != check_of(",
        "if check is None and check != check_of(",
        "fence",
        "recovery",
    ),
    mutant(
        "the checksum does not know its tea",
        "emporium/stored.py",
        "(tea.encode(), *fields)), digest",
        "fields), digest",
        "fence",
    ),
    mutant(
        "gossip alone mends what is damaged",
        "serverDB.py",
        "replaces_damaged=settings.data_dir is None,",
        "replaces_damaged=True,",
        "recovery",
    ),
    mutant(
        "what is stored is looked over only once",
        "emporium/replica.py",
        "        while True:\n",
        "        while not self._is_known:\n",
        "recovery",
    ),
    # ---- recovery
    mutant(
        "recovery ends without the successor",
        "emporium/recovery.py",
        "        must_hear = True\n",
        "        must_hear = False\n",
        "recovery_hears",
    ),
    mutant(
        "a successor that recovers itself is enough",
        "emporium/recovery.py",
        "must_hear = must_hear and other.is_recovering",
        "must_hear = False",
        "recovery_hears",
    ),
    mutant(
        "recovery does not read the channel's log",
        "emporium/recovery.py",
        "texts = self._shard.queue.held(self._shard.place.name)",
        "texts = []",
        "durability",
    ),
    mutant(
        "recovery leaves news to the gossip that is gone",
        "emporium/recovery.py",
        "round_with(other, self._replica, skips_news=False)",
        "round_with(other, self._replica)",
        "round",
    ),
    mutant(
        "strong reads while it recovers",
        "serverDB.py",
        "if isinstance(each, Read) and each.is_weak else reason",
        "if isinstance(each, Read) else reason",
        "recovery",
    ),
    # ---- deletes
    mutant(
        "a tombstone loses ties",
        "emporium/siblings.py",
        "if rival.rating is None and sibling.rating is not None and",
        "if rival.rating is not None and sibling.rating is None and",
        "siblings",
    ),
    mutant(
        "a tombstone does not subsume all that it saw",
        "emporium/siblings.py",
        "return Sibling(None, value.clock)",
        "return Sibling(None, value.siblings[0].clock)",
        "siblings",
    ),
    mutant(
        "a tombstone counts in the mean",
        "emporium/siblings.py",
        "ratings = [sibling.rating for sibling in siblings if sibling.rating is not None]",
        "ratings = [sibling.rating or 0 for sibling in siblings]",
        "siblings",
        "session",
    ),
    mutant(
        "a deleted tea hides its clock",
        "emporium/shardanswers.py",
        "clock = came_to.clock.asDict() if came_to.is_buried else None",
        "clock = None",
        "session",
    ),
    # ---- gossip
    mutant(
        "the cursor is ahead of the effect",
        "serverDB.py",
        "cursor = heard.cursor.back_by(left - heard.left)",
        "cursor = heard.cursor",
        "step",
    ),
    mutant(
        "the digest is told in the wrong order",
        "emporium/store.py",
        '("LMOVE", DIGEST, DUE, "LEFT", "RIGHT")',
        '("LMOVE", DIGEST, DUE, "RIGHT", "RIGHT")',
        "store",
    ),
    mutant(
        "coalescing keeps the older record",
        "emporium/shard.py",
        """    if place.coalesces:
        _forget_older(changes, digest, record)
""",
        """    if place.coalesces and digest.texts and (record.primary, record.key) in digest.texts:
        return
""",
        "waiting",
    ),
    mutant(
        "coalescing drops what other shards wrote",
        "emporium/shard.py",
        "if changes.remembered[i][:2] == record[:2]:",
        "if changes.remembered[i][1] == record[1]:",
        "waiting",
    ),
    mutant(
        "what is due has no bound",
        "serverDB.py",
        "if found.due_count > MOST_DUE and self.place.coalesces:",
        "if False:",
        "waiting",
    ),
    mutant(
        "nothing is said at SIGTERM",
        "serverDB.py",
        "        app.at_end = shard.say_all\n",
        "",
        "durability",
    ),
    mutant(
        "what was told is not forgotten",
        "emporium/store.py",
        '            commands.append(("LTRIM", DUE, sent, -1))\n',
        "            pass\n",
        "store",
    ),
    # ---- anti-entropy
    mutant(
        "anti-entropy gives, and takes nothing",
        "emporium/antientropy.py",
        "exchanged.changed + replica.absorb(exchanged.records)",
        "exchanged.changed",
        "round",
    ),
    mutant(
        "anti-entropy takes, and gives nothing",
        "emporium/antientropy.py",
        "other.exchange(records[:fitting],",
        "other.exchange([],",
        "round",
    ),
    mutant(
        "the fingerprint is not updated after anti-entropy",
        "emporium/store.py",
        """        for tea, check in checks.items():
            self._learned(tea, check, is_news)""",
        """        for tea, check in checks.items():
            if is_news:
                self._learned(tea, check, is_news)""",
        "round",
    ),
    mutant(
        "a fingerprint is trusted after a change that was not answered",
        "emporium/store.py",
        "                self._learned(tea, None, False)\n",
        "                pass\n",
        "round",
    ),
    mutant(
        "what may have changed is not read again",
        "emporium/replica.py",
        "LOOKED_OVER, self._unsure)",
        "LOOKED_OVER)",
        "round",
    ),
    mutant(
        "news are never forgotten",
        "emporium/fingerprints.py",
        "            if changed > ends:\n",
        "            if changed:\n",
        "antientropy",
    ),
    mutant(
        "a shard of another ring is compared with",
        "emporium/replicaroutes.py",
        "        if told.ndb != ndb:\n",
        "        if False:\n",
        "antientropy",
    ),
    mutant(
        "only the next shard is compared with, dead or not",
        "emporium/upkeep.py",
        """                log.debug("not compared: %s", error, extra={"event": "not-compared"})
""",
        """                log.debug("not compared: %s", error, extra={"event": "not-compared"})
                break
""",
        "round",
    ),
    # ---- what is told of it
    mutant(
        "a label of the metrics is a path",
        "emporium/web.py",
        "request.environ[ROUTE] = request.url_rule.rule",
        "request.environ[ROUTE] = request.path",
        "metrics",
    ),
    mutant(
        "a channel's name is a label",
        "emporium/measures.py",
        "label = name if OF_A_SHARD.fullmatch(name) else OTHER",
        "label = name",
        "metrics",
    ),
    mutant(
        "what is printed is no JSON",
        "emporium/jsonlog.py",
        "sys.stderr = Printed(service, sys.__stderr__)",
        "pass",
        "jsonlog",
    ),
    # ---- durability 2
    mutant(
        "durability 2 acknowledges before the queue has it",
        "serverDB.py",
        "elif self.place.durability > 1 and (why := self._why_unsafe(found)):",
        "elif self.place.durability > 2 and (why := self._why_unsafe(found)):",
        "durability",
    ),
    mutant(
        "durability 2 waits for the digest",
        "emporium/shard.py",
        "    if place.durability > 1 and place.has_neighbours:\n",
        "    if place.durability > 2 and place.has_neighbours:\n",
        "durability",
    ),
    mutant(
        "durability 2 trusts any queue",
        "emporium/safequeue.py",
        'SYNCS_FIRST = ("group", "always")',
        'SYNCS_FIRST = ("group", "always", "interval", "never", None)',
        "durability",
    ),
    # ---- the queue and its log
    mutant(
        "the queue answers before its log is synced",
        "emporium/commitlog/writer.py",
        """        if self._syncs_first:
            try:
                segment.sync()""",
        """        if self._syncs_first:
            try:
                pass""",
        "shelf",
        "commitlog_powerloss",
    ),
    mutant(
        "the queue drops what nobody is done with",
        "emporium/channel.py",
        "self.log.truncate(self._claims.floor - 1)",
        "self.log.truncate(self.log.next_offset - 1)",
        "channel",
        "queue_crash",
    ),
    mutant(
        "an old cursor is taken for one of a new channel",
        "emporium/channel.py",
        "if cursor is not None and cursor.life == self.life and",
        "if cursor is not None and",
        "queue",
    ),
    # ---- the load balancer
    mutant(
        "a write that may be done counts as not done",
        "serverLB.py",
        '(web.unavailable if operation.method == "GET" else web.unsure)',
        "web.unavailable",
        "http",
    ),
    mutant("X-Clock is ignored", "serverLB.py", "    if not seen.clock:\n", "    if True:\n", "session"),
    mutant(
        "retries have no budget",
        "emporium/guard.py",
        "            if self._saved < 1:\n",
        "            if False:\n",
        "waiting",
    ),
    mutant(
        "no breaker",
        "emporium/guard.py",
        "        if trouble := self._watch.trouble:\n",
        "        if trouble := None:\n",
        "guard",
    ),
    mutant(
        "a weak read asks one shard only",
        "serverLB.py",
        "if left_s <= 0 or not retries.spend():",
        "if True:",
        "http",
    ),
    mutant(
        "a batch is sent twice",
        "emporium/gather.py",
        "            outcomes = list(self._send(operations))\n",
        "            self._send(operations)\n            outcomes = list(self._send(operations))\n",
        "gather",
    ),
    mutant(
        "a recovery ends though the memory was lost again meanwhile",
        "emporium/recovery.py",
        "            if self._shard.store.standing.life != self._replica.life:",
        "            if False:",
        "recovery_anew",
    ),
    mutant(
        "a record that waits may be altered on the disk",
        "emporium/recordcheck.py",
        "    return text if check == _check_of(text) else stored\n",
        "    return text if check else stored\n",
        "fence",
    ),
    mutant(
        "an older process goes on writing the note",
        "emporium/fence.py",
        'before, new = self._fd, f"{self._path}.new"',
        "before, new = os.dup(self._fd), self._path",
        "fence",
    ),
]

# In what lets a request be followed.
MORE += [
    mutant(
        "gossip says whose write it is though nobody asked for that",
        "emporium/shard.py",
        "request if place.tells_requests else None",
        "request",
        "request_ids",
    ),
    mutant(
        "an id of a request may be anything",
        "emporium/requestid.py",
        "given if here.is_named else os.urandom(8).hex()",
        "given or os.urandom(8).hex()",
        "request_ids",
    ),
    mutant(
        "whoever looks at what is stored takes gossip",
        "emporium/shardanswers.py",
        "value = shard.store.peek([tea])[tea]",
        "value = shard.step([Read(tea)])[0]",
        "trace",
    ),
    mutant(
        "a shard that is asked alone does not learn that a request is not recorded",
        "emporium/requestid.py",
        "    if here.sampled is not None:\n",
        "    if False:\n",
        "sampling",
    ),
    mutant(
        "a request that is not recorded keeps its id in what travels together",
        "emporium/sampling.py",
        "return None if here.sampled == NO else here.request",
        "return here.request",
        "sampling",
    ),
    mutant(
        "those who hurry leave nothing to record for those who want to find their request",
        "emporium/sampling.py",
        "spend(0 if here.is_named else FOR_NAMED)",
        "spend(0)",
        "sampling",
    ),
    mutant(
        "those who wait for events may hold all threads",
        "emporium/traceroutes.py",
        "            with waiters:\n",
        "            if True:\n",
        "trace",
    ),
]

# In the Python client.
MORE += [
    mutant(
        "the last try tells, though an earlier one may have been carried out",
        "emporium/client/calls.py",
        "if unsure is None or unsure is error:",
        "if True:",
        "client_calls",
    ),
    mutant(
        "a delete that may have been done is sent again",
        "emporium/client/calls.py",
        'return method == "PUT" and isinstance(error, Unsure)',
        "return isinstance(error, Unsure)",
        "client_calls",
    ),
    mutant(
        "threads of one node observe at the same time",
        "emporium/client/store.py",
        "with self._one_at_a_time(tea, ends, request_id):",
        "if True:",
        "client_calls",
    ),
    mutant(
        "a session reads weakly behind a deletion",
        "emporium/client/session.py",
        "weak=weak and mark is None",
        "weak=weak",
        "client",
    ),
]

# In the view and the lab.
MORE += [
    mutant(
        "a page of somebody else may change what is stored",
        "emporium/view/door.py",
        'if origin is not None and origin.removeprefix("http://") != host:',
        "if False:",
        "view_parts",
    ),
    mutant(
        "a name that only resolves to this machine is answered",
        "emporium/view/door.py",
        "    if not is_ours(host, is_open):\n",
        "    if False:\n",
        "view_parts",
    ),
    mutant(
        "a page that has fallen behind goes on with a gap",
        "emporium/view/hub.py",
        "            if first > seen + 1:\n                return None\n",
        "            seen = max(seen, first - 1)\n",
        "view_parts",
    ),
    mutant(
        "a state may end the script that it is in",
        "emporium/view/files.py",
        'wire.encode(state).replace(b"<", b"\\\\u003c")',
        "wire.encode(state)",
        "view_parts",
    ),
    mutant(
        "the ring is asked though nobody looks",
        "emporium/view/hub.py",
        "            self._changed.wait_for(lambda: self._pages or self._is_closed)\n",
        "            self._changed.wait_for(lambda: True)\n",
        "view_parts",
    ),
    mutant(
        "a channel that begins anew is not held",
        "emporium/channels.py",
        "                if self.is_held:\n                    channel.hold()\n",
        "",
        "lab",
    ),
    mutant(
        "a shard compares though gossip is held",
        "emporium/upkeep.py",
        "if self._period_s and not self.is_held else 0",
        "if self._period_s else 0",
        "lab",
    ),
    mutant(
        "what was broken on purpose is started again",
        "emporium/supervisor.py",
        "        self._broken.add(service.name)\n",
        "        pass\n",
        "lab",
    ),
    mutant(
        "a queue that is started anew is not held any more",
        "emporium/lab.py",
        """json.dumps({**settings, "lab": "held" if is_held else True})""",
        """json.dumps({**settings, "lab": True})""",
        "lab",
    ),
]

MUTANTS = [*REQUIRED, *MORE]
