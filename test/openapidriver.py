"""Runs schemathesis once for each service, in one process: to load it takes as long as a hundred cases.

    python test/openapidriver.py '{"lb": ["run", "http://127.0.0.1:2500/openapi.json", ...], ...}' FOLDER

What it says of a service is in FOLDER/lb.txt, with its exit code in the last line.
"""

import contextlib
import json
import sys
from pathlib import Path

from schemathesis.cli import schemathesis

for name, arguments in json.loads(sys.argv[1]).items():
    with (Path(sys.argv[2]) / f"{name}.txt").open("w") as said, contextlib.redirect_stdout(said):
        try:
            code = schemathesis(arguments, standalone_mode=False)
        except SystemExit as end:
            code = end.code
        print(code or 0)
