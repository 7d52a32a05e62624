"""Rewards for reinforcement learning on language models: the version and nothing else.

A trainer imports `reward_service.client` into its own process; this module must stay free of SymPy and FastAPI.
"""

__version__ = "0.1.0"
