"""Where the models of the tests run: the CPU, or what TREEAGENT_TEST_DEVICE names, such as cuda."""

from __future__ import annotations

import os

DEVICE = os.environ.get("TREEAGENT_TEST_DEVICE", "cpu")
