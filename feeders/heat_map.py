"""Heat maps of poses in pictures: the input of PoseC3D (Duan et al., CVPR 2022, section 3.2)."""

import torch

from torchlight.errors import expect

FAINT = 1e-3  # joints of a lower score are not drawn (PYSKL, GeneratePoseTarget)
BLOCK = 1 << 22  # pixels drawn at a time


class HeatMaps:
    """Draw clips (N, C, T, V, M) as volumes (N, V, T, size, size): of each joint a Gaussian at its place.

    x and y of a joint, the first two of its channels, go from -1 to 1 over the picture, and where both are 0 it was not
    seen; the third channel is its score, the height of the Gaussian. Of several persons the largest value counts.

    sigma      width of the Gaussians in pixels; as in PYSKL they end about 3 sigma from their centre, at a whole pixel
    limb       draw the graph's L limbs instead of the joints, (N, L, T, size, size): Gaussians of the distance from
               the line between two joints, as high as the lower score
    double     (a test) also the mirrored volumes: each clip becomes two rows
    use_score  False: every joint that was seen counts as certain

    channels: V or L; views: rows a clip becomes. Raises ValueError for a size below 1 or a sigma of 0 or less.
    """

    def __init__(self, graph, size=56, sigma=0.6, limb: bool | None = None, double=False, use_score=True):
        expect(size >= 1, "size", "at least 1", size)
        expect(sigma > 0, "sigma", "above 0", sigma)
        self.size, self.sigma, self.use_score = size, sigma, use_score
        self.limbs = torch.tensor(graph.limbs).T if limb else None  # 2, L
        self.mirror = graph.limb_mirror if limb else graph.mirror
        self.channels = len(self.mirror)
        self.views = 2 if double else 1

    def __call__(self, x):
        N, C, T, _, M = x.shape
        seen = (x[:, :2] != 0).any(dim=1)
        score = x[:, 2] if C == 3 and self.use_score else torch.ones_like(x[:, 0])
        score = torch.where(seen & (score >= FAINT), score, 0).permute(3, 0, 2, 1)  # M, N, V, T
        place = ((x[:, :2] + 1) * (self.size / 2)).permute(1, 4, 0, 3, 2)  # 2, M, N, V, T: pixels
        draw = self.joints if self.limbs is None else self.lines
        maps = x.new_zeros(N, self.views, self.channels, T, self.size, self.size)
        block = max(1, BLOCK // (self.channels * T * self.size**2))
        for first in range(0, N, block):
            rows = slice(first, first + block)
            volume = maps[rows, 0]
            for person in range(M):
                torch.maximum(volume, draw(*place[:, person, rows], score[person, rows]), out=volume)
            if self.views == 2:
                maps[rows, 1] = volume[:, self.mirror].flip(-1)
        return maps.flatten(0, 1)

    def joints(self, x, y, score):
        """Centres x, y (pixels) and heights, (N, V, T) -> (N, V, T, H, W). A Gaussian is a product of two."""
        across = self.bell(self.offset(x) ** 2) * self.window(x, x)
        down = self.bell(self.offset(y) ** 2) * self.window(y, y) * score[..., None]
        return down[..., None] * across[..., None, :]

    def lines(self, x, y, score):
        """As joints, of the limbs between them: (N, L, T, H, W)."""
        start, end = self.limbs.to(x.device)
        x0, x1, y0, y1 = x[:, start], x[:, end], y[:, start], y[:, end]
        height = torch.minimum(score[:, start], score[:, end])
        short = (x1 - x0) ** 2 + (y1 - y0) ** 2 < 1  # only its start is drawn, as high as that
        height = torch.where(short & (height > 0), score[:, start], height)
        x1, y1 = torch.where(short, x0, x1), torch.where(short, y0, y1)
        across, down = self.offset(x0)[..., None, :], self.offset(y0)[..., None]  # N, L, T, 1, W and N, L, T, H, 1
        dx, dy = (x1 - x0)[..., None, None], (y1 - y0)[..., None, None]
        square = torch.where(short[..., None, None], 1, dx**2 + dy**2)
        nearest = (across * (dx / square) + down * (dy / square)).clamp_(0, 1)  # point of the limb: 0 start, 1 end
        distance = torch.addcmul(across, nearest, dx, value=-1).square_()
        distance += torch.addcmul(down, nearest, dy, value=-1).square_()
        across = self.window(torch.minimum(x0, x1), torch.maximum(x0, x1))
        down = self.window(torch.minimum(y0, y1), torch.maximum(y0, y1)) * height[..., None]
        return self.bell(distance).mul_(down[..., None]).mul_(across[..., None, :])

    def offset(self, place):
        """Distance of every pixel from a place: (...) -> (..., size)."""
        return torch.arange(self.size, device=place.device) - place[..., None]

    def bell(self, square):
        """The Gaussian of a squared distance, which is overwritten."""
        return square.div_(-2 * self.sigma**2).clamp_(min=-80).exp_()  # what underflows takes a CPU ten times as long

    def window(self, low, high):
        """Which pixels are drawn, 1 or 0: from 3 sigma below `low` to 3 sigma above `high`, truncated to integers."""
        pixel, reach = torch.arange(self.size, device=low.device), 3 * self.sigma
        first, last = (low - reach).trunc(), (high + reach).trunc()
        return ((pixel >= first[..., None]) & (pixel <= last[..., None])).float()
