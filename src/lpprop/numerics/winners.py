"""Solve for the classes that win somewhere, and prove that the others do not.

Propagation multiplies the scores Y_c of each class by one matrix G = (I - alpha S')^-1, which has
no negative entry. Let m be the largest score of a group of classes at each node. Then m >= Y_c, and
so G m >= G Y_c for each class of the group: one column bounds them all. Where G m stays below the
best of the classes that are solved, no class of the group wins.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lpprop.kernels.memory import borrow_tensor
from lpprop.numerics.twins import find_firsts

__all__ = ["solve_winners"]

# Compiled code solves so many columns in the time of one.
_LANES = 8
# Shares of nodes in doubt: above the first, more classes are tried at a time; above the second, all
# classes in doubt are solved, since proof would take longer.
_MANY, _HOPELESS = 0.001, 0.01
# The most bounds per class, which limits what proof costs where it fails.
_SPENT = 1 / 8
# Roundings by which a bound has to stay below the best class, relative to the largest score.
_ROUNDINGS = 64
# Nodes per block of bounds, which stays in the cache while the classes pass.
_BLOCK = 2**16
# Cells of the guess by which classes are put into groups.
_CELLS = 2048
# Lead, relative to the median, within which classes count as rivals at a cell.
_RIVALRY = 0.05


def solve_winners(
    scores: Float[Tensor, "C N"],
    solve: Callable[[Tensor], Tensor],
    guess: Callable[[], tuple[Float[Tensor, "C cells"], Int[Tensor, " N"]]],
) -> Float[Tensor, "C N"]:
    """Solve for the classes that may win at some node; give the others a score below all of theirs.

    The classes that win in the guess are solved together with bounds of the others. Groups of
    classes whose bound reaches the best class somewhere are solved in part, and bounded anew. The
    guess decides how long this takes, not what is right. Of classes with the same scores
    everywhere only the first can win.

    Args:
        scores: any real scores; each operator G that `solve` stands for is the same for all rows.
        solve: returns G scores, row by row.
        guess: returns approximate solutions at a few cells, and the cell of each node.

    Returns:
        The solutions, differentiable in the scores of the classes that were solved.

    >>> scores = torch.tensor([[4.0, 1.0], [1.0, 2.0]] + 8 * [[0.5, 0.5]])
    >>> solve_winners(scores, lambda x: 2 * x, lambda: (scores, torch.arange(2)))[:4]
    tensor([[8.0000, 2.0000],
            [2.0000, 4.0000],
            [1.0000, 1.0000],
            [0.1750, 0.1750]])
    """
    detached = scores.detach()
    first = find_firsts(detached)
    pending = torch.arange(len(scores), device=scores.device)
    pending = pending if first is None else pending[first == pending]
    result = _allocate(detached)
    if len(pending) <= _LANES:
        return _fill_rest(result.index_copy_(0, pending, solve(scores[pending])), pending)

    guessed, cell = guess()
    rows = scores.unbind()  # which are copied once, where an index would make it twice
    lead = guessed - guessed[pending].amax(0)
    winning = torch.isin(pending, pending[guessed[pending].argmax(0)])
    chosen, pending = pending[winning], pending[~winning]
    near = torch.arange(lead.shape[1], device=lead.device)
    count = -(len(chosen) + 1) % _LANES + 1  # which fills the lanes
    if count < len(chosen) // _LANES:  # too few bounds for so many classes would be too high
        count += _LANES
    kept, best, bounded = chosen, torch.full_like(detached[0], -torch.inf), 0
    while True:
        groups = _share_out(pending, lead[:, near], count)
        bounds = _bound(detached, groups)
        solved = solve(torch.stack([*(rows[i] for i in chosen.tolist()), *bounds]))
        result.index_copy_(0, chosen, solved[: len(chosen)])
        best = torch.maximum(best, solved[: len(chosen)].detach().amax(0))
        slack = _ROUNDINGS * torch.finfo(best.dtype).eps * float(best.abs().max())
        reached = [bound > best - slack for bound in solved[len(chosen) :].detach()]
        doubtful = [group for group, nodes in zip(groups, reached, strict=True) if nodes.any()]
        if not doubtful:
            return _fill_rest(result, kept)
        pending, nodes = torch.cat(doubtful), torch.stack(reached).any(0)
        share, bounded = float(nodes.float().mean()), bounded + count
        count = _LANES if share > _MANY else _LANES // 2
        spent = bounded + count > len(scores) * _SPENT
        if share > _HOPELESS or spent or len(pending) <= 2 * count:
            break
        near = cell[nodes].unique()
        order = lead[pending][:, near].amax(1).argsort(descending=True, stable=True)
        chosen, pending = pending[order[:count]], pending[order[count:]]
        kept = torch.cat([kept, chosen])
    for part in pending.split(3 * _LANES):  # some at a time, for the sake of memory
        result.index_copy_(0, part, solve(scores[part]))
    return _fill_rest(result, torch.cat([kept, pending]))


def _fill_rest(result: Float[Tensor, "C N"], kept: Int[Tensor, " K"]) -> Float[Tensor, "C N"]:
    """Set the classes that are not kept below all others, even after rounding to half precision."""
    places = kept.tolist()
    bounds = [torch.aminmax(result[place].detach()) for place in places]
    low = float(torch.stack([bound.min for bound in bounds]).amin())
    high = float(torch.stack([bound.max for bound in bounds]).amax())
    below = low - 0.1 * (high - low) - max(abs(low), abs(high)) / 64
    rest = torch.tensor(sorted(set(range(len(result))) - set(places)), device=result.device)
    return result.index_fill_(0, rest.long(), below)


def _share_out(
    classes: Int[Tensor, " K"], lead: Float[Tensor, "C cells"], count: int
) -> list[Int[Tensor, " members"]]:
    """Put classes into at most so many groups, apart where they are rivals.

    The bound of a group is too high where its classes take turns at being the largest, so that each
    class goes to the group whose members are near the lead at other cells.
    """
    if not len(classes):  # all others win
        return []
    if count == 1 or len(classes) <= count:
        return list(classes.split(1 if count > 1 else len(classes)))
    lead = lead[classes][:, :: -(-lead.shape[1] // _CELLS)]
    scale = _RIVALRY * lead.abs().median() + torch.finfo(lead.dtype).tiny
    rivalry = (lead / scale).exp()
    total = rivalry.new_zeros((count, rivalry.shape[1]))
    chosen: list[list[int]] = [[] for _ in range(count)]
    for member in lead.amax(1).argsort(descending=True, stable=True).tolist():
        place = int((total @ rivalry[member]).argmin())
        chosen[place].append(member)
        total[place] += rivalry[member]
    return [classes[members] for members in chosen if members]


def _bound(
    scores: Float[Tensor, "C N"], groups: list[Int[Tensor, " members"]]
) -> Float[Tensor, "groups N"]:
    """Return the largest score of each group's classes at each node."""
    bounds = scores.new_empty((len(groups), scores.shape[1]))
    members = [group.tolist() for group in groups]
    for block, targets in zip(scores.split(_BLOCK, 1), bounds.split(_BLOCK, 1), strict=True):
        rows = block.unbind(0)
        for target, (first, *others) in zip(targets.unbind(0), members, strict=True):
            target.copy_(rows[first])
            for other in others:
                torch.maximum(target, rows[other], out=target)
    return bounds


def _allocate(scores: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
    """Make a tensor of any values for the result."""
    if scores.device.type != "cpu":
        return torch.empty_like(scores)
    # New pages for all classes would take longer than the solution for few.
    return borrow_tensor(tuple(scores.shape), scores[:0].numpy().dtype)
