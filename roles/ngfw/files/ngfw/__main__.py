# SPDX-License-Identifier: GPL-3.0-or-later
"""`python3 -m ngfw`, and what /usr/bin/ngfw starts."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
