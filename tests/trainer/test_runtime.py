"""What `auto` takes a processor for."""

from __future__ import annotations

import pytest

from trainer.runtime import cpu_prefers_bfloat16


@pytest.mark.parametrize(
    ("vendor", "flags", "prefers"),
    [
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16 amx_tile", True),
        # A virtual machine that hides AMX: its bfloat16 is slower than its float32.
        ("GenuineIntel", "avx512f avx512_bf16", False),
        ("AuthenticAMD", "avx2", False),
    ],
)
def test_bfloat16_is_preferred_where_it_is_faster(tmp_path, vendor, flags, prefers):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n")
    assert cpu_prefers_bfloat16(str(tmp_path / "cpuinfo")) is prefers


def test_an_unknown_processor_gets_float32(tmp_path):
    assert not cpu_prefers_bfloat16(str(tmp_path / "missing"))
