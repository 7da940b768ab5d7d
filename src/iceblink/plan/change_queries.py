"""The statements of a change of rows: which rows it touches, what comes in their place, what is inserted.

In all of them the rows of the table have the name that expressions call them by. A condition that is null is not true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from iceblink.plan.changes import Clause, RowChange, column_of
from iceblink.plan.late import exp
from iceblink.plan.nodes import Plan, Scan, Tree
from iceblink.scan.place import POSITION

FILE, PLACE, ACTION = "iceblink its file", "iceblink its place", "iceblink its action"
UPDATED, DELETED, MATCHES = "iceblink updated", "iceblink deleted", "iceblink matches"
UPDATES, DELETES = 1, 2
"""Values of `ACTION`."""
_CLAUSE, _MATCHED = "iceblink clause", "iceblink matched"
_PAIRS = "iceblink pairs"

Join = Literal["", "INNER", "ANTI", "LEFT", "SEMI"]
Guard: TypeAlias = "Callable[[Clause], exp.Expression]"


def counts(change: RowChange, scan: Scan, file: str) -> list[Tree]:
    """Return statements over `scan` that give `FILE`, rows `UPDATED` and `DELETED`, and `MATCHES`, the most of a row.

    Files of which no row changes may be among the rows, or not.

    Parameters
    ----------
    change : RowChange
    scan : Scan
        Of the table, with columns of place.
    file : str
        The one that numbers files.
    """
    matched, alone = change.of("matched"), change.of("not matched by source")
    if change.source is None:
        return [_counts(_rows(change, scan), change, file, matched)]
    if change.takes_out_matches:
        return [_counts(_rows(change, scan, "SEMI"), change, file, matched)]
    found: list[Tree] = [_pair_counts(change, scan, file, matched)] if matched else []
    return [*found, _counts(_rows(change, scan, "ANTI"), change, file, alone)] if alone else found


def places(change: RowChange, scan: Scan, file: str) -> Tree:
    """Return the statement that gives `FILE` and `PLACE` in order, and `ACTION`, null for none, of the rows touched.

    A row that several rows of a source match comes as often.
    """
    matched, alone = change.of("matched"), change.of("not matched by source")
    parts: list[exp.Query] = []
    if change.source is None:
        parts.append(_where(_placed(_rows(change, scan), change, file, matched), matched))
    elif change.takes_out_matches:
        parts.append(_placed(_rows(change, scan, "SEMI"), change, file, matched))
    elif matched:
        parts.append(_placed(_rows(change, scan, "INNER"), change, file, matched))
    if change.source is not None and alone:
        parts.append(_where(_placed(_rows(change, scan, "ANTI"), change, file, alone), alone))
    whole = parts[0] if len(parts) == 1 else exp.union(*parts, distinct=False, copy=False)
    names = [_named(name) for name in (FILE, PLACE, ACTION)]
    return (
        exp.select(*names)
        .from_(_derived(whole, "places"))
        .order_by(*(exp.Ordered(this=name.copy(), nulls_first=False) for name in names[:2]))
    )


def pairs(change: RowChange, scan: Scan, file: str, columns: Sequence[str]) -> Tree:
    """Return the statement that gives `columns` of one row of the table which several rows of the source match."""
    place = [column_of(name, change.alias) for name in (file, POSITION)]
    shown = [_as(exp.AnyValue(this=column_of(name, change.alias)), name) for name in columns]
    many = exp.GT(this=exp.Count(this=exp.Star()), expression=exp.Literal.number(1))
    return _rows(change, scan, "INNER").select(*shown).group_by(*place).having(many).limit(1)


def live(scan: Scan, file: str) -> Tree:
    """Return the statement that gives `FILE` and its number of rows."""
    name = _named(file)
    count = _as(exp.Count(this=exp.Star()), MATCHES)
    return exp.select(_as(name, FILE), count).from_(_table(scan.name, "rows")).group_by(name.copy())


def rewritten(change: RowChange, scan: Scan) -> Tree:
    """Return the statement that gives the rows of `scan` as they are after the change, without those it inserts."""
    matched, alone = change.of("matched"), change.of("not matched by source")
    clauses = (*matched, *alone)
    if change.takes_out_matches:
        return _rows(change, scan, "ANTI").select(*(_as(column_of(name, change.alias), name) for name in _names(scan)))
    if change.source is not None and matched:
        rows = _rows(change, scan, "LEFT")
        guard = _marked(change)
        select = rows.select(*(_joined(change, name, clauses, guard) for name in _names(scan)))
        number = _number(clauses, guard)
    else:
        guard = _absent(change) if change.source is not None else _condition
        select = _set(change, scan, clauses, _rows(change, scan), guard)
        number = _named(_CLAUSE)
    gone = _numbers(clauses, "delete")
    if not gone:
        return select
    known = exp.Coalesce(this=number, expressions=[exp.Literal.number(0)])
    return select.where(exp.not_(exp.In(this=known, expressions=gone), copy=False), copy=False)


def moved(change: RowChange, scan: Scan) -> list[Tree]:
    """Return statements that give the rows of `scan` that are updated, as they are after the change."""
    found: list[Tree] = []
    matched, alone = change.of("matched"), change.of("not matched by source")
    if any(clause.action == "update" for clause in matched):
        chosen = _numbers(matched, "update")
        if change.source is not None:
            select = _rows(change, scan, "INNER").select(
                *(_joined(change, name, matched, _condition) for name in _names(scan))
            )
            found.append(select.where(exp.In(this=_number(matched, _condition), expressions=chosen), copy=False))
        else:
            select = _set(change, scan, matched, _where(_rows(change, scan), matched), _condition)
            found.append(select.where(exp.In(this=_named(_CLAUSE), expressions=chosen), copy=False))
    if any(clause.action == "update" for clause in alone):
        select = _set(change, scan, alone, _where(_rows(change, scan, "ANTI"), alone), _condition)
        chosen = _numbers(alone, "update")
        found.append(select.where(exp.In(this=_named(_CLAUSE), expressions=chosen), copy=False))
    return found


def inserted(change: RowChange, scan: Scan) -> Tree | None:
    """Return the statement that gives the rows to insert; None when there is no clause for that."""
    clauses = change.of("not matched")
    if not clauses or change.source is None:
        return None
    values = []
    for name in _names(scan):
        if len(clauses) == 1:
            value = clauses[0].values[name].copy()
        else:
            value = exp.Case(ifs=[_if(_condition(one), one.values[name].copy()) for one in clauses])
        values.append(_as(value, name))
    assert change.on is not None, "a merge has a condition"
    join = exp.Join(this=_table(scan.name, change.alias), kind="ANTI", on=change.on.copy())
    select = exp.select(*values).from_(_table(change.source.name, change.source_alias))
    select.append("joins", join)
    return _where(select, clauses)


def described(change: RowChange, clause: Clause, values: Sequence[exp.Expression]) -> Tree:
    """Return a statement of these values over the rows that `clause` sees, for their types."""
    if clause.of == "not matched" and change.source is not None:
        rows = exp.select().from_(_table(change.source.name, change.source_alias))
    elif clause.of == "matched" and change.source is not None:
        rows = _rows(change, change.target, "INNER")
    else:
        rows = _rows(change, change.target)
    shown = [_as(value.copy(), f"value {place}") for place, value in enumerate(values)]
    return rows.select(*shown)


def source_of(change: RowChange) -> Plan:
    """Return the source of a merge."""
    assert change.source is not None, "a merge has a source"
    return change.source


# what they are made of


def _counts(rows: exp.Select, change: RowChange, file: str, clauses: Sequence[Clause]) -> Tree:
    name = column_of(file, change.alias)
    return _where(
        rows.select(
            _as(name, FILE),
            _as(_count(clauses, UPDATES), UPDATED),
            _as(_count(clauses, DELETES), DELETED),
            _as(exp.Literal.number(1), MATCHES),
        ),
        clauses,
    ).group_by(name.copy())


def _count(clauses: Sequence[Clause], action: int) -> exp.Expression:
    own = [clause for clause in clauses if _ACTIONS[clause.action] == action]
    if len(own) == len(clauses):
        return exp.Count(this=exp.Star())
    return _count_where(_action(clauses), action) if own else exp.Literal.number(0)


def _count_where(found: exp.Expression, action: int) -> exp.Expression:
    same = exp.EQ(this=found, expression=exp.Literal.number(action))
    return exp.Count(this=exp.Case(ifs=[_if(same, exp.Literal.number(1))]))


def _pair_counts(change: RowChange, scan: Scan, file: str, clauses: Sequence[Clause]) -> Tree:
    place = [column_of(file, change.alias), column_of(POSITION, change.alias)]
    each = _rows(change, scan, "INNER").select(
        _as(place[0], FILE),
        _as(exp.Count(this=exp.Star()), MATCHES),
        _as(exp.Max(this=_action(clauses)), ACTION),
    )
    return (
        exp.select(
            _as(_named(FILE), FILE),
            _as(_count_where(_named(ACTION), UPDATES), UPDATED),
            _as(_count_where(_named(ACTION), DELETES), DELETED),
            _as(exp.Max(this=_named(MATCHES)), MATCHES),
        )
        .from_(_derived(each.group_by(*(one.copy() for one in place)), _PAIRS))
        .group_by(_named(FILE))
    )


def _placed(rows: exp.Select, change: RowChange, file: str, clauses: Sequence[Clause]) -> exp.Select:
    return rows.select(
        _as(column_of(file, change.alias), FILE),
        _as(column_of(POSITION, change.alias), PLACE),
        _as(_action(clauses), ACTION),
    )


def _set(change: RowChange, scan: Scan, clauses: Sequence[Clause], rows: exp.Select, guard: Guard) -> exp.Select:
    """Return the rows with new values, each row's clause being found once, below: it may hold subqueries."""
    names = _names(scan)
    inner = rows.select(*(_as(column_of(name, change.alias), name) for name in names))
    inner = inner.select(_as(_number(clauses, guard), _CLAUSE))
    values = []
    for name in names:
        ifs = [
            _if(exp.EQ(this=_named(_CLAUSE), expression=exp.Literal.number(place)), clause.values[name].copy())
            for place, clause in enumerate(clauses, 1)
            if name in clause.values
        ]
        old = column_of(name, change.alias)
        values.append(_as(exp.Case(ifs=ifs, default=old) if ifs else old, name))
    return exp.select(*values).from_(_derived(inner, change.alias))


def _joined(change: RowChange, name: str, clauses: Sequence[Clause], guard: Guard) -> exp.Expression:
    """Return a column's value in rows that have a row of the source beside them."""
    old = column_of(name, change.alias)
    if not any(name in clause.values for clause in clauses):
        return _as(old, name)
    ifs = [
        _if(guard(clause), clause.values[name].copy() if name in clause.values else old.copy()) for clause in clauses
    ]
    return _as(exp.Case(ifs=ifs, default=old), name)


def _condition(clause: Clause) -> exp.Expression:
    return exp.true() if clause.condition is None else exp.Paren(this=clause.condition.copy())


def _marked(change: RowChange) -> Guard:
    """Return what chooses rows beside rows of the source, or beside none."""

    def guard(clause: Clause) -> exp.Expression:
        missing: exp.Expression = exp.Is(this=column_of(_MATCHED, change.source_alias), expression=exp.null())
        here = exp.not_(missing, copy=False) if clause.of == "matched" else missing
        return here if clause.condition is None else exp.and_(here, _condition(clause), copy=False)

    return guard


def _absent(change: RowChange) -> Guard:
    """Return what chooses rows that no row of the source matches, where several may match one."""
    assert change.on is not None, "a merge has a condition"
    on = change.on
    source = source_of(change).name

    def guard(clause: Clause) -> exp.Expression:
        found = exp.select(exp.Literal.number(1)).from_(_table(source, change.source_alias)).where(on.copy())
        missing = exp.not_(exp.Exists(this=found), copy=False)
        return missing if clause.condition is None else exp.and_(missing, _condition(clause), copy=False)

    return guard


_ACTIONS = {"update": UPDATES, "delete": DELETES}


def _action(clauses: Sequence[Clause]) -> exp.Expression:
    return exp.Case(ifs=[_if(_condition(one), exp.Literal.number(_ACTIONS[one.action])) for one in clauses])


def _number(clauses: Sequence[Clause], guard: Guard) -> exp.Expression:
    """Return the number of the clause that is carried out, from 1; null for none."""
    return exp.Case(ifs=[_if(guard(one), exp.Literal.number(place)) for place, one in enumerate(clauses, 1)])


def _numbers(clauses: Sequence[Clause], action: str) -> list[exp.Expression]:
    return [exp.Literal.number(place) for place, one in enumerate(clauses, 1) if one.action == action]


def _rows(change: RowChange, scan: Scan, join: Join = "") -> exp.Select:
    """Return a SELECT of nothing yet from the table, and the source."""
    select = exp.select().from_(_table(scan.name, change.alias))
    if join:
        assert change.on is not None, "a merge has a condition"
        source = source_of(change)
        beside: exp.Expression = _table(source.name, change.source_alias)
        if join == "LEFT":
            columns = [_named(name) for name in source.schema.names]
            marked = exp.select(*columns, _as(exp.true(), _MATCHED)).from_(_table(source.name, "rows"))
            beside = _derived(marked, change.source_alias)
        kind = {"side": "LEFT"} if join == "LEFT" else {"kind": join}
        select.append("joins", exp.Join(this=beside, on=change.on.copy(), **kind))
    return select


def _where(select: exp.Select, clauses: Sequence[Clause]) -> exp.Select:
    """Return the SELECT of the rows for which some clause is carried out."""
    conditions = [clause.condition for clause in clauses]
    if None in conditions:
        return select
    return select.where(exp.or_(*(one.copy() for one in conditions if one is not None), copy=False), copy=False)


def _names(scan: Scan) -> list[str]:
    names: list[str] = scan.table.schema.names
    return names


def _if(condition: exp.Expression, value: exp.Expression) -> exp.If:
    return exp.If(this=condition, true=value)


def _as(value: exp.Expression, name: str) -> exp.Expression:
    return exp.alias_(value, name, quoted=True, copy=False)


def _named(name: str) -> exp.Column:
    return exp.column(exp.to_identifier(name, quoted=True))


def _alias(name: str) -> exp.TableAlias:
    return exp.TableAlias(this=exp.to_identifier(name, quoted=True))


def _table(name: str, alias: str) -> exp.Table:
    return exp.Table(this=exp.to_identifier(name, quoted=True), alias=_alias(alias))


def _derived(query: exp.Query, alias: str) -> exp.Subquery:
    return exp.Subquery(this=query, alias=_alias(alias))
