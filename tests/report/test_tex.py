"""LaTeX text: every special character, whatever engine reads it."""

from __future__ import annotations

import pytest

from distillbench.report.table import Column, Entry
from distillbench.report.tex import cell_tex, escape, head_tex


def test_special_characters() -> None:
    assert escape("50% & a_b #1 $x$ {y}") == r"50\% \& a\_b \#1 \$x\$ \{y\}"
    assert escape("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert escape('<a|b> "q"') == r"\textless{}a\textbar{}b\textgreater{} ''q''"
    assert escape("[a]* x\n y") == "{[}a]{*} x y"


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("\u03b1\u03bb", r"$\alpha$$\lambda$"), ("a \u2192 b", r"a $\to$ b"), ("+-1", r"$\pm$1"),
        ("\u00e9\u0142", "e[U+0142]"), ("\u4e2d", "[U+4E2D]"), ("1\u20132", "1--2"),
        ("MMD\u00b2", "MMD$^2$"),
    ],
)  # fmt: skip
def test_unicode_never_reaches_the_engine(text: str, tex: str) -> None:
    assert escape(text) == tex
    assert escape(text).isascii()


def test_cells() -> None:
    number = Column("m", "M_1", "number", direction="down")
    assert head_tex(number) == r"M\_1 $\downarrow$"
    assert cell_tex(Entry("1.2", 1.2, rank=1), number) == r"\textbf{1.2}"
    assert cell_tex(Entry("-1.2", -1.2, rank=2), number) == r"\underline{$-$1.2}"
    assert cell_tex(Entry("12.0%", 0.12), number) == r"12.0\%"
    assert cell_tex(Entry("--", marks=("a", "b")), number) == r"--\textsuperscript{a,b}"
    shown = cell_tex(Entry("1.2", 1.2, stderr=0.1, stderr_text="0.1", rank=1), number)
    assert shown == r"\textbf{1.2}{\scriptsize\,$\pm$\,0.1}"
    paper = Column("m_paper", "paper", "published")
    assert cell_tex(Entry(""), paper) == ""
    assert cell_tex(Entry("3.1", 3.1), paper) == r"\textcolor{gray}{\small 3.1}"
