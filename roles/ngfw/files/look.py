# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints, as JSON, what is at each of the paths named: {PATH: "MODE OWNER GROUP SHA1"}, the last `-` for a directory.

A path with nothing there is left out. In the mode are the last twelve bits, octal, as in 0644.
"""

import grp
import hashlib
import json
import os
import pwd
import stat
import sys


def name_of(number, look_up):
    try:
        return look_up(number)[0]
    except KeyError:
        return str(number)


found = {}
for path in sys.argv[1:]:
    try:
        status = os.lstat(path)
    except OSError:
        continue
    digest = "-"
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            digest = hashlib.sha1(file.read(), usedforsecurity=False).hexdigest()
    elif not stat.S_ISDIR(status.st_mode):
        digest = "neither file nor directory"
    owner, group = name_of(status.st_uid, pwd.getpwuid), name_of(status.st_gid, grp.getgrgid)
    found[path] = f"{stat.S_IMODE(status.st_mode):04o} {owner} {group} {digest}"
print(json.dumps(found))
