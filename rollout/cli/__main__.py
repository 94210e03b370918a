"""``python -m rollout.cli`` is ``coalmine``."""

from __future__ import annotations

from rollout.cli import main

if __name__ == "__main__":
    main()
