"""Layouts by name, and the graphs built from them."""

from .coco import COCO
from .custom import describe_layout, read_layout
from .graph import Graph, Layout
from .ntu import NTU
from .openpose import OPENPOSE
from .ucla import UCLA

LAYOUTS = {layout.name: layout for layout in (NTU, UCLA, COCO, OPENPOSE)}

__all__ = ["LAYOUTS", "Graph", "Layout", "build_graph", "describe_layout", "read_layout"]


def build_graph(layout, labeling="spatial"):
    """The graph of a layout, given by name or as a Layout. Raises ValueError for an unknown layout or labeling."""
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise ValueError(f"unknown layout {layout!r}; there are {', '.join(LAYOUTS)}")
        layout = LAYOUTS[layout]
    return Graph(layout, labeling)
