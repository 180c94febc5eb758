"""The six input streams: joints, bones and skips, and the motion of each.

Where the last channel is a score, that of a difference is the mean of the two scores (PYSKL, GenSkeFeat).
"""

import torch


def joint(x, joints):
    """Coordinates as they are."""
    return x


def bone(x, joints):
    """Each joint minus its parent; the root is 0 (2s-AGCN, section 3.3)."""
    return difference(x, _joints(x, joints.parent), joints)


def skip(x, joints):
    """Each joint minus its grandparent; the root and its children are 0 (BRL, section III-E; InfoGCN's k = 2)."""
    return difference(x, _joints(x, joints.grandparent), joints)


def _joints(x, index):
    """x[..., index, :] of x (N, T, M, V, C), in the order of memory that Clips has: fast."""
    return x.movedim(4, 1).index_select(4, index).movedim(1, 4)


def motion(x, length, joints):
    """The next frame minus this one; the last of the length (N,) is 0 (CTR-GCN, PYSKL). x: (N, T, M, V, C)"""
    y = torch.zeros_like(x)
    y[:, :-1] = difference(x[:, 1:], x[:, :-1], joints)
    if joints.score is not None:  # coordinates do not change behind a clip's last frame
        behind = torch.arange(x.shape[1], device=x.device) >= length[:, None] - 1
        y.masked_fill_(behind[:, :, None, None, None], 0)
    return y


def difference(a, b, joints):
    """a - b; of scores the mean."""
    y = a - b
    if joints.score is not None:
        y[..., joints.score :] = (a[..., joints.score :] + b[..., joints.score :]) / 2
    return y


STREAMS = {"joint": joint, "bone": bone, "skip": skip}
MODALITIES = (*STREAMS, *(f"{stream}-motion" for stream in STREAMS))


def to_modality(clips, rng, name="joint"):
    """Turn joint coordinates into the modality of this name."""
    stream, dash, _ = name.partition("-")
    x = STREAMS[stream](clips.x, clips.joints)
    clips.x = motion(x, clips.length, clips.joints) if dash else x
