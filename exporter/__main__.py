"""`python -m exporter` is `mayday`."""

import sys

from exporter.cli import main

sys.exit(main())
