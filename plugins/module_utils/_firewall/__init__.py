# SPDX-License-Identifier: GPL-3.0-or-later
"""The enforcement library of reflex.ngfw: holds blocks and whitelist of one chain in the kernel."""

import sys

# Before all that an older Python cannot read: its own complaint tells nobody what to do.
if sys.version_info < (3, 9):  # noqa: UP036
    raise ImportError(
        f"Python 3.9 or newer is needed on the managed host, this is {sys.version_info[0]}.{sys.version_info[1]} "
        f"({sys.executable}); install one, and let ansible_python_interpreter name it"
    )
