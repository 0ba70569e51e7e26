# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher as a running process: one loop, and what it has to keep an eye on."""
