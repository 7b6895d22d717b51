"""The one test that needs a Docker Engine has it from here."""

from __future__ import annotations

from tests.support.lab_fixtures import dockerd, lab, sidecar  # noqa: F401 - fixtures
