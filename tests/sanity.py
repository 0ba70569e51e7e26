# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds and installs the collection as users get it, runs `ansible-test sanity` there, records each test's outcome."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import ansible_test
from collection import install
from results import Outcome, add

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".cache" / "sanity"


def prepare_home() -> Path:
    """A home of its own for ansible-test's caches, with pip from ensurepip instead of a downloaded script."""
    home = WORK / "home"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    requirements = Path(ansible_test.__file__).parent / "_internal" / "python_requirements.py"
    for version in set(re.findall(r"pip='([\d.]+)'", requirements.read_text(encoding="utf-8"))):
        script = cache / f"get_pip_{version.replace('.', '_')}.py"
        script.write_text("import ensurepip\nensurepip.bootstrap(default_pip=True)\n", encoding="utf-8")
    if not (home / ".config").is_symlink():  # pip's settings
        (home / ".config").symlink_to(Path.home() / ".config")
    return home


def run(command: list[str], collection: Path, environment: dict[str, str]) -> int:
    """Shows which test runs and what it found; all of the output, pip's too, is in .cache/sanity/log."""
    telling = re.compile(r"Running sanity test|ERROR|FATAL|See documentation")
    with (
        (WORK / "log").open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            cwd=collection,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        for line in process.stdout or ():
            log.write(line)
            if telling.match(line):
                print(f"    {line}", end="", flush=True)
    return process.returncode


def outcomes(collection: Path) -> list[Outcome]:
    found: list[Outcome] = []
    for path in sorted((collection / "tests" / "output" / "junit").glob("ansible-test-sanity-*.xml")):
        for case in ElementTree.parse(path).iter("testcase"):  # noqa: S314 - written by ansible-test just now
            failed = case.find("failure") is not None or case.find("error") is not None
            outcome = "failed" if failed else "skipped" if case.find("skipped") is not None else "passed"
            found.append({"name": path.stem.removeprefix("ansible-test-sanity-"), "outcome": outcome, "features": []})
    return found


def main() -> int:
    """Further interpreters to compile and import for: paths as arguments."""
    interpreters = WORK / "bin"
    shutil.rmtree(interpreters, ignore_errors=True)
    interpreters.mkdir(parents=True)
    for path in map(Path, sys.argv[1:]):
        (interpreters / path.name).symlink_to(path.resolve())
    environment = {**os.environ, "HOME": str(prepare_home()), "PATH": f"{interpreters}:{os.environ['PATH']}"}
    command = ["ansible-test", "sanity", "--local", "--color", "no", "--truncate", "0", "--junit"]
    # Not below the checkout: ansible-test would ask git about the files and find them ignored.
    with tempfile.TemporaryDirectory(prefix="ngfw-sanity-") as directory:
        collection = install(Path(directory))
        code = run(command, collection, environment)
        found = outcomes(collection)
    add("sanity", found or [{"name": "ansible-test sanity", "outcome": "failed", "features": []}])
    return code


if __name__ == "__main__":
    sys.exit(main())
