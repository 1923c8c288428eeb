"""How hard a synthetic data set is: three frozen presets and the settings that every drawing starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["PRESETS", "Preset", "PresetName", "Prevalence", "Settings"]

PresetName = Literal["easy", "medium", "hard"]
Prevalence = Literal["mimic", "floor"]
"""`mimic`: label rates near the published ones; `floor`: rare findings raised, so that a small test split holds all."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What makes films hard to see and reports hard to trust; frozen, so that results stay comparable."""

    version: int
    """Raise it with every change of the bytes that the preset gives: older results are void then."""
    dimming: float
    """Exponent on the severity that is drawn, above 0: 1 shows it as it is, more makes mild findings fainter."""
    subclinical: float
    """Findings of a severity below this are present and not visible, in [0, 1)."""
    one_view: float
    """Factor on how often effusion, lesion and a wide mediastinum show on one view only, in [0, 1]."""
    mimics: float
    """Factor on the rates of skin folds, nipples, rotation and shallow breath."""
    unreported: float
    """Share of the findings that the report leaves out, in [0, 1]."""
    wrong: float
    """Share of the mentions that say the opposite of the truth, in [0, 1]."""


PRESETS: Mapping[PresetName, Preset] = {
    "easy": Preset(
        version=1, dimming=0.6, subclinical=0.0, one_view=0.4, mimics=0.4, unreported=0.05, wrong=0.01
    ),
    "medium": Preset(
        version=1, dimming=1.3, subclinical=0.08, one_view=1.0, mimics=1.0, unreported=0.12, wrong=0.02
    ),
    "hard": Preset(
        version=1, dimming=1.7, subclinical=0.12, one_view=1.0, mimics=1.6, unreported=0.20, wrong=0.05
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything besides the number of studies and the films' size that decides what is drawn."""

    seed: int = 7
    preset: PresetName = "medium"
    prevalence: Prevalence = "mimic"
    confounding: float = 0.0
    """0 to 1: extra links that are no medicine, devices wherever a pneumothorax is and AP films of edema."""

    @property
    def rules(self) -> Preset:
        """The preset's numbers."""
        return PRESETS[self.preset]
