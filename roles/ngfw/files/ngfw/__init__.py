# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher of `reflex.ngfw`: follows Suricata's logs and blocks in the kernel what the rules name."""

from __future__ import annotations

VERSION = "0.1.0"
