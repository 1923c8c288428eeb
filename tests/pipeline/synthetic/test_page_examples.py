import json

import numpy as np

from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import read_film
from pipeline.synthetic.examples import EXAMPLES, SIZE, draw_examples


def test_the_shipped_examples_are_what_the_command_draws(tmp_path):
    draw_examples(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in EXAMPLES.iterdir())
    assert (tmp_path / "examples.json").read_text() == (EXAMPLES / "examples.json").read_text()
    listed = json.loads((EXAMPLES / "examples.json").read_text())
    names = [name for example in listed for name in example["films"]]
    assert len(listed) == 3
    assert len(names) == 5
    for name in names:
        drawn, shipped = (_read(folder / name) for folder in (tmp_path, EXAMPLES))
        for field in ("view_position", "age_years", "sex"):
            assert getattr(drawn, field) == getattr(shipped, field)
        assert np.abs(drawn.pixels.astype(int) - shipped.pixels).mean() < 2  # another JPEG encoder may round otherwise


def _read(path):
    return read_film(path.read_bytes(), preset=PixelPreset(size=SIZE))


def test_they_are_small():
    assert sum(path.stat().st_size for path in EXAMPLES.iterdir()) < 100_000
