"""Which output columns are input columns unchanged: they keep their full type, tensors and nullability included."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import pyarrow as pa

from iceblink.plan.late import exp

Fields = dict[str, pa.Field | None]

_WIDENED = {kind: pa.int32() for kind in (pa.int8(), pa.int16(), pa.uint8(), pa.uint16())}
"""What the kernel's results have instead: Iceberg has no smaller integers."""


def restored(bound: pa.Schema, tree: exp.Query, inputs: Mapping[str, pa.Schema]) -> pa.Schema:
    """Give the columns of `bound` that pass through `tree` unchanged the type they had.

    The kernel knows no tensors and no fixed-size binary, and says nothing of nullability. What cannot be
    followed keeps the kernel's type and is nullable, which is always true.
    """
    found = _outputs(tree, {name.lower(): schema for name, schema in inputs.items()}, {}) or {}
    return pa.schema([_restored_field(field, found.get(field.name.lower())) for field in bound])


def _restored_field(field: pa.Field, origin: pa.Field | None) -> pa.Field:
    if origin is None or not _same_values(origin.type, field.type):
        return field
    return pa.field(field.name, origin.type, origin.nullable)


def _same_values(full: pa.DataType, bound: pa.DataType) -> bool:
    """Whether the kernel's `bound` is what it makes of `full`."""
    if bound in (full, _WIDENED.get(full)):
        return True
    if isinstance(full, pa.FixedShapeTensorType):
        if not _same_values(full.value_type, getattr(bound, "value_type", None)):
            return False
        of_its_length = pa.types.is_fixed_size_list(bound) and bound.list_size == prod(full.shape)
        return bool(of_its_length or pa.types.is_list(bound))
    if pa.types.is_fixed_size_binary(full):
        return bool(pa.types.is_binary(bound))
    if pa.types.is_struct(full) and pa.types.is_struct(bound):
        return full.num_fields == bound.num_fields and all(
            ours.name == theirs.name and _same_values(ours.type, theirs.type)
            for ours, theirs in zip(full, bound, strict=True)
        )
    if pa.types.is_list(full) and pa.types.is_list(bound):
        return _same_values(full.value_type, bound.value_type)
    return bool(
        pa.types.is_map(full)
        and pa.types.is_map(bound)
        and _same_values(full.key_type, bound.key_type)
        and _same_values(full.item_type, bound.item_type)
    )


def _outputs(tree: exp.Expression, inputs: Mapping[str, pa.Schema], outer: Mapping[str, Fields]) -> Fields | None:
    """Return output name to origin (None where computed), or None where the tree cannot be followed."""
    if not isinstance(tree, exp.Select | exp.Union):
        return None
    ctes = dict(outer)
    with_ = tree.args.get("with_")
    for cte in with_.expressions if with_ is not None else ():
        ctes[cte.alias.lower()] = _outputs(cte.this, inputs, ctes) or {}
    if isinstance(tree, exp.Union):
        return None if tree.args.get("by_name") else _of_both(tree, inputs, ctes)
    sources = _sources(tree, inputs, ctes)
    if sources is None:
        return None
    group = tree.args.get("group")
    grouping_sets = group is not None and any(group.args.get(key) for key in ("rollup", "cube", "grouping_sets"))
    outputs: Fields = {}
    for projection in tree.expressions:
        for name, field in _projected(projection, sources):
            outputs[name.lower()] = field.with_nullable(True) if field is not None and grouping_sets else field
    return outputs


def _of_both(tree: exp.Union, inputs: Mapping[str, pa.Schema], ctes: Mapping[str, Fields]) -> Fields | None:
    """Return what both sides have, column by column; null where one of them may be."""
    left, right = (_outputs(side.unnest(), inputs, ctes) for side in (tree.left, tree.right))
    if left is None or right is None or len(left) != len(right):
        return None
    return {
        name: one.with_nullable(one.nullable or other.nullable)
        if one is not None and other is not None and one.type == other.type
        else None
        for (name, one), other in zip(left.items(), right.values(), strict=True)
    }


def _sources(tree: exp.Select, inputs: Mapping[str, pa.Schema], ctes: Mapping[str, Fields]) -> dict[str, Fields] | None:
    from_ = tree.args.get("from_")
    if from_ is None:
        return None
    joins: list[exp.Join] = tree.args.get("joins") or []
    nodes = [from_.this, *(join.this for join in joins if join.kind not in ("SEMI", "ANTI"))]
    sides = [""] + [join.side for join in joins if join.kind not in ("SEMI", "ANTI")]
    sources: dict[str, Fields] = {}
    for index, (node, side) in enumerate(zip(nodes, sides, strict=True)):
        fields = _of_source(node, inputs, ctes)
        if fields is None:
            return None
        if side in ("LEFT", "FULL") or any(later in ("RIGHT", "FULL") for later in sides[index + 1 :]):
            fields = {name: field.with_nullable(True) if field is not None else None for name, field in fields.items()}
        sources[node.alias_or_name.lower()] = fields
    return sources


def _of_source(node: exp.Expression, inputs: Mapping[str, pa.Schema], ctes: Mapping[str, Fields]) -> Fields | None:
    if isinstance(node, exp.Subquery):
        return _outputs(node.this, inputs, ctes)
    if not isinstance(node, exp.Table):
        return None
    name = node.name.lower()
    if name in inputs:
        return {field.name.lower(): field for field in inputs[name]}
    return ctes.get(name)


def _projected(node: exp.Expression, sources: Mapping[str, Fields]) -> list[tuple[str, pa.Field | None]]:
    star = node.this if isinstance(node, exp.Column) else node
    if isinstance(star, exp.Star):
        if any(star.args.values()):  # EXCLUDE, REPLACE, RENAME
            return []
        named = node.args.get("table")
        chosen = [sources.get(node.table.lower(), {})] if named else sources.values()
        return [item for fields in chosen for item in fields.items()]
    inner = node.this if isinstance(node, exp.Alias) else node
    name = node.alias_or_name
    if not isinstance(inner, exp.Column):
        return [(name, None)]
    wanted = inner.name.lower()
    candidates = [sources.get(inner.table.lower(), {})] if inner.table else [s for s in sources.values() if wanted in s]
    field = candidates[0].get(wanted) if len(candidates) == 1 else None
    return [(name, field)]
