# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the watcher's code, sent as one JSON file {"events/eve.py": TEXT, ...}, in the place of what is there.

It is written and compiled beside the code in use and then renamed, so nobody ever sees half a version, and no file of
an older one stays behind. Argument: the directory that holds the package, and code.json.
"""

from __future__ import annotations

import compileall
import json
import os
import shutil
import sys
from pathlib import Path


def main(directory: Path) -> None:
    bundle, package = directory / "code.json", directory / "ngfw"
    new, old = directory / "ngfw.new", directory / "ngfw.old"
    os.umask(0o022)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    for name, text in json.loads(bundle.read_text(encoding="utf-8")).items():
        file = new / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    if not compileall.compile_dir(new, ddir=str(package), quiet=1):
        sys.exit("The code does not compile with this Python; it was left as it was. Is this a supported distribution?")
    if package.exists():
        package.rename(old)
    new.rename(package)
    shutil.rmtree(old, ignore_errors=True)
    bundle.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
