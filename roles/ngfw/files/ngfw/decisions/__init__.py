# SPDX-License-Identifier: GPL-3.0-or-later
"""From hits to decisions: what stands in their way, what is remembered, what is waited for."""
