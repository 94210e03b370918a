"""How a local model (transformers and torch) is loaded and batched."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from gateway.settings_values import Duration, Section

__all__ = ["LocalModelSettings"]


class LocalModelSettings(Section):
    """A sequence-classification model in a folder on this machine; never fetched from a hub."""

    path: Path = Field(description="Folder with config.json, tokenizer and weights as safetensors.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto, cpu, cuda or cuda:N; auto takes a GPU where there is one.",
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Number format of the weights.")
    batch_size: int = Field(16, ge=1, le=1024, description="Most texts in one forward pass.")
    batch_wait: Duration = Field(
        0.01, le=1, description="Seconds that a text waits for others to fill a batch."
    )
    max_queue: int = Field(
        1024, ge=1, description="Texts that wait for the model; those who bring more wait."
    )
    max_tokens: int = Field(
        4096, ge=16, description="Longest text in tokens; a longer one is left unscored, never cut."
    )
