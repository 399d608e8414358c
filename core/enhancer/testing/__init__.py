"""Conformance suites: tests for every plugin of a kind, which plugin authors subclass.

::

    from enhancer.testing.llm import LLMProviderConformance

    class TestMine(LLMProviderConformance):
        model = "mine-1"

        @pytest.fixture
        def make_provider(self):
            return lambda: Mine(MineOptions(), Context())

They need pytest in addition to the dependencies of enhancer.
"""
