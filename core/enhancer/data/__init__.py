"""Read tables into arrays: readers, entities, interactions and splits.

>>> from enhancer.data import read_entities, read_interactions, split_interactions, Histories
"""

from __future__ import annotations

from enhancer.data.entities import Entity, read_entities
from enhancer.data.features import FeatureColumn, ReadFeatures, read_features, read_sides, sides_of
from enhancer.data.histories import Histories, Touch
from enhancer.data.interactions import Interactions, ReadReport, read_interactions
from enhancer.data.readers import ENDINGS, TableOptions, TableReader, open_table
from enhancer.data.splits import Split, joined, split_interactions

__all__ = [
    "ENDINGS",
    "Entity",
    "FeatureColumn",
    "Histories",
    "Interactions",
    "ReadFeatures",
    "ReadReport",
    "Split",
    "TableOptions",
    "TableReader",
    "Touch",
    "joined",
    "open_table",
    "read_entities",
    "read_features",
    "read_interactions",
    "read_sides",
    "sides_of",
    "split_interactions",
]
