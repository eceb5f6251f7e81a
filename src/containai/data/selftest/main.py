"""Run the attacks of the themes that are named, in order."""

from __future__ import annotations

import importlib
import sys

import attack

for theme in sys.argv[1:]:
    importlib.import_module(theme)
attack.run_all()
