"""What the planner must know of the kernel's functions: which gather rows, which are not the same twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from iceblink.plan.late import exp

_AGGREGATE_NAMES = """
    any_value approx_count_distinct approx_quantile approx_top_k arbitrary arg_max arg_max_null arg_max_nulls_last
    arg_min arg_min_null arg_min_nulls_last argmax argmin array_agg avg bit_and bit_or bit_xor bitstring_agg
    bool_and bool_or combine_aggr corr count count_if count_star countif covar_pop covar_samp decimal_average
    entropy favg first fsum group_concat histogram histogram_exact kahan_sum kurtosis kurtosis_pop last list listagg
    lttb mad max max_by mean median min min_by mode product quantile quantile_cont quantile_disc regr_avgx regr_avgy
    regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy reservoir_quantile sem skewness stddev
    stddev_pop stddev_samp string_agg sum sum_no_overflow sumkahan var_pop var_samp variance variant_group_object
"""
_AGGREGATES = frozenset(_AGGREGATE_NAMES.split())
"""Of the kernel; sqlglot has a class for most and takes the rest for any function. A test compares with the kernel."""

_VOLATILE_NAMES = """
    current_connection_id current_query current_query_id current_transaction_id currval error gen_random_uuid
    nextval rand random setseed setval sleep_ms stats uuid uuidv4 uuidv7 vector_type write_log current_database
    current_date current_localtime current_localtimestamp current_schema current_schemas current_setting
    current_time current_timestamp get_current_time get_current_timestamp getvariable in_search_path localtime
    localtimestamp now today transaction_timestamp txid_current
"""
_VOLATILE = frozenset(_VOLATILE_NAMES.split())
"""Another value for each row, each call or each connection."""


def function_name(node: exp.Expression) -> str:
    """Return a function's name in lower case."""
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower()
    return str(node.sql_name()).lower() if isinstance(node, exp.Func) else ""


def is_aggregate(node: exp.Expression) -> bool:
    """Whether a function makes one value of many rows, where it is not over a window."""
    return isinstance(node, exp.AggFunc | exp.AnyValue) or (
        isinstance(node, exp.Anonymous) and function_name(node) in _AGGREGATES
    )


def aggregates(node: exp.Expression) -> Iterator[exp.Expression]:
    """Yield the aggregates of an expression with their FILTER, WITHIN GROUP and IGNORE NULLS, subqueries left out.

    A function over a window is none, but its arguments may have some.
    """
    if isinstance(node, exp.Query):
        return
    if isinstance(node, exp.Window):
        function = unwrapped(node.this)
        inside = [*function.iter_expressions(), *(part for part in node.iter_expressions() if part is not node.this)]
        wrapper = node.this
        while wrapper is not function:
            inside += [part for part in wrapper.iter_expressions() if part is not wrapper.this]
            wrapper = wrapper.this
        for part in inside:
            yield from aggregates(part)
    elif is_aggregate(unwrapped(node)):
        yield node
    else:
        for part in node.iter_expressions():
            yield from aggregates(part)


def unwrapped(node: exp.Expression) -> exp.Expression:
    """Return the function inside FILTER, WITHIN GROUP, IGNORE NULLS and RESPECT NULLS."""
    while isinstance(node, exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls):
        node = node.this
    return node


_CLOCK = {
    **dict.fromkeys(["now", "current_timestamp", "get_current_timestamp", "transaction_timestamp"], "TIMESTAMPTZ"),
    **dict.fromkeys(["localtimestamp", "current_localtimestamp"], "TIMESTAMP"),
    **dict.fromkeys(["current_date", "today"], "DATE"),
}


def at_one_moment(tree: exp.Query, now: datetime) -> exp.Query:
    """Return a copy in which the clock stands still: all tasks see the same `now`, in UTC as the kernel's."""

    def stopped(node: exp.Expression) -> exp.Expression:
        kind = _CLOCK.get(function_name(node))
        if kind is None or any(True for _ in node.iter_expressions()):
            return node
        text = now.isoformat(" ") if kind == "TIMESTAMPTZ" else now.replace(tzinfo=None).isoformat(" ")
        return exp.cast(exp.Literal.string(text if kind != "DATE" else text[:10]), kind)

    return tree.transform(stopped)


def changing(tree: exp.Expression) -> str | None:
    """Return the name of a function in `tree` that is not the same wherever and whenever it is called."""
    for node in tree.find_all(exp.Func):
        if function_name(node) in _VOLATILE:
            return function_name(node)
    return None
