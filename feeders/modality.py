"""The six input streams: joints, bones and skips, and the motion of each."""


def joint(x, joints):
    """Coordinates as they are."""
    return x


def bone(x, joints):
    """Each joint minus its parent; the root is 0 (2s-AGCN, section 3.3)."""
    return x - x[..., joints.parent, :]


def skip(x, joints):
    """Each joint minus its grandparent; the root and its children are 0 (BRL, section III-E; InfoGCN's k = 2)."""
    return x - x[..., joints.grandparent, :]


def motion(x):
    """The next frame minus this one; the last is 0 (CTR-GCN, PYSKL). x: (N, T, M, V, C)"""
    y = x.new_zeros(x.shape)
    y[:, :-1] = x[:, 1:] - x[:, :-1]
    return y


STREAMS = {"joint": joint, "bone": bone, "skip": skip}
MODALITIES = (*STREAMS, *(f"{stream}-motion" for stream in STREAMS))


def to_modality(clips, rng, name="joint"):
    """Turn joint coordinates into the modality of this name."""
    stream, dash, _ = name.partition("-")
    x = STREAMS[stream](clips.x, clips.joints)
    clips.x = motion(x) if dash else x
