"""A batch of clips on its way from the store to the model."""

import torch


class Clips:
    """N clips of different lengths.

    x       (N, T, M, V, C) float32, the frames; T is the longest clip, a shorter one goes on with its last frame.
            They are fetched when x is first asked for: a frame sampler that comes first fetches only what it chose.
    length  (N,) int64, valid frames of each clip
    joints  what transforms need of the layout: parent, grandparent and mirror (tensors), spine and shoulders; and
            score: None, or the channel that holds a score instead of a coordinate (the last)
    picture (N, 2) float64, width and height in pixels of what x and y go from -1 to 1 over; None: not known
    rows    so many rows, one after the other, are of one clip
    """

    def __init__(self, frames, offset, length, joints, device, picture=None):
        """frames (F, M, V, C): a store's; offset (N,) int64 beside them; length (N,) on the CPU; device: x's."""
        self.joints = joints
        self.device = device
        self.picture = picture
        self.rows = 1
        self._frames, self._offset = frames, offset
        self._index = None  # (N, T) frames chosen so far, counted from offset
        self._x = None
        self.length = length.to(device)
        self._longest = int(length.max())  # known on the CPU: asking a GPU for it would wait for it

    def __len__(self):
        return len(self.length)

    @property
    def x(self):
        if self._x is None:
            index = self._index
            if index is None:
                index = torch.minimum(torch.arange(self._longest, device=self.device), self.length[:, None] - 1)
            self._x = self._fetch(index)
        return self._x

    @x.setter
    def x(self, value):
        self._x = value

    def _fetch(self, index):
        rows = self._offset[:, None] + index.to(self._offset.device)
        x = self._frames.index_select(0, rows.flatten()).view(*rows.shape, *self._frames.shape[1:])
        return x.to(self.device, non_blocking=True)

    def _pick(self, index):
        if self._x is not None:
            return self._x.gather(1, index[..., None, None, None].expand(-1, -1, *self._x.shape[2:]))
        return self._fetch(index if self._index is None else self._index.gather(1, index))

    def take(self, index):
        """Keep frames: index (N, T') int64. Or (N, R, T'): R selections of each clip, which become N*R clips."""
        if index.dim() == 3:
            R = index.shape[1]
            self._offset = self._offset.repeat_interleave(R)
            self.length = self.length.repeat_interleave(R)
            self.rows *= R
            for name in ("_index", "_x", "picture"):
                if getattr(self, name) is not None:
                    setattr(self, name, getattr(self, name).repeat_interleave(R, dim=0))
            index = index.flatten(0, 1)
        if self._x is not None:
            self._x = self._pick(index)
        else:
            self._index = index if self._index is None else self._index.gather(1, index)
        self.length = torch.full_like(self.length, index.shape[1])

    def blend(self, below, above, weight):
        """Frames between frames: (1 - weight) x[below] + weight x[above]; indices (N, T'), weight (N, T', 1, 1, 1)."""
        self._x = torch.lerp(self._pick(below), self._pick(above), weight)
        self._index = None
        self.length = torch.full_like(self.length, below.shape[1])

    @property
    def axes(self):
        """The number of coordinates; a channel behind them is a score."""
        return self.x.shape[-1] if self.joints.score is None else self.joints.score

    def move(self, x):
        """Set the coordinates to x (N, T, M, V, axes); scores stay."""
        self.x = x if self.joints.score is None else torch.cat([x, self.x[..., self.axes :]], dim=-1)

    def present(self):
        """(N, T, M, 1, 1) bool: the body has a coordinate other than 0 in the frame."""
        return (self.x != 0).flatten(3).any(dim=3)[..., None, None]

    def first_frame(self):
        """(N, V, C): the first body in the first frame that has it; zeros where it is in none."""
        body = self.x[:, :, 0]  # N, T, V, C
        first = (body != 0).flatten(2).any(dim=2).int().argmax(dim=1)  # of several largest, argmax gives the first
        return body[torch.arange(len(body), device=self.device), first]
