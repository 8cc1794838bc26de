"""What the JSON of an orbax item may hold, as far as it is used: types and ranges (`settings/fields.py`)."""

from __future__ import annotations

from typing import Annotated, Any, Required, TypedDict

from pi05.settings.fields import Within

Sides = Annotated[list[Annotated[int, Within(0, 2**40)]], Within(0, 32)]
ChunkSides = Annotated[list[Annotated[int, Within(1, 2**40)]], Within(0, 32)]


class Key(TypedDict, total=False):
    """One part of a leaf's path: a name, or a place in a list."""

    key: Required[str | int]


class Leaf(TypedDict, total=False):
    """One leaf of the tree."""

    key_metadata: Required[Annotated[list[Key], Within(1, 64)]]


class ItemMetadata(TypedDict, total=False):
    """`_METADATA`."""

    store_array_data_equal_to_fill_value: bool | None


class TreeMetadata(ItemMetadata, total=False):
    """`_METADATA` of an item whose tree is asked for."""

    tree_metadata: Required[dict[str, Leaf]]


class Zarr2(TypedDict, total=False):
    """`.zarray`."""

    shape: Required[Sides]
    chunks: Required[ChunkSides]


class Chunks(TypedDict, total=False):
    """The size of a chunk."""

    chunk_shape: Required[ChunkSides]


class Grid(TypedDict, total=False):
    """How an array is divided."""

    configuration: Required[Chunks]


class Zarr3(TypedDict, total=False):
    """`zarr.json`."""

    shape: Required[Sides]
    chunk_grid: Required[Grid]


ZARR: dict[str, Any] = {"zarr": Zarr2, "zarr3": Zarr3}
"""tensorstore's name of the format → what describes an array in it."""
