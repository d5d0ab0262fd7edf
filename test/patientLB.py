"""The load balancer, with so much patience for its shards that no test depends on how fast the machine is.

python test/patientLB.py '<settings>'
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project root

import serverLB
from emporium import shardpeer

PATIENCE_S = 30.0

if __name__ == "__main__":
    for module in (shardpeer, serverLB):
        module.SHARD_S, module.ALL_S = PATIENCE_S, 2 * PATIENCE_S
    serverLB.main()
