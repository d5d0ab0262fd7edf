"""A real nginx for the tests: on PATH, or else out of Debian's package, in var/bin.

The package is downloaded and unpacked, not installed: installed, it would start a service on port 80, now and
whenever the machine starts. Its one program is enough. This takes apt-get, and root only to fetch the lists of a
machine that has none.
"""

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from emporium.environment import INSTALL_S, ROOT, SetupFailed, say

BIN = ROOT / "var" / "bin"
PACKAGES = ["nginx", "nginx-light"]  # the program is in the first, or in the second where the first is an empty shell


def find():
    """The program on PATH, or where root's programs are, or in var/bin; None when it is nowhere."""
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", str(BIN)]))


def find_or_unpack():
    """The program, unpacked if need be. Raises SetupFailed with the reason."""
    found = find()
    if found:
        return found
    if shutil.which("apt-get") is None:
        raise SetupFailed("nginx is not on PATH, and there is no apt-get")
    say(f"unpacking the program of Debian's nginx into {BIN.relative_to(ROOT)}")
    BIN.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=BIN) as folder:
        _download(folder)
        for package in Path(folder).glob("*.deb"):
            _run(["dpkg", "-x", package, folder], folder)
        program = Path(folder, "usr", "sbin", "nginx")
        _run([program, "-v"], folder)  # a library that it needs may be missing
        program.replace(BIN / "nginx")  # at once and whole, should another run do the same
    return find()


def _download(folder):
    download = ["apt-get", "-q", "-o", "Acquire::Retries=3", "download", *PACKAGES]
    try:
        _run(download, folder)
    except SetupFailed:  # no lists yet, or old ones
        _run(["apt-get", "-q", "update"], folder)
        _run(download, folder)


def _run(command, folder):
    try:
        subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=True)
    except subprocess.CalledProcessError as error:
        raise SetupFailed(f"{' '.join(map(str, command))}: {error.stderr.strip()[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupFailed(str(error)) from error
