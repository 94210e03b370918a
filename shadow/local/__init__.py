"""Local models: sequence classifiers and reward models through transformers and torch."""

from __future__ import annotations

from shadow.local.model import Chat, Item, LocalModel, LocalModelFailed, Scored

__all__ = ["Chat", "Item", "LocalModel", "LocalModelFailed", "Scored"]
