import pytest

from graph import LAYOUTS, build_graph, describe_layout, read_layout

STICK = {
    "name": "stick",
    "joints": ["pelvis", "head", "l hand", "r hand", "l foot", "r foot"],
    "edges": [["head", "pelvis"], ["l hand", "head"], [3, 1], [0, 4], [5, 0]],
    "root": "pelvis",
    "pairs": [["l hand", "r hand"], [4, 5]],
    "parts": {"trunk": [0, 1], "left_arm": [2], "right_arm": [3], "left_leg": [4], "right_leg": [5]},
}


def test_everything_follows_from_the_description():
    graph = build_graph(read_layout(STICK))
    assert graph.name == "stick" and graph.num_point == 6 and graph.A.shape == (3, 6, 6)
    assert graph.bones == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 0), (5, 0)]
    assert graph.skip == [(0, 0), (1, 1), (2, 0), (3, 0), (4, 4), (5, 5)]
    assert graph.mirror == [0, 1, 3, 2, 5, 4]
    assert graph.upper == [1, 2, 3] and graph.lower == [0, 4, 5]
    assert graph.layout.spine is None


def test_joints_may_be_a_number():
    content = STICK | {"joints": 6, "edges": [[1, 0], [2, 1], [3, 1], [4, 0], [5, 0]], "root": 0, "pairs": []}
    assert read_layout(content).joints[5] == "joint 5"


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_survives_its_description(name):
    layout = LAYOUTS[name]
    again = read_layout(describe_layout(layout))
    assert sorted(again.bones) == sorted(layout.bones)
    assert (again.root, again.parts, again.upper, again.pairs) == (
        layout.root,
        layout.parts,
        layout.upper,
        layout.pairs,
    )
    assert (again.spine, again.shoulders, again.joints) == (layout.spine, layout.shoulders, layout.joints)
    assert again.limbs == layout.limbs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": STICK["edges"][:-1]}, "no path leads from joint 5 to the root 0"),
        ({"edges": [*STICK["edges"], [4, 5]]}, "6 edges for 6 joints make a loop"),
        ({"edges": 3}, "edges: a list of pairs expected"),
        ({"edges": [[0, 1, 2]]}, "edges: 2 joints expected"),
        ({"edges": [[[0, 1], 2]]}, "edges: there is no joint"),
        ({"upper": [1, 1]}, "upper: .* has a joint twice"),
        ({"root": [1]}, "root: there is no joint"),
        ({"root": "nose"}, "root: there is no joint 'nose'"),
        ({"root": 6}, "root: there is no joint 6; there are 6, counted from 0"),
        ({"parts": {"trunk": [0]}}, "parts: the keys must be trunk, left_arm"),
        ({"parts": STICK["parts"] | {"trunk": [0]}}, "parts must hold every joint once"),
        ({"pairs": [[2, 3], [3, 2]]}, "a joint is in two left-right pairs"),
        ({"joints": ["a", "a"]}, "joints: two have the same name"),
        ({"joints": 0}, "joints: a list of names or a number expected"),
        ({"joints": 10**30}, "joints: a list of names or a number expected"),
        ({"name": ""}, "name: a word expected"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"spine": [0]}, "spine: 2 joints expected"),
        ({"limbs": [[0, 6]]}, "limbs: there is no joint 6"),
    ],
)
def test_a_wrong_description(change, message):
    with pytest.raises(ValueError, match=message):
        read_layout(STICK | change)


def test_a_missing_key():
    with pytest.raises(ValueError, match="layout: the key root is missing"):
        read_layout({key: value for key, value in STICK.items() if key != "root"})
    with pytest.raises(ValueError, match="a layout is a mapping"):
        read_layout([1, 2])
