"""The published code bases whose checkpoints we read, by name. Of several that fit, the first counts."""

from . import ctrgcn, frhead, posec3d, stgcnpp
from .release import Release, classifier

RELEASES = {**ctrgcn.RELEASES, **stgcnpp.RELEASES, **posec3d.RELEASES}

__all__ = ["RELEASES", "Release", "classifier", "frhead"]
