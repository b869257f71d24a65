"""Write the page of checked models from the JSON output of `lmri check`.

lmri check MODEL --json > result.json
python tools/checked_models.py result.json ... > docs/checked-models.md
"""

import json
import sys
from pathlib import Path
from typing import Any

HEAD = """# Models that were checked

Each row is a model with trained weights on which `lmri check` was run ([list of checks](how-to/check.md)). The page
of [architectures](architectures.md) lists model classes, which were tested as small models with random weights.

To add your model, run `lmri check MODEL`, and open an issue with the form *Model report*: paste the table, and name the
model with its revision on the hub.

| model | class, precision, device | passed | failed | not applicable or not done | difference in batches | versions |
|---|---|---|---|---|---|---|
"""


def row(result: dict[str, Any]) -> str:
    """Return the row of one model."""
    model, _, rest = result["about"]["model"].partition(" (")
    checks = result["checks"]
    failed = [check["check"] for check in checks if check["result"] == "FAILED"]
    others = [check["check"] for check in checks if check["result"].startswith("not")]
    batches = next(check for check in checks if check["check"].startswith("recording in batches"))
    difference = batches["detail"].removeprefix("largest relative difference ").partition(" of ")[0]
    versions = ", ".join(f"{name} {result['about'][name]}" for name in ("lmri", "torch", "transformers"))
    n_passed = sum(check["result"] == "passed" for check in checks)
    cells = (model, rest.rstrip(")"), str(n_passed), "; ".join(failed) or "none", "; ".join(others) or "none")
    return f"| {' | '.join((*cells, difference, versions))} |"


if __name__ == "__main__":
    results = [json.loads(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:]]
    sys.stdout.write(HEAD + "\n".join(row(result) for result in results) + "\n")
