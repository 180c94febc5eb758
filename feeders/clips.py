"""A batch of clips on its way from the store to the model."""

import torch
from torch.nn import functional as F

PIECE = 16  # frames; what is asked of whole clips is asked of pieces of them, since their lengths differ
NEVER = 1 << 62  # the number of no frame


class Clips:
    """N clips of different lengths.

    x       (N, T, M, V, C) float32, the frames; T is the longest clip, a shorter one goes on with its last frame
    length  (N,) int64, valid frames of each clip
    joints  what transforms need of the layout: parent, grandparent and mirror (tensors), spine and shoulders; and
            score: None, or the channel that holds a score instead of a coordinate (the last)
    picture (N, 2) float64, width and height in pixels of what x and y go from -1 to 1 over; None: not known
    axes    the number of coordinates; a channel behind them is a score
    rows    so many rows, one after the other, are of one clip

    Frames are fetched when x is first asked for, and what turn, shift and exchange do waits until then: a frame sampler
    that comes first fetches only what it chose, and a chain of such steps is one product of matrices.
    """

    def __init__(self, frames, offset, length, joints, device, picture=None):
        """frames (F, M, V, C) on `device`: a store's; offset (N,) int64 in them, length (N,): both on the CPU."""
        self.joints = joints
        self.device = device
        self.picture = picture
        self.rows = 1
        self.axes = frames.shape[-1] if getattr(joints, "score", None) is None else joints.score
        self.length = length.to(device)
        self._frames, self._offset = frames, offset.to(device)
        self._index = None  # (N, T) frames chosen so far, counted from offset
        self._x = None  # (N, T, M, V, C) once fetched, without what waits
        self._turn = None  # (N, C, C) and
        self._shift = None  # (N, C): x will be turn x + shift where there is a body,
        self._exchanged = None  # (N,) and have its left and right joints exchanged
        self._complete = False  # whether it is known that no body is absent from any frame
        # Sizes are known on the CPU: asking a GPU for them would wait for it.
        self._longest = int(length.max())
        self._num_pieces = int(((length + PIECE - 1) // PIECE).sum())

    def __len__(self):
        return len(self.length)

    # ---- frames

    @property
    def x(self):
        if self._x is None or self._waiting:
            self._x = self._settle(self._fetched())
            self._turn = self._shift = self._exchanged = None
        return self._x

    @x.setter
    def x(self, value):
        self._x, self._complete = value, False
        self._turn = self._shift = self._exchanged = None

    def move(self, x):
        """Set the coordinates to x (N, T, M, V, axes); scores stay."""
        self.x = x if self.joints.score is None else torch.cat([x, self.x[..., self.axes :]], dim=-1)

    def take(self, index):
        """Keep frames: index (N, T') int64. Or (N, R, T'): R selections of each clip, which become N*R clips."""
        if index.dim() == 3:
            self.repeat(index.shape[1])
            index = index.flatten(0, 1)
        if self._x is not None:
            self._x = self._pick(index)
        else:
            self._index = index if self._index is None else self._index.gather(1, index)
        self.length = torch.full_like(self.length, index.shape[1])

    def repeat(self, R):
        """Make R rows of each clip, one after the other."""
        self.rows *= R
        self._num_pieces *= R
        for name in ("length", "picture", "_offset", "_index", "_x", "_turn", "_shift", "_exchanged"):
            if getattr(self, name) is not None:
                setattr(self, name, getattr(self, name).repeat_interleave(R, dim=0))

    def blend(self, below, above, weight):
        """Frames between frames: (1 - weight) x[below] + weight x[above]; indices and weight (N, T')."""
        if self._x is None and self._shift is None:  # to turn and to exchange may wait
            pairs = torch.stack([self._rows(below), self._rows(above)], dim=-1).view(-1, 2)
            weights = torch.stack([1 - weight, weight], dim=-1).view(-1, 2)
            sums = F.embedding_bag(pairs, self._frames.flatten(1), mode="sum", per_sample_weights=weights)
            self._x = sums.view(*below.shape, *self._frames.shape[1:])  # in one pass over the frames
        else:  # a body that is only in one of the two frames is shifted there only
            below, above = self._settle(self._pick(below)), self._settle(self._pick(above))
            self.x = torch.lerp(below, above, weight[..., None, None, None])
        self._complete = False
        self._index = None
        self.length = torch.full_like(self.length, self._x.shape[1])

    def _fetched(self):
        if self._x is None:
            if self._index is None:
                steps = torch.arange(self._longest, device=self.device)
                self._index = torch.minimum(steps, self.length[:, None] - 1)
            self._x = self._fetch(self._offset[:, None] + self._index)  # N, T, M, V, C
        return self._x

    def _pick(self, index):
        """Frames index (N, T') of each clip: (N, T', M, V, C), without what waits."""
        if self._x is not None:
            return self._x[torch.arange(len(self), device=self.device)[:, None], index]
        return self._fetch(self._rows(index))

    def _rows(self, index):
        """The rows of the frames index (N, T') of each clip, counted among those chosen so far."""
        return self._offset[:, None] + (index if self._index is None else self._index.gather(1, index))

    def _fetch(self, rows):
        """Rows (N, T) of the frames: (N, T, M, V, C)."""
        return self._frames.index_select(0, rows.flatten()).view(*rows.shape, *self._frames.shape[1:])

    # ---- steps that wait

    @property
    def _waiting(self):
        return self._turn is not None or self._shift is not None or self._exchanged is not None

    def turn(self, matrix):
        """Multiply the coordinates by matrices (N, axes, axes)."""
        C = self._frames.shape[-1]
        if self.axes < C:  # the score stays
            whole = torch.eye(C, device=self.device).repeat(len(self), 1, 1)
            whole[:, : self.axes, : self.axes] = matrix
            matrix = whole
        self._turn = matrix if self._turn is None else matrix @ self._turn
        if self._shift is not None:
            self._shift = (matrix @ self._shift[..., None])[..., 0]

    def shift(self, by):
        """Add `by` (N, axes) to the coordinates of bodies that are there; those that are absent stay zero."""
        by = F.pad(by, (0, self._frames.shape[-1] - self.axes))
        self._shift = by if self._shift is None else self._shift + by

    def exchange(self, chosen):
        """Exchange left and right joints of the chosen clips, bool (N,)."""
        self._exchanged = chosen if self._exchanged is None else self._exchanged ^ chosen

    def _matrix(self):
        """turn, (N, C, C)."""
        if self._turn is not None:
            return self._turn
        C = self._frames.shape[-1]
        return torch.eye(C, device=self.device).expand(len(self), C, C)

    def _settle(self, x):
        """Do to fetched frames x (N, T, M, V, C) what waits.

        The result lies in memory as planes, each of one coordinate, over which a CPU computes faster than over triples.
        """
        planes = x.permute(0, 4, 1, 2, 3)  # N, C, T, M, V
        if not self._waiting:
            return planes.contiguous().permute(0, 2, 3, 4, 1)
        y = torch.bmm(self._matrix(), planes.flatten(2)).view(planes.shape)
        if self._shift is not None:
            y += self._shift[..., None, None, None]
            present = self._present(x)
            if present is not None:
                y *= present[:, None, ..., None]
        if self._exchanged is not None:
            other = y.index_select(4, self.joints.mirror)
            y = torch.where(self._exchanged[:, None, None, None, None], other, y)
        return y.permute(0, 2, 3, 4, 1)

    def lead(self):
        """Let the body that is in most frames, the first of them, be the first, and keep the frames that have it.

        Clips without a body stay as they are.
        """
        present = self._pieces()[1]
        if present is None or (present.device.type == "cpu" and present[..., 0].all()):
            return
        x, steps = self.x, torch.arange(self.x.shape[1], device=self.device)
        N, _, M, _, _ = x.shape
        inside = steps < self.length[:, None]  # N, T
        present = bodies(x) & inside[..., None]
        bodies_in_order = torch.arange(M, device=self.device)
        first = (present.sum(dim=1) * M - bodies_in_order).argmax(dim=1)[:, None]  # N, 1
        order = bodies_in_order.repeat(N, 1).scatter(1, first, 0)
        order[:, :1] = first  # the two change places
        present = present.gather(2, first[:, None].expand(-1, len(steps), 1))[..., 0]
        kept = torch.where(present.any(dim=1, keepdim=True), present, inside)
        self.length = kept.sum(dim=1)
        index = (~kept).int().argsort(dim=1, stable=True)
        index = index.gather(1, torch.minimum(steps, self.length[:, None] - 1))  # the last goes on
        clip = torch.arange(N, device=self.device)[:, None, None]
        self.x = x[clip, index[..., None], order[:, None]]

    # ---- questions to whole clips

    def first_frame(self):
        """(N, V, C): the first body in the first frame that has it; zeros where it is in none."""
        first = torch.zeros(len(self), 1, dtype=torch.int64, device=self.device)
        x = self._pick(first)
        if self._present(x[:, :, :1]) is not None:
            _, present, clip, number = self._pieces()
            if present is not None:
                number = torch.where(present[..., 0], number, NEVER)
            first = (first + NEVER).scatter_reduce(0, clip[:, None], number.amin(dim=1, keepdim=True), "amin")
            x = self._pick(torch.where(first == NEVER, 0, first))
        return self._settle(x)[:, 0, 0]

    def extremes(self):
        """The smallest and the largest coordinates of each clip where there is a body, two tensors (N, axes)."""
        x, present, clip, _ = self._pieces()
        planes = x.permute(0, 4, 1, 2, 3)  # P, C, B, M, V
        y = torch.bmm(self._matrix()[clip], planes.flatten(2))[:, : self.axes]
        low, high, most = y, y, torch.finfo(y.dtype).max
        if present is not None:
            present = present[:, None, ..., None].expand(-1, 1, -1, -1, planes.shape[-1]).flatten(2)
            low, high = torch.where(present, y, most), torch.where(present, y, -most)
        ends = torch.cat([-low.amin(dim=2), high.amax(dim=2)], dim=1)  # P, 2 * axes
        ends = ends.new_full((len(self), ends.shape[1]), -most).scatter_reduce(
            0, clip[:, None].expand_as(ends), ends, "amax"
        )
        low, high = -ends[:, : self.axes], ends[:, self.axes :]
        shift = 0 if self._shift is None else self._shift[:, : self.axes]
        return low + shift, high + shift

    def _pieces(self):
        """All frames, without what waits, in P pieces of B frames; a clip's last piece goes on with its last frame.

        x (P, B, M, V, C); the bodies that are there (P, B, M), or None; the clip of each piece (P,); the numbers of its
        frames (P, B).
        """
        if self._x is not None or self._index is not None:
            x = self._fetched()
            clip, number = (torch.arange(n, device=self.device) for n in x.shape[:2])
            number = number.expand(x.shape[:2])
        else:
            count = (self.length + PIECE - 1) // PIECE
            clip = torch.repeat_interleave(count, output_size=self._num_pieces)
            first = PIECE * (count.cumsum(0) - count)  # of each clip's frames, among those of all pieces
            number = torch.arange(PIECE * self._num_pieces, device=self.device).view(-1, PIECE) - first[clip, None]
            number = torch.minimum(number, self.length[clip, None] - 1)
            x = self._fetch(self._offset[clip, None] + number)
            self._frames, self._offset = x.flatten(0, 1), first  # from now on frames are picked from these
        present = self._present(x)
        self._complete = present is None
        return x, present, clip, number

    def _present(self, x):
        return None if self._complete else bodies(x)


def bodies(x):
    """Which bodies of x (N, T, M, V, C) are there, i.e. not all zero: bool (N, T, M), or None, for all."""
    if x.device.type != "cpu":  # an answer that decides on the next step would have to be waited for
        return (x != 0).flatten(3).any(dim=3)
    present = x[..., 0, 0] != 0  # tells it of most bodies
    if not present.all():
        rest = torch.nonzero(~present, as_tuple=True)
        present[rest] = (x[rest] != 0).flatten(1).any(dim=1)
    return None if present.all() else present
