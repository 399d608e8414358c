from typing import ClassVar

from enhancer.testing.store import StoreConformance
from enhancer_plugins.stores.lmdb import LMDBStore
from enhancer_plugins.stores.sqlite import SQLiteStore


class TestLMDB(StoreConformance):
    store_class = LMDBStore
    options: ClassVar = {"initial_size_mb": 1}  # small, so that the map grows during the tests


class TestSQLite(StoreConformance):
    store_class = SQLiteStore
