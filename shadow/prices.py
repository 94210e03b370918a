"""What tokens cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars per million tokens, which is micro-dollars per token."""

    input: float = 0.0
    output: float = 0.0

    def microusd(self, input_tokens: int, output_tokens: int) -> int:
        """Return the price in micro-dollars, rounded up."""
        return -int(-(self.input * input_tokens + self.output * output_tokens) // 1)

    def dollars(self, input_tokens: int, output_tokens: int) -> float:
        """Return the price in dollars, not rounded."""
        return (self.input * input_tokens + self.output * output_tokens) / 1_000_000
