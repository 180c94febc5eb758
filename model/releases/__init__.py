"""The published code bases whose checkpoints we read, by name. Of several that fit, the first counts."""

from . import agcn, ctrgcn, ctrgcn_baseline, dgstgcn, frhead, msg3d, posec3d, shiftgcn, stgcn, stgcnpp, tcagcn
from .release import Release

RELEASES = {
    **ctrgcn.RELEASES,
    **stgcnpp.RELEASES,
    **posec3d.RELEASES,
    **stgcn.RELEASES,
    **agcn.RELEASES,
    **ctrgcn_baseline.RELEASES,
    **msg3d.RELEASES,
    **dgstgcn.RELEASES,
    **tcagcn.RELEASES,
    **shiftgcn.RELEASES,
}

__all__ = ["RELEASES", "Release", "frhead"]
