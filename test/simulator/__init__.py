"""A whole ring in one process: the servers' own shards, store and channels, on a Redis, a network and a clock of ours.

One seed decides everything: who asks for what, what fails, and when. So a run repeats to the bit, takes a tenth of a
second, and can stop a shard between any two of its effects. Nothing here knows how a shard does its work: it sees what
clients, operators and disks see.

    plan.py         what shall happen: drawn from a seed, a list from which steps can be left out
    world.py        what happens: time, effects, faults, events inside of events
    memoryredis.py  a Redis in memory; connection.py: how a store reaches it
    network.py      how services reach each other; queueservice.py's peer
    process.py      a shard's process; nodes.py, queuenode.py: what it runs on, start, death, start; the queue
    clients.py      what clients ask, and hear
    ledger.py       what clients were told; oracle.py: whether that was right
    run.py          one seed from its plan to its verdict
    shrink.py       the shortest plan that still fails; __main__.py: replay
"""
