# ruff: noqa: INP001 - a script, not a package
"""Write the dashboards: ``python grafana/build.py``, or with ``--check`` only compare.

The JSON in ``grafana/dashboards`` is what Grafana loads; this script is where it is changed. A
test fails when the two differ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import dashboard_gateway
import dashboard_rollout
import dashboard_shadow_and_judge

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS = {
    "rollout": dashboard_rollout.build,
    "gateway": dashboard_gateway.build,
    "shadow-and-judge": dashboard_shadow_and_judge.build,
}


def main(arguments: list[str]) -> int:
    """Write every dashboard, or with ``--check`` return 1 if one is not as it would be written."""
    stale = []
    for name, build in DASHBOARDS.items():
        path = FOLDER / f"{name}.json"
        text = json.dumps(build(), indent=2, ensure_ascii=False) + "\n"
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    if stale:
        verb = "differs from" if "--check" in arguments else "written from"
        print(f"{', '.join(stale)}: {verb} grafana/build.py")  # noqa: T201 - says what it did
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
