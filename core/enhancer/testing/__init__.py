"""Conformance suites: what every plugin of a kind must do, as tests that a plugin's author subclasses.

::

    from enhancer.testing.llm import LLMProviderConformance

    class TestMine(LLMProviderConformance):
        model = "mine-1"

        @pytest.fixture
        def make_provider(self):
            return lambda: Mine(MineOptions(), Context())

They need pytest, and nothing else that enhancer does not need itself.
"""
