"""A table of a paper, written as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from components.evaluate.table import markdown_table

__all__ = ["PaperTable"]

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "≥": r"$\geq$",
}  # fmt: skip


@dataclass(frozen=True)
class PaperTable:
    """Texts in rows of equal length.

    >>> table = PaperTable("scores", "Scores", ("Finding", "Positives, %"), [("No Finding", "12.5")])
    >>> print(table.csv(), end="")
    Finding,"Positives, %"
    No Finding,12.5
    >>> print(table.latex().splitlines()[4])
    Finding & Positives, \\% \\\\
    """

    name: str
    """Of its files."""
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    """Under the table."""

    def markdown(self) -> str:
        """Title, table and note."""
        rows = [[cell.replace("|", r"\|") for cell in row] for row in self.rows]
        return "\n\n".join(filter(None, [f"**{self.title}**", markdown_table(self.head, rows), self.note]))

    def latex(self) -> str:
        """A `table` environment; needs the package booktabs."""
        lines = [
            r"\begin{table}",
            rf"\caption{{{_escaped(self.title)}}}\label{{tab:{self.name}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(self.head) - 1)}}}",
            r"\toprule",
            _latex_row(self.head),
            r"\midrule",
            *map(_latex_row, self.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *([rf"\par\smallskip\footnotesize {_escaped(self.note)}"] if self.note else []),
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """Head and rows."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.head)
        writer.writerows(self.rows)
        return file.getvalue()


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
