"""Random crops with flips, drawn for a whole epoch and cut for a whole batch at once, on the device of the images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Crops:
    """Images with a border of zeros, of which each crop has the images' own size (He et al. 2015, section 4.2).

    Args:
        images: uint8 [N, C, H, W].
        padding: width of the border, pixels.
    """

    def __init__(self, images: Tensor, padding: int) -> None:
        self._places, self._size = 2 * padding + 1, images.shape[-2:]
        # Channels last, so that a crop copies whole pixels.
        self._padded = F.pad(images, [padding] * 4).permute(0, 2, 3, 1).contiguous()

    @property
    def center(self) -> int:
        """The crop that is the image itself."""
        return self._places**2 // 2

    def draw(self, generator: torch.Generator) -> Tensor:
        """Returns a crop for each image, int64 [N] on the generator's device: place and flip as one number.

        Each of the (2·padding + 1)² places is as likely as any other, and half of the crops are flipped.
        """
        return torch.randint(2 * self._places**2, (len(self._padded),), generator=generator, device=generator.device)

    def cut(self, index: Tensor, crop: Tensor) -> Tensor:
        """Returns crops [..., C, H, W] of images [...].

        They stay channels last in memory on a GPU, whose tensor cores take convolutions in that layout; on a CPU VGG-19
        takes 15 % longer in it.
        """
        height, width = self._size
        flip, place = crop // self._places**2, crop % self._places**2
        rows = (place // self._places).unsqueeze(-1) + torch.arange(height, device=crop.device)
        columns = torch.arange(width, device=crop.device)
        columns = torch.where(flip.unsqueeze(-1) == 1, width - 1 - columns, columns)
        columns = (place % self._places).unsqueeze(-1) + columns
        found = self._padded[index[..., None, None], rows.unsqueeze(-1), columns.unsqueeze(-2)].movedim(-1, -3)
        return found if found.is_cuda else found.contiguous()
