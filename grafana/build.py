"""Builds grafana/dashboards/*.json: `python -m grafana.build`; `--check` only tells whether they are up to date."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.internals import internals
from grafana.overview import overview

FOLDER = Path(__file__).parent / "dashboards"


def built() -> dict[Path, str]:
    """The text of every file."""
    pages = {"mayday-overview.json": overview(), "mayday-internals.json": internals()}
    return {
        FOLDER / name: json.dumps(page.document(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"
        for name, page in pages.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where a file would change")
    options = parser.parse_args()
    stale = [path for path, text in built().items() if not path.is_file() or path.read_text() != text]
    if options.check:
        for path in stale:
            print(f"{path} is not what the code builds; run: python -m grafana.build")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for path, text in built().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
