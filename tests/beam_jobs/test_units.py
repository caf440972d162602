from pathlib import Path

from beam_jobs.units import Units
from schemas.identity import fingerprint

FP = fingerprint("a unit")


def test_what_was_put_is_got(tmp_path: Path) -> None:
    units = Units.of(str(tmp_path))
    assert units.get("cut", FP) is None
    assert not units.has("cut", FP)
    units.put("cut", FP, b"done", ".json")
    assert units.get("cut", FP, ".json") == b"done"
    assert (tmp_path / ".work" / "cut" / FP[:2] / f"{FP}.json").read_bytes() == b"done"


def test_a_file_is_moved_in(tmp_path: Path) -> None:
    units, local = Units.of(str(tmp_path / "out")), tmp_path / "made.mp4"
    local.write_bytes(b"media")
    units.put_file("cut", FP, local, ".mp4")
    assert units.get("cut", FP, ".mp4") == b"media"
    assert not local.exists()


def test_units_live_on_object_stores_too() -> None:
    units = Units.of("memory://bucket/run")
    units.put("analyze", FP, b"{}")
    assert units.get("analyze", FP) == b"{}"
