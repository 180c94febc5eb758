"""Layouts by name, and the graphs built from them."""

from .graph import Graph, Layout
from .ntu import NTU
from .ucla import UCLA

LAYOUTS = {layout.name: layout for layout in (NTU, UCLA)}

__all__ = ["LAYOUTS", "Graph", "Layout", "build_graph"]


def build_graph(layout, labeling="spatial"):
    """The graph of a layout, given by name or as a Layout. Raises ValueError for an unknown layout or labeling."""
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise ValueError(f"unknown layout {layout!r}; there are {', '.join(LAYOUTS)}")
        layout = LAYOUTS[layout]
    return Graph(layout, labeling)
