from pathlib import Path

import numpy as np
import pytest

from graph import LAYOUTS, Layout, build_graph

# BRL, section III-E: joint - grandparent, all other joints are 0.
SKIPS = {
    "ntu": "0-20 3-20 5-20 6-4 7-5 9-20 10-8 11-9 12-1 13-0 14-12 15-13 16-1 17-0 18-16 19-17 21-7 22-6 23-11 24-10",
    "ucla": "0-2 5-2 6-4 7-5 9-2 10-8 11-9 12-1 13-0 14-12 15-13 16-1 17-0 18-16 19-17",
}


@pytest.mark.parametrize("name", SKIPS)
def test_skip_pairs_are_those_of_the_paper(name):
    pairs = dict(tuple(map(int, pair.split("-"))) for pair in SKIPS[name].split())
    graph = build_graph(name)
    assert graph.skip == [(v, pairs.get(v, v)) for v in range(graph.num_point)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name):
    graph = build_graph(name)
    V = graph.num_point
    assert graph.A.shape == (3, V, V) and graph.A.dtype == np.float32
    assert [v for v, parent in graph.bones if v == parent] == [graph.layout.root]
    assert sorted(graph.upper + graph.lower) == list(range(V))
    assert [graph.mirror[graph.mirror[v]] for v in range(V)] == list(range(V))
    for part, other in ((1, 2), (3, 4)):  # arms and legs change places in the mirror
        assert sorted(graph.mirror[v] for v in graph.parts[part]) == graph.parts[other]


@pytest.mark.parametrize("name", LAYOUTS)
def test_names_say_what_is_left_right_and_below(name):
    joints, graph = LAYOUTS[name].joints, build_graph(name)
    left = [joint for joint in joints if joint.startswith("left ")]
    pairs = {(joint, joint.replace("left", "right")) for joint in left}
    assert {(joints[a], joints[b]) for a, b in LAYOUTS[name].pairs} == pairs
    below = ("hip", "knee", "ankle", "foot", "spine base")
    assert [joints[v] for v in graph.lower] == [joint for joint in joints if any(word in joint for word in below)]


# ST-GCN, net/utils/graph.py; PYSKL, pyskl/utils/graph.py
BONES = {
    "openpose": "4-3 3-2 7-6 6-5 13-12 12-11 10-9 9-8 11-5 8-2 5-1 2-1 0-1 15-0 14-0 17-15 16-14",
    "coco": "15-13 13-11 16-14 14-12 11-5 12-6 9-7 7-5 10-8 8-6 5-0 6-0 1-0 3-1 2-0 4-2",
}


@pytest.mark.parametrize("name", BONES)
def test_bones_are_the_published_ones(name):
    assert set(LAYOUTS[name].bones) == {tuple(map(int, bone.split("-"))) for bone in BONES[name].split()}


def test_limbs():
    """Those of COCO, and what the mirror does to them, are PYSKL's (configs/posec3d/*/limb.py); else they are bones."""
    coco = build_graph("coco")
    left, right = (0, 2, 3, 6, 7, 8, 12, 14), (1, 4, 5, 9, 10, 11, 13, 15)
    swap = {**dict(zip(left, right, strict=True)), **dict(zip(right, left, strict=True)), 16: 16}
    assert coco.limb_mirror == [swap[i] for i in range(17)] and coco.limbs[16] == (11, 12)
    ntu = build_graph("ntu")
    assert ntu.limbs == list(ntu.layout.bones) and len(ntu.limb_mirror) == 24
    assert [ntu.limb_mirror[i] for i in ntu.limb_mirror] == list(range(24)) != ntu.limb_mirror


def test_upper_body_share():
    assert len(build_graph("ntu").upper) == 16 and len(build_graph("ucla").upper) == 11


CHAIN = Layout(
    "chain", ("a", "b", "c", "d"), ((0, 1), (2, 1), (3, 2)), (), ((0, 1), (2,), (3,), (), ()), (), (0, 1), (0, 1)
)


def test_spatial_labeling_by_hand():
    A = build_graph(CHAIN).A  # the tree 0 - 1 - 2 - 3 with root 1
    inward, outward = np.zeros((4, 4)), np.zeros((4, 4))
    inward[1, 0] = inward[1, 2] = inward[2, 3] = 1
    outward[0, 1] = outward[2, 1] = 0.5
    outward[3, 2] = 1
    np.testing.assert_allclose(A, [np.eye(4), inward, outward])


def test_stgcn_labeling_by_hand():
    A = build_graph(CHAIN, "stgcn_spatial").A
    near = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]) / np.array([2, 3, 3, 2])
    np.testing.assert_allclose(A.sum(axis=0), near, atol=1e-6)
    np.testing.assert_allclose(A[0], np.diag(np.diag(near)), atol=1e-6)
    farther = np.zeros((4, 4))  # rows nearer to the root than their column; beyond the root's neighbours none is
    farther[1, 0] = farther[1, 2] = farther[2, 3] = True
    np.testing.assert_allclose(A[2], near * farther, atol=1e-6)


def test_stgcn_labeling_of_the_release():
    golden = np.load(Path(__file__).parents[1] / "golden" / "stgcn_ntu.npz")["kept/backbone.gcn.0.gcn.A"]
    ntu = LAYOUTS["ntu"]
    hands = {21: 7, 22: 7, 23: 11, 24: 11}  # MMAction2 ties all four to the hands
    bones = tuple((joint, hands.get(joint, parent)) for joint, parent in ntu.bones)
    other = Layout("mm", ntu.joints, bones, ntu.pairs, ntu.parts, ntu.upper, ntu.spine, ntu.shoulders)
    np.testing.assert_allclose(build_graph(other, "stgcn_spatial").A, golden, atol=1e-6)


def test_unknown_names_list_the_choices():
    with pytest.raises(ValueError, match="unknown layout 'kinect'; there are ntu, ucla"):
        build_graph("kinect")
    with pytest.raises(ValueError, match="spatial, stgcn_spatial"):
        build_graph("ntu", "uniform")


@pytest.mark.parametrize(
    ("bones", "message"),
    [(((0, 1), (1, 0), (3, 2)), "do not lead to the root"), (((0, 1), (0, 2), (3, 2)), "bones, each with a joint")],
)
def test_bones_must_be_a_tree(bones, message):
    with pytest.raises(ValueError, match=message):
        Layout("x", CHAIN.joints, bones, (), CHAIN.parts, (), (0, 1), (0, 1))


def test_parts_must_hold_every_joint_once():
    with pytest.raises(ValueError, match="parts"):
        Layout("x", CHAIN.joints, CHAIN.bones, (), ((0, 1), (2,), (2, 3), (), ()), (), (0, 1), (0, 1))
