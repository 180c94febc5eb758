"""A layout of one's own, described by a YAML file or a mapping of the same keys."""

from .graph import Layout

PARTS = ("trunk", "left_arm", "right_arm", "left_leg", "right_leg")
MOST_JOINTS = 1000  # a number of them beyond this is a slip
REQUIRED = ("name", "joints", "edges", "root", "pairs", "parts")
OPTIONAL = ("upper", "spine", "shoulders", "limbs")


def read_layout(content):
    """A Layout from a mapping with these keys:

    name       a word
    joints     the list of the joints' names, or just their number
    edges      [a, b] pairs, in any order, that connect all joints without a loop
    root       the joint that all bones lead to
    pairs      [left, right] joints that change places in a mirror
    parts      {trunk, left_arm, right_arm, left_leg, right_leg}: lists of joints, each joint in one of them
    upper      joints of the upper body [trunk and arms without the root]
    spine, shoulders  [bottom, top] and [right, left] joints, for the transform `align` [none]
    limbs      [a, b] pairs that heat maps of limbs draw, in this order [the edges]

    A joint is given by its number, from 0, or by its name. Raises ValueError saying which key is wrong.
    """
    if not isinstance(content, dict):
        raise ValueError(f"a layout is a mapping of {', '.join(REQUIRED)}, not {type(content).__name__}")
    for key in REQUIRED:
        if key not in content:
            raise ValueError(f"layout: the key {key} is missing")
    for key in content:
        if key not in REQUIRED + OPTIONAL:
            raise ValueError(f"layout: unknown key {key!r}; there are {', '.join(REQUIRED + OPTIONAL)}")
    joints = _joint_names(content["joints"])
    number = {name: index for index, name in enumerate(joints)}

    def index(joint, key):
        if isinstance(joint, int) and not isinstance(joint, bool) and 0 <= joint < len(joints):
            return joint
        if isinstance(joint, str) and joint in number:
            return number[joint]
        raise ValueError(f"layout: {key}: there is no joint {joint!r}; there are {len(joints)}, counted from 0")

    def indices(value, key, size=None):
        if not isinstance(value, list | tuple) or (size and len(value) != size):
            raise ValueError(f"layout: {key}: {f'{size} joints' if size else 'a list'} expected, not {value!r}")
        found = tuple(index(joint, key) for joint in value)
        if len(set(found)) < len(found):
            raise ValueError(f"layout: {key}: {value!r} has a joint twice")
        return found

    def pairs(key):
        if not isinstance(content[key], list | tuple):
            raise ValueError(f"layout: {key}: a list of pairs expected, not {content[key]!r}")
        return tuple(indices(pair, key, 2) for pair in content[key])

    parts = content["parts"]
    if not isinstance(parts, dict) or set(parts) != set(PARTS):
        raise ValueError(f"layout: parts: the keys must be {', '.join(PARTS)}")
    parts = tuple(indices(parts[part], f"parts: {part}") for part in PARTS)
    root = index(content["root"], "root")
    upper = indices(content["upper"], "upper") if "upper" in content else sorted({*sum(parts[:3], ())} - {root})
    return Layout(
        name=_word(content["name"]),
        joints=joints,
        bones=tree(len(joints), pairs("edges"), root),
        pairs=pairs("pairs"),
        parts=parts,
        upper=tuple(upper),
        spine=indices(content["spine"], "spine", 2) if content.get("spine") else None,
        shoulders=indices(content["shoulders"], "shoulders", 2) if content.get("shoulders") else None,
        limbs=pairs("limbs") if content.get("limbs") else None,
    )


def describe_layout(layout):
    """The mapping that read_layout makes this layout of."""
    content = {
        "name": layout.name,
        "joints": list(layout.joints),
        "edges": [list(bone) for bone in layout.bones],
        "root": layout.root,
        "pairs": [list(pair) for pair in layout.pairs],
        "parts": {part: list(joints) for part, joints in zip(PARTS, layout.parts, strict=True)},
        "upper": list(layout.upper),
    }
    optional = {"spine": layout.spine, "shoulders": layout.shoulders, "limbs": layout.limbs}
    return content | {key: list(value) for key, value in optional.items() if value}


def tree(num_point, edges, root):
    """(joint, parent) pairs, by joint, from undirected edges. Raises ValueError if they are not one tree."""
    near = {joint: [] for joint in range(num_point)}
    for a, b in edges:
        near[a].append(b)
        near[b].append(a)
    parent, queue = {root: root}, [root]
    for joint in queue:
        for other in near[joint]:
            if other not in parent:
                parent[other] = joint
                queue.append(other)
    if len(parent) < num_point:
        lost = min(set(near) - set(parent))
        raise ValueError(f"layout: edges: no path leads from joint {lost} to the root {root}")
    if len(edges) != num_point - 1:
        raise ValueError(f"layout: edges: {len(edges)} edges for {num_point} joints make a loop; a tree is needed")
    return tuple((joint, parent[joint]) for joint in range(num_point) if joint != root)


def _joint_names(joints):
    if isinstance(joints, int) and not isinstance(joints, bool) and 0 < joints <= MOST_JOINTS:
        return tuple(f"joint {index}" for index in range(joints))
    if not isinstance(joints, list | tuple) or not joints or not all(isinstance(name, str) for name in joints):
        raise ValueError(f"layout: joints: a list of names or a number expected, not {joints!r}")
    if len(set(joints)) < len(joints):
        raise ValueError("layout: joints: two have the same name")
    return tuple(joints)


def _word(name):
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"layout: name: a word expected, not {name!r}")
    return name
