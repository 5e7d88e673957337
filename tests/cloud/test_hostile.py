"""The attack on a server in its tiny profile, and the published table against its record."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from cloud import hostile
from cloud.hostile_clients import HOLDERS, STRANGERS, Target
from edgespeech.lattice.codec import Vocabulary

SPREAD = hostile.usable_cores() is not None and len(hostile.usable_cores() or ()) > 1


def test_honest_requests_are_answered_under_attack() -> None:
    record = hostile.run(hostile.PROFILES["tiny"])
    asked = [one for found in record["rounds"] for one in found["asked"]]
    assert len(asked) >= 2
    assert [one for one in asked if one["problem"] is not None] == []
    assert record["sigterm_s"] < 60  # it ended by itself
    assert "every kind" in hostile.table(record)


def test_each_kind_attacks() -> None:
    together = hostile.rounds(together=False)
    assert [holder for holder, _ in together] == list(HOLDERS)
    assert {stranger for _, stranger in together} == set(STRANGERS)
    assert hostile.rounds(together=True) == [(*HOLDERS, *STRANGERS)]


def test_the_last_core_is_the_attackers() -> None:
    assert hostile.cores_for({5, 2, 7}) == hostile.Cores(server=(2, 5), attackers=(7,))
    assert hostile.cores_for({3}) == hostile.Cores(server=(3,), attackers=(3,))
    assert hostile.cores_for(None) == hostile.Cores(server=(), attackers=())
    assert (
        "the attackers had core 7 alone, and the server, its models and the honest client cores 2, 5, "
        in (hostile.cores_for({5, 2, 7}).note)
    )
    for shared in ({3}, None):
        assert "the attackers shared the server's cores and gave way to it" in hostile.cores_for(shared).note


@pytest.mark.skipif(not SPREAD, reason="one core, or a system that binds nothing to cores")
def test_processes_are_where_the_record_says() -> None:
    before = hostile.usable_cores()
    cores = hostile.cores_for(before)
    with hostile.on(cores.server):
        told = subprocess.check_output([sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"])
        with hostile._attacked(Target(1, ("t",), Vocabulary()), [], 0.1, cores) as attackers:
            assert attackers.pid is not None
            assert psutil.Process(attackers.pid).cpu_affinity() == list(cores.attackers)
            assert os.sched_getaffinity(0) == set(cores.server)
    assert told.decode().strip() == str(set(cores.server))
    assert os.sched_getaffinity(0) == before


def test_the_page_shows_the_newest_record() -> None:
    if not hostile.published():
        pytest.skip("no record yet")
    page = hostile.PAGE.read_text(encoding="utf-8")
    assert page == hostile.rendered(page, hostile.newest())
    assert hostile.table(hostile.newest()) in page
