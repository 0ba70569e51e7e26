# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as users get it: built, and installed from its archive.

collection.py DIRECTORY    install it below DIRECTORY/ansible_collections, which is made or must be empty of it
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def install(target: Path) -> Path:
    """Returns where it is. Built from the files that git knows or would add, not from what else lies about."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    with tempfile.TemporaryDirectory(prefix="ngfw-build-") as directory:
        work = Path(directory)
        source = work / "source"
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).exists():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
        galaxy = ["ansible-galaxy", "collection"]
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(target)}
        subprocess.check_call([*galaxy, "build", "--output-path", str(work), str(source)], env=environment)
        (archive,) = work.glob("*.tar.gz")
        command = [*galaxy, "install", "--no-deps", "--offline", "-p", str(target), str(archive)]
        subprocess.check_call(command, env=environment, stdout=subprocess.DEVNULL)
    return target / "ansible_collections" / "reflex" / "ngfw"


if __name__ == "__main__":
    install(Path(sys.argv[1]))
