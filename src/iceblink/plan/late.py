"""The door to sqlglot and Ibis, opened when first used: reading a table needs neither."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iceblink.late import Late

__all__ = [
    "exp", "ibis", "ibis_annotations", "ibis_compilers", "ibis_datatypes", "ibis_exceptions", "ibis_pyarrow",
    "predicates", "projections", "qualifying", "scopes", "simplifying", "sqlglot",
]  # fmt: skip


if TYPE_CHECKING:
    import ibis
    import ibis.backends.sql.compilers as ibis_compilers
    import ibis.common.annotations as ibis_annotations
    import ibis.common.exceptions as ibis_exceptions
    import ibis.expr.datatypes as ibis_datatypes
    import ibis.formats.pyarrow as ibis_pyarrow
    import sqlglot
    import sqlglot.optimizer.pushdown_predicates as predicates
    import sqlglot.optimizer.pushdown_projections as projections
    import sqlglot.optimizer.qualify as qualifying
    import sqlglot.optimizer.scope as scopes
    import sqlglot.optimizer.simplify as simplifying
    from sqlglot import expressions as exp
else:
    ibis = Late("ibis")
    ibis_compilers = Late("ibis.backends.sql.compilers")
    ibis_annotations = Late("ibis.common.annotations")
    ibis_exceptions = Late("ibis.common.exceptions")
    ibis_datatypes = Late("ibis.expr.datatypes")
    ibis_pyarrow = Late("ibis.formats.pyarrow")
    sqlglot = Late("sqlglot")
    predicates = Late("sqlglot.optimizer.pushdown_predicates")
    projections = Late("sqlglot.optimizer.pushdown_projections")
    qualifying = Late("sqlglot.optimizer.qualify")
    scopes = Late("sqlglot.optimizer.scope")
    simplifying = Late("sqlglot.optimizer.simplify")
    exp = Late("sqlglot.expressions")
