"""Importing decord first must not break torch: see `media.decord_module`."""

import subprocess
import sys


def test_torch_works_after_decord() -> None:
    code = (
        "from media.windows import read_frame; import torch; ones = torch.ones(300, 300); "
        "print(float((ones @ ones).sum()), 'nvblas' in open('/proc/self/maps').read())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["27000000.0", "False"]
