"""Runs one life, given as JSON: `python run_life.py '{...}'`."""

from __future__ import annotations

import sys

from tests.verify.life import Life, live

live(Life.from_json(sys.argv[1]))
