"""Skeleton layouts and the graphs built from them."""

from dataclasses import dataclass

import numpy as np

LABELINGS = ("spatial", "stgcn_spatial")


@dataclass(frozen=True)
class Layout:
    """What is known of a skeleton's joints; everything else follows from it. Indices are 0-based.

    name       the name that stores and configs use
    joints     the names of the V joints
    bones      (joint, parent) pairs, one for each joint but the root: a tree
    pairs      (left, right) joints that change places in a mirror
    parts      the five body parts (trunk, left arm, right arm, left leg, right leg), a partition of the joints
    upper      the joints of the upper body; the others are the lower body (BRL, rebalanced partial mixup)
    spine      (bottom, top) joints that define "up"; None where there are no such joints
    shoulders  (right, left) joints that define "across", or None
    limbs      pairs of joints, in the order in which heat maps of limbs are channels; None: the bones

    Raises ValueError where the bones are no tree, the parts no partition, or an index is of no joint.
    """

    name: str
    joints: tuple
    bones: tuple
    pairs: tuple
    parts: tuple
    upper: tuple
    spine: tuple | None = None
    shoulders: tuple | None = None
    limbs: tuple | None = None

    def __post_init__(self):
        V = len(self.joints)
        named = [*self.bones, *self.pairs, *self.parts, self.upper, self.spine or (), self.shoulders or ()]
        named += self.limbs or ()
        outside = [joint for joints in named for joint in joints if not 0 <= joint < V]
        if outside:
            raise ValueError(f"layout {self.name}: there is no joint {outside[0]}; there are {V}, counted from 0")
        children = [joint for joint, _ in self.bones]
        if len(self.bones) != V - 1 or len(set(children)) != V - 1:
            raise ValueError(f"layout {self.name}: {V} joints need {V - 1} bones, each with a joint of its own")
        parent = dict(self.bones)
        for joint in range(V):
            seen = set()
            while joint in parent and joint not in seen:
                seen.add(joint)
                joint = parent[joint]
            if joint != self.root:
                raise ValueError(f"layout {self.name}: the bones of joint {joint} do not lead to the root {self.root}")
        if sorted(j for part in self.parts for j in part) != list(range(V)):
            raise ValueError(f"layout {self.name}: the parts must hold every joint once")
        if len(self.parts) != 5:
            raise ValueError(f"layout {self.name}: {len(self.parts)} parts instead of five")
        paired = [joint for pair in self.pairs for joint in pair]
        if len(set(paired)) < len(paired):
            raise ValueError(f"layout {self.name}: a joint is in two left-right pairs")

    @property
    def root(self):
        """The one joint without a parent."""
        return (set(range(len(self.joints))) - {joint for joint, _ in self.bones}).pop()


class Graph:
    """A layout with its adjacency.

    A          (S, V, V) float32, S = 3 subsets of neighbours, columns normalised
    bones      list of V (joint, parent) pairs; the root is its own parent
    skip       list of V (joint, grandparent) pairs; the root and its children are their own (BRL, skip modality)
    mirror     list of V: the joint that takes the place of joint v in a mirror
    limbs      list of L pairs of joints; limb_mirror: list of L, as mirror
    parts      list of five lists of joints
    upper, lower  lists of joints
    num_point  V

    labeling "spatial": itself, parent, children, each normalised (2s-AGCN, section 3.1; CTR-GCN). "stgcn_spatial":
    itself, as far from or nearer to the root, farther from it, normalised together (ST-GCN, section 3.3).
    """

    def __init__(self, layout, labeling="spatial"):
        if labeling not in LABELINGS:
            raise ValueError(f"labeling must be one of {', '.join(LABELINGS)}, not {labeling!r}")
        self.layout = layout
        self.labeling = labeling
        self.num_point = V = len(layout.joints)
        parent = {**dict(layout.bones), layout.root: layout.root}
        self.bones = [(v, parent[v]) for v in range(V)]
        self.skip = [(v, v if parent[v] == layout.root else parent[parent[v]]) for v in range(V)]
        swap = {a: b for left, right in layout.pairs for a, b in ((left, right), (right, left))}
        self.mirror = [swap.get(v, v) for v in range(V)]
        self.limbs = list(layout.limbs or layout.bones)
        number = {frozenset(limb): i for i, limb in enumerate(self.limbs)}
        self.limb_mirror = [number.get(frozenset(self.mirror[v] for v in limb), i) for i, limb in enumerate(self.limbs)]
        self.parts = [list(part) for part in layout.parts]
        self.upper = sorted(layout.upper)
        self.lower = sorted(set(range(V)) - set(layout.upper))
        self.A = _spatial(layout) if labeling == "spatial" else _stgcn_spatial(layout)

    @property
    def name(self):
        return self.layout.name


def _normalize(A):
    """Scale each column to the sum 1; columns of zeros stay."""
    degree = A.sum(axis=0)
    return A / np.where(degree > 0, degree, 1)


def _spatial(layout):
    V = len(layout.joints)
    inward = np.zeros((V, V), np.float32)
    for joint, parent in layout.bones:
        inward[parent, joint] = 1
    return np.stack((np.eye(V, dtype=np.float32), _normalize(inward), _normalize(inward.T)))


def _stgcn_spatial(layout):
    itself = np.eye(len(layout.joints), dtype=bool)
    near = itself.copy()
    for joint, parent in layout.bones:
        near[joint, parent] = near[parent, joint] = True
    # The releases count one hop and no further: of two joints beyond the root's neighbours neither is the nearer one.
    distance = np.where(near[layout.root], 1.0, np.inf)
    distance[layout.root] = 0
    nearer = distance[:, None] >= distance[None, :]
    return _normalize(near.astype(np.float32)) * np.stack((itself, ~itself & nearer, ~itself & ~nearer))
