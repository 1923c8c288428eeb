"""Every transfer syntax that can be written holds the same pixels, and preprocessing reads them."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from components.cxr.errors import UserError
from pipeline.synthetic import Settings, generate
from pipeline.synthetic.films.films import shape_of
from pipeline.synthetic.films.syntaxes import available_syntaxes, check_encoder


def test_the_usual_syntaxes_can_be_written_here() -> None:
    assert {"explicit-little", "implicit-little", "explicit-big", "deflated", "rle", "jpeg2000"} <= set(
        available_syntaxes()
    )


def test_mixed_syntaxes_hold_the_same_pixels(tmp_path: Path) -> None:
    plain, mixed = tmp_path / "plain", tmp_path / "mixed"
    generate(plain, num_studies=12, settings=Settings(seed=3), size=64)
    generate(mixed, num_studies=12, settings=Settings(seed=3), size=64, syntax="mixed")
    seen = set()
    for path in plain.rglob("*.dcm"):
        one, other = pydicom.dcmread(path), pydicom.dcmread(mixed / path.relative_to(plain))
        seen.add(other.file_meta.TransferSyntaxUID)
        assert np.array_equal(one.pixel_array, other.pixel_array)
        assert one.SOPInstanceUID == other.SOPInstanceUID
    assert len(seen) == len(available_syntaxes())


def test_unknown_and_unavailable_syntaxes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown transfer syntax"):
        check_encoder("jpeg-xl")
    if "jpeg-ls" not in available_syntaxes():
        with pytest.raises(UserError, match="no encoder"):
            generate(tmp_path / "none", num_studies=1, syntax="jpeg-ls")
        assert not (tmp_path / "none").exists()


def test_full_size_is_3056_by_2544() -> None:
    assert shape_of(np.random.default_rng(0), 3056, view="PA") == (3056, 2544)
    assert set(shape_of(np.random.default_rng(0), 3056, view="AP")) == {3056, 2544}
