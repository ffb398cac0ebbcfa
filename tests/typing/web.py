"""What type checkers see of the hooks for web frameworks. Never run; see `public_api`."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from fastapi import FastAPI
from flask import Flask

from dbos import DBOS

DBOS(config={"name": "app"}, fastapi=FastAPI())
DBOS(config={"name": "app"}, flask=Flask(__name__))
DBOS(config={"name": "app"}, fastapi=None, flask=None)
DBOS(config={"name": "app"}, fastapi=Flask(__name__))  # type: ignore[arg-type]
DBOS(fastapi=FastAPI())  # type: ignore[call-arg]
