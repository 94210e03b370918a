"""The data plane: proxy, split, capture, and the store that everything stands on.

Imports neither ``shadow`` nor ``rollout``: with both gone it serves the last split it knew.
"""
