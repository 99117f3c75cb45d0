"""Writes docs/config.md and docs/config.schema.json from the schema of the config."""

import json
from pathlib import Path

from seg_train.config.json_schema import json_schema
from seg_train.config.reference import reference_page

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    for name, content in pages().items():
        (ROOT / name).write_text(content, encoding="utf-8")
        print(f"wrote {name}")
    return 0


def pages() -> dict[str, str]:
    """Returns path below the root -> content."""
    return {
        "docs/config.md": reference_page(),
        "docs/config.schema.json": json.dumps(json_schema(), indent=2) + "\n",
    }


if __name__ == "__main__":
    raise SystemExit(main())
