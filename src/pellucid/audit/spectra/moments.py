"""Mean and standard deviation of any number of arrays, without keeping them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Moments:
    """The moments of the arrays seen so far, in float64.

    count: how many. mean: of each element. squares: the sum of squared distances from the mean.

    Chan, Golub & LeVeque 1983, Algorithms for computing the sample variance: analysis and recommendations.
    """

    count: int = 0
    mean: Tensor | None = None
    squares: Tensor | None = None

    def add(self, batch: Tensor) -> Moments:
        """With more arrays, stacked along the first axis.

        >>> import torch
        >>> seen = Moments().add(torch.tensor([1.0, 2.0])).add(torch.tensor([6.0]))
        >>> seen.count, float(seen.mean), float(seen.std())
        (3, 3.0, 2.160246899469287)
        """
        batch = batch.detach().double()
        middle = batch.mean(0)
        return self.merge(Moments(len(batch), middle, (batch - middle).square().sum(0)))

    def merge(self, other: Moments) -> Moments:
        """Of the arrays of both."""
        if self.mean is None or self.squares is None:
            return other
        if other.mean is None or other.squares is None:
            return self
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        squares = self.squares + other.squares + apart.square() * (self.count * other.count / count)
        return Moments(count, mean, squares)

    def both(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation."""
        std = self.std()
        assert self.mean is not None
        return self.mean, std

    def std(self) -> Tensor:
        """The standard deviation of each element, over all arrays (numpy's, with 0 degrees of freedom taken)."""
        if self.squares is None:
            raise ValueError("no arrays have been seen")
        return (self.squares / self.count).sqrt()
