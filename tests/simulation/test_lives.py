"""Two lives of Mayday: one waits for the other, or follows it with other settings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.core.model import Phase
from exporter.core.plan import Outcome
from tests.simulation.field import FIRST, SECOND, own, working
from tests.support.settings import two_vpns
from tests.support.sidecar import Sidecar
from tests.support.virtual_time import VirtualClock, run_virtual

if TYPE_CHECKING:
    from pathlib import Path


def test_one_held_by_the_lock_takes_over_with_what_the_other_remembered(tmp_path: Path) -> None:
    """It touches nothing and saves nothing beside the first; when that one ends, the emergency goes on as it was."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="4", STATE_DIR=str(tmp_path))
        first = s.app
        await first.__aenter__()
        await asyncio.sleep(60)
        s.host.set_truth(SECOND, good=False)
        await asyncio.sleep(60)
        entered = s.info["entered_at"]
        assert entered is not None
        s.app = s.new_app()
        async with s.app:
            await asyncio.sleep(120)
            assert s.metric("mayday_held", reason="sibling") == 1
            assert not s.app.controller.acting
            assert any("STATE_DIR" in problem for problem in s.app.controller.snapshot.problems)
            await first.__aexit__()
            await asyncio.sleep(100)
            assert s.metric("mayday_held", reason="sibling") == 0
            assert s.app.controller.snapshot.problems == ()
            assert s.info["entered_at"] == entered, "what the first remembered was taken over"
            s.host.set_truth(SECOND, good=True)
            await asyncio.sleep(300)
            assert s.phase(SECOND) is Phase.HEALTHY
            assert working(s.host, FIRST, SECOND) == 4

    run_virtual(main)


def test_what_changed_in_the_settings_is_told_and_surplus_goes_by_one_call(tmp_path: Path) -> None:
    """Lowered, MIN_REPLICAS removes nothing by itself; asked to, Mayday removes what is above the shares."""

    async def main(clock: VirtualClock) -> None:
        s = Sidecar(clock, MIN_REPLICAS="10", STATE_DIR=str(tmp_path))
        async with s.app:
            await asyncio.sleep(60)
        for life in range(2):
            s.settings = two_vpns(MIN_REPLICAS="4", MAX_REPLICAS="20", STATE_DIR=str(tmp_path))
            s.app = s.new_app()
            async with s.app:
                await asyncio.sleep(60)
                told = [r.message for r in await s.app.journal.query() if r.reason == "settings_changed"]
                assert len(told) == 1, "told once, in the first life with the new settings"
                assert "MIN_REPLICAS 10 -> 4" in told[0]
                if life:
                    would = await s.app.cleanup.remove_surplus(None, dry_run=True)
                    assert [outcome for _, outcome in would] == [Outcome.DRY_RUN] * 6
                    assert working(s.host, FIRST, SECOND) == 10
                    done = await s.app.cleanup.remove_surplus(FIRST)
                    assert [outcome for _, outcome in done] == [Outcome.OK] * 3
                    assert (len(own(s.host, FIRST)), len(own(s.host, SECOND))) == (2, 5)
                    await s.app.cleanup.remove_surplus(None)
                    await asyncio.sleep(300)
                    assert working(s.host, FIRST, SECOND) == 4
                else:
                    assert working(s.host, FIRST, SECOND) == 10

    run_virtual(main)
