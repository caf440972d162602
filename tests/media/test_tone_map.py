"""HDR becomes BT.709 by the standards' formulas."""

import numpy as np
import pytest

from media.tone_map import cube, cube_file, eetf, hlg_to_light, light_to_pq, pq_to_light, tone_map


@pytest.mark.parametrize(("signal", "light"), [(0.0, 0.0), (0.508078, 100.0), (0.751827, 1000.0), (1.0, 10_000.0)])
def test_pq_agrees_with_the_published_points(signal: float, light: float) -> None:
    assert float(pq_to_light(np.array(signal))) == pytest.approx(light, rel=1e-4, abs=1e-6)
    assert float(light_to_pq(np.array(light))) == pytest.approx(signal, abs=1e-5)


@pytest.mark.parametrize(("signal", "light"), [(0.0, 0.0), (0.75, 203.0), (1.0, 1000.0)])
def test_hlg_reference_white_is_203(signal: float, light: float) -> None:
    assert hlg_to_light(np.full(3, signal)) == pytest.approx([light] * 3, rel=0.01, abs=1e-3)


def test_eetf_keeps_shadows_and_ends_at_the_peak() -> None:
    light = np.linspace(0, 1000, 200)
    out = eetf(light)
    assert np.allclose(out[light < 50], light[light < 50], rtol=1e-6)
    assert np.all(np.diff(out) >= -1e-9) and out[-1] == pytest.approx(203, rel=1e-3)


@pytest.mark.parametrize("hdr", ["pq", "hlg"])
def test_grey_stays_grey_brighter_stays_brighter_and_all_is_in_range(hdr: str) -> None:
    ramp = tone_map(np.repeat(np.linspace(0, 1, 50)[:, None], 3, axis=1), hdr)
    assert np.ptp(ramp, axis=1).max() < 0.005 and np.all(np.diff(ramp[:, 1]) >= -1e-9)
    colours = tone_map(np.random.default_rng(0).random((1000, 3)), hdr)
    assert colours.min() >= 0 and colours.max() <= 1


def test_the_table_is_a_cube_file_with_its_own_name() -> None:
    path = cube_file("pq")
    assert path.read_bytes() == cube("pq") and cube_file("pq") == path
    lines = path.read_text().splitlines()
    assert lines[0] == "LUT_3D_SIZE 33" and len(lines) == 1 + 33**3 and lines[-1] == "1.000000 1.000000 1.000000"
