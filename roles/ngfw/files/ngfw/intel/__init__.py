# SPDX-License-Identifier: GPL-3.0-or-later
"""Reputation: what lists and providers say about an address, asked beside the loop, and what follows from it."""
