"""What the database behind a catalog may raise."""

from __future__ import annotations

import sqlite3
import sys


def database_errors() -> tuple[type[Exception], type[Exception]]:
    """Return SQLite's own errors, and SQLAlchemy's if a catalog brought it along: no other could raise them."""
    sqlalchemy = sys.modules.get("sqlalchemy.exc")
    return sqlite3.Error, sqlite3.Error if sqlalchemy is None else sqlalchemy.SQLAlchemyError


def duplicate_errors() -> tuple[type[Exception], type[Exception]]:
    """Return those of them that say that a key is there already."""
    sqlalchemy = sys.modules.get("sqlalchemy.exc")
    return sqlite3.IntegrityError, sqlite3.IntegrityError if sqlalchemy is None else sqlalchemy.IntegrityError
