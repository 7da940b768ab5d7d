"""SQL text: parsed, its tables found in the lake, its time travel resolved."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from iceblink.errors import PlanError, SqlError
from iceblink.plan.late import exp, sqlglot
from iceblink.plan.nodes import Plan
from iceblink.plan.row_lineage import asks_lineage, with_lineage
from iceblink.plan.understood import bare, check_whole, unbracketed

DIALECT = "duckdb"


@dataclass(frozen=True)
class Version:
    """``FOR VERSION AS OF`` a snapshot id, tag or branch, or ``FOR TIMESTAMP AS OF`` a time."""

    kind: str
    value: str


Resolve = Callable[[str, Version | None], Plan]


@dataclass(frozen=True)
class QueryText:
    """A query inside of a text, for errors show all of that.

    Parameters
    ----------
    text : str
    start : int
        Where the query begins.
    gap : tuple of (int, int)
        From where to where is something that is no part of it: ``WITH ... INSERT INTO t SELECT ...``.
    """

    text: str
    start: int = 0
    gap: tuple[int, int] = (0, 0)

    @property
    def alone(self) -> str:
        """The query where it is in the text, and blanks around it."""
        parts = (0, self.start), (self.start, self.gap[0]), self.gap, (max(self.start, self.gap[1]), len(self.text))
        outside, first, gap, rest = (self.text[begin:end] for begin, end in parts)
        return _blank(outside) + first + _blank(gap if first else "") + rest


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def parse(query: QueryText, resolve: Resolve) -> tuple[exp.Query, Mapping[str, Plan]]:
    """Parse one SELECT and replace the tables it names by inputs.

    Parameters
    ----------
    query : QueryText
        In DuckDB's dialect, with Iceberg's time travel.
    resolve : callable
        Given a dotted name and a version, returns the plan that reads it, or raises.

    Returns
    -------
    tuple of (sqlglot Query, mapping of str to Plan)
        The tree, and the inputs it names.

    Raises
    ------
    SqlError
        The text is not one SELECT statement; the position is shown.
    """
    tree = _one_query(query)
    return tree, named_inputs([tree], resolve)


def named_inputs(trees: Iterable[exp.Expression], resolve: Resolve) -> Mapping[str, Plan]:
    """Replace the tables that trees name by inputs, in place, and return these; one named twice is read once.

    Columns may be written with the whole name of their table: ``ns.t.id``. A table has columns of row lineage where a
    query asks for one of its.
    """
    plans: dict[tuple[str, Version | None], Plan] = {}
    inputs: dict[str, Plan] = {}
    forest = list(trees)
    tables = [table for tree in forest for table in _outside_tables(tree)]
    _shorten(forest, {".".join(part.name.lower() for part in table.parts) for table in tables if not table.alias})
    for table in tables:
        asked = ".".join(part.name for part in table.parts), _version(table)
        plan = plans.get(asked) or resolve(*asked)
        plans[asked] = plan  # named twice, a table is read at one snapshot
        if asks_lineage(table):
            plan = with_lineage(plan, table)
        inputs[plan.name] = plan
        alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name, quoted=True))
        table.args.pop("version", None)
        table.set("catalog", None)
        table.set("db", None)
        table.set("this", exp.to_identifier(plan.name, quoted=True))
        table.set("alias", alias)
    return inputs


def _shorten(trees: Iterable[exp.Expression], names: Collection[str]) -> None:
    """Leave the namespace out of columns that are written behind one of these full names of tables, in place."""
    for column in (column for tree in trees for column in tree.find_all(exp.Column)):
        if column.args.get("db"):
            *before, _ = [part.name.lower() for part in column.parts]
            if ".".join(before) in names:
                column.set("db", None)
                column.set("catalog", None)


def one_statement(given: QueryText) -> exp.Expression:
    """Parse one statement of any kind.

    Raises
    ------
    SqlError
        With the position.
    """
    text, query = given.text, given.alone
    try:
        statements = [statement for statement in sqlglot.parse(query, read=DIALECT) if statement is not None]
    except sqlglot.errors.ParseError as error:
        first = error.errors[0]
        what = str(first.get("description") or "cannot be parsed").rstrip(". ")
        column = (first.get("col") or 0) - len(first.get("highlight") or "") + 1
        raise SqlError(what, point_at(text, first.get("line"), column), _spelling(query)) from error
    except sqlglot.errors.TokenError as error:
        raise SqlError(str(error).split("\n")[0], point_at(text, None, None), "is a quote left open?") from error
    if len(statements) != 1:
        where = point_at(text, None, None)
        raise SqlError(f"expected one statement, got {len(statements)}", where, "call sql() once for each")
    (statement,) = statements
    return unbracketed(statement)


def _one_query(query: QueryText) -> exp.Query:
    statement = bare(one_statement(query))
    if isinstance(statement, exp.Values | exp.Subquery):
        statement = exp.select("*").from_(statement)
    if not isinstance(statement, exp.Query):
        words = type(statement).__name__.upper() if isinstance(statement, exp.Pivot | exp.DML | exp.DDL) else "this"
        raise SqlError(
            f"{words} is not a query",
            query.text.strip().split("\n")[0],
            "name the values: SELECT * FROM t PIVOT (sum(x) FOR k IN ('a', 'b'))"
            if isinstance(statement, exp.Pivot)  # its columns would depend on the rows: no schema without reading
            else "lake.sql() takes queries and statements; Dataset.sql() a query of `this`",
        )
    check_whole(statement, query.text)
    return statement


def table_functions(tree: exp.Expression) -> list[exp.Expression]:
    """Return the calls that give rows beside tables, such as ``read_parquet(...)``."""
    return [table.this for table in tree.find_all(exp.Table) if isinstance(table.this, exp.Func)]


def _outside_tables(tree: exp.Expression) -> list[exp.Table]:
    """Return the table references that are neither CTEs nor table functions such as ``range(...)``."""
    return [
        table
        for table in tree.find_all(exp.Table)
        if isinstance(table.this, exp.Identifier | exp.Dot) and not _names_a_cte(table)
    ]


def _names_a_cte(table: exp.Table) -> bool:
    """Whether an enclosing WITH defines the (undotted) name; names compare as SQL does, ignoring case."""
    if table.args.get("db"):
        return False
    name = table.name.lower()
    inside = {id(table)}
    node = table.parent
    while node is not None:
        inside.add(id(node))
        with_ = node.args.get("with_")
        for cte in with_.expressions if with_ is not None else ():
            own_body = id(cte) in inside
            if cte.alias.lower() == name and (not own_body or with_.args.get("recursive")):
                return True
            if own_body:
                break  # a CTE sees only those before it
        node = node.parent
    return False


def _version(table: exp.Table) -> Version | None:
    version = table.args.get("version")
    if version is None:
        return None
    kind = str(version.this).upper()
    value = version.args.get("expression")
    while isinstance(value, exp.Cast | exp.Paren):
        value = value.this
    if version.args.get("kind") != "AS OF" or not isinstance(value, exp.Literal | exp.Column):
        raise SqlError(
            f"cannot travel to {version.sql(DIALECT)}",
            hint="write FOR VERSION AS OF 123 (or 'tag') or FOR TIMESTAMP AS OF '2026-01-31 12:00:00'",
        )
    return Version("timestamp" if kind == "TIMESTAMP" else "version", value.name)


def point_at(text: str, line: int | None, col: int | None) -> str:
    """Return the line of `text` with a caret under the column (both from 1)."""
    if not line or not col:
        return text.strip().split("\n")[0]
    lines = text.split("\n")
    shown = lines[min(line, len(lines)) - 1]
    return f"line {line}: {shown}\n        {' ' * (len(f'line {line}: ') + max(col - 1, 0))}^"


def point_at_word(text: str, word: str, start: int = 0) -> str:
    """Return the first line of `text` that has `word` after `start`, with a caret under it."""
    found = re.compile(rf"(?<![\w.]){re.escape(word)}(?!\w)", re.IGNORECASE)
    match = found.search(text, start) if word else None
    if match is None:
        return text.strip().split("\n")[0]
    return point_at_place(text, match.start())


def point_at_place(text: str, place: int) -> str:
    """Return the line of `text` that has its character number `place`, from 0, with a caret under that."""
    return point_at(text, text.count("\n", 0, place) + 1, place - (text.rfind("\n", 0, place) + 1) + 1)


def pointed(error: PlanError, query: QueryText) -> PlanError:
    """Return an error of a generated statement as one that shows the user's own."""
    if error.where.startswith("line "):  # it does
        return error
    name = next((part for part in re.findall(r"'([^']+)'", error.what) if part in query.text), "")
    where = point_at_word(query.text, name, query.start) if name or not error.where else error.where
    return type(error)(error.what, where, error.hint)


_WORDS = ("select", "from", "where", "group", "order", "having", "limit", "join", "union", "with")


def _spelling(text: str) -> str:
    """Suggest a keyword where a word is one letter off; empty when nothing is."""

    for word in re.findall(r"[a-z_]+", text.lower()):
        near = difflib.get_close_matches(word, _WORDS, n=1, cutoff=0.75)
        if near and word not in _WORDS and word not in ("orders", "joins"):
            return f"did you mean {near[0].upper()} for {word!r}?"
    return ""


def file_query(reader: str, paths: list[str], options: Mapping[str, bool | str]) -> exp.Query:
    """Return ``SELECT * FROM reader([paths], option = true)``: files that the kernel reads itself."""
    files = exp.Array(expressions=[exp.Literal.string(path) for path in paths])
    named = [exp.EQ(this=exp.to_identifier(name), expression=exp.convert(value)) for name, value in options.items()]
    call = exp.Table(this=exp.Anonymous(this=reader, expressions=[files, *named]))
    return exp.select("*").from_(call)


def widened_query(source: str, missing: Mapping[str, exp.Expression]) -> exp.Query:
    """Return ``SELECT *, value AS name``: columns that a source lacks."""
    added = [exp.alias_(value, name, quoted=True) for name, value in missing.items()]
    return exp.select("*", *added).from_(_table(source))


def sorted_query(source: str, sort_by: Sequence[str]) -> exp.Query:
    """Return ``SELECT * ... ORDER BY`` for a table's sort order, in the words of `Lake.create`."""
    keys = []
    for word in sort_by:
        nulls_first = word.endswith(" nulls first")
        rest = word.removesuffix(" nulls first").removesuffix(" nulls last")
        descending = rest.endswith(" desc")
        if rest == word:
            nulls_first = not descending  # Iceberg's default
        column = exp.column(exp.to_identifier(rest.removesuffix(" desc"), quoted=True))
        keys.append(exp.Ordered(this=column, desc=descending, nulls_first=nulls_first))
    return exp.select("*").from_(_table(source)).order_by(*keys)


@dataclass(frozen=True)
class Assigned:
    """A column of a source under another name, cast to a type of the kernel if there is one."""

    source: str
    name: str
    cast: str | None = None


def assigned_query(source: str, columns: Sequence[Assigned], constants: Mapping[str, exp.Expression]) -> exp.Query:
    """Return ``SELECT CAST(a AS type) AS x, b AS y, 1 AS z``."""
    chosen = []
    for one in columns:
        value: exp.Expression = exp.column(exp.to_identifier(one.source, quoted=True))
        if one.cast is not None:
            value = exp.cast(value, exp.DataType.build(one.cast, dialect=DIALECT))
        chosen.append(exp.alias_(value, one.name, quoted=True))
    fixed = [exp.alias_(value.copy(), name, quoted=True) for name, value in constants.items()]
    return exp.select(*chosen, *fixed).from_(_table(source))


def constant(value: str | float | bool | bytes | None, kind: str) -> exp.Expression:
    """Return ``CAST(value AS kind)``; bytes are the text that the kernel reads them from."""
    if isinstance(value, bytes):
        value = "".join(f"\\x{byte:02X}" for byte in value)
    return exp.cast(exp.convert(value), exp.DataType.build(kind, dialect=DIALECT))


def renamed_query(tree: exp.Query, names: Sequence[str]) -> exp.Query:
    """Return ``SELECT * FROM (tree) AS given(names)``: columns by their places, whatever they are called."""
    columns = [exp.to_identifier(name, quoted=True) for name in names]
    alias = exp.TableAlias(this=exp.to_identifier("given"), columns=columns)
    return exp.select("*").from_(exp.Subquery(this=tree, alias=alias))


def numbered_query(source: str, part: str, by: Sequence[str], parts: int) -> exp.Query:
    """Return ``SELECT *, hash(by) % parts AS part``: equal keys get equal numbers."""
    names = [exp.column(exp.to_identifier(name, quoted=True)) for name in by]
    number = exp.Mod(this=exp.Anonymous(this="hash", expressions=names), expression=exp.Literal.number(parts))
    whole = exp.cast(number, exp.DataType.build("BIGINT"))
    return exp.select("*", exp.alias_(whole, part, quoted=True)).from_(_table(source))


def unused(name: str, taken: Collection[str]) -> str:
    """Return `name`, made longer until it is no column's; SQL takes upper and lower case for the same."""
    lowered = {other.lower() for other in taken}
    while name in lowered:
        name += "_"
    return name


def union_query(sources: Sequence[str], columns: Sequence[str], distinct: bool = False) -> exp.Query:
    """Return the rows of `sources` under each other, columns in this order."""
    names = [exp.column(exp.to_identifier(name, quoted=True)) for name in columns]
    first, *rest = [exp.select(*(name.copy() for name in names)).from_(_table(source)) for source in sources]
    tree: exp.Query = first
    for select in rest:
        tree = exp.union(tree, select, distinct=distinct, copy=False)
    return tree


def _table(name: str) -> exp.Table:
    return exp.Table(this=exp.to_identifier(name, quoted=True))
