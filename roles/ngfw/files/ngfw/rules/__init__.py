# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules: what an event must look like, how often, and what is then to be done. Works on plain EVE records."""
