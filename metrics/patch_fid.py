"""Patch FID (SDXL-Lightning, arXiv 2402.13929): FID of central patches that are not resized.

FID resizes every picture to 299 pixels and does not see fine detail; the central 299 pixels as they
are do. With the tiny net: the central quarter of the picture, every pixel doubled.
"""

from __future__ import annotations

from dataclasses import replace

from .fid import Fid


class PatchFid(Fid):
    """Frechet distance of central patches to those of the reference."""

    version = 1
    rule = "patch"
    info = replace(Fid.info, label="Patch FID")
