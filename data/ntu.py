"""NTU RGB+D 60 and 120 (Shahroudy et al., CVPR 2016; Liu et al., TPAMI 2020): clip names and protocols."""

import re

NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})$")
FIELDS = ("setup", "camera", "performer", "replication", "action")

# The training subjects of the cross-subject protocols; those of NTU RGB+D 60 are the ones up to 40.
TRAIN_SUBJECTS = frozenset((
    1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38, 45, 46, 47, 49, 50, 52, 53, 54, 55, 56,
    57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103,
))  # fmt: skip


def parse_name(name):
    """'S001C002P003R002A013' -> dict of setup, camera, performer, replication, action, as numbered there (from 1).

    Raises ValueError for another name.
    """
    match = NAME.match(name)
    if not match:
        raise ValueError(f"{name}: not a clip name of NTU RGB+D, like S001C002P003R002A013")
    return dict(zip(FIELDS, map(int, match.groups()), strict=True))


def is_train(name, protocol):
    """Whether a clip is in the training set of xsub (by subject), xview (cameras 2 and 3) or xset (even setups)."""
    facts = parse_name(name)
    if protocol == "xsub":
        return facts["performer"] in TRAIN_SUBJECTS
    if protocol == "xview":
        return facts["camera"] in (2, 3)
    if protocol == "xset":
        return facts["setup"] % 2 == 0
    raise ValueError(f"unknown protocol {protocol!r}; there are xsub, xview, xset")
