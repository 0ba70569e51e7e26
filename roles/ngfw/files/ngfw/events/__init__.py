# SPDX-License-Identifier: GPL-3.0-or-later
"""From the bytes of Suricata's logs to events, and from an event to who is behind it."""
