# SPDX-License-Identifier: GPL-3.0-or-later
"""What a decision does: in the kernel, in the journals, in the state that the next run finds."""
