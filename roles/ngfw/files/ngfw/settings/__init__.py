# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file: read, checked and explained."""
