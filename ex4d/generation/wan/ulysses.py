# SPDX-License-Identifier: Apache-2.0
"""Sequence parallelism: each process has a share of the tokens, and for self-attention all tokens of a share of heads.

DeepSpeed-Ulysses (arXiv 2309.14509). Exact: only the order of tokens and heads in memory changes on the way.
"""

from collections.abc import Callable

from torch import Tensor

from ex4d.generation.wan.attention import Attention

Exchange = Callable[[Tensor, Tensor, list[int], list[int], range], None]
"""See `ranks.Ranks.exchange`."""


class Ulysses:
    """The `Sharding` of `fast_forward.FastForward` among the processes of a group. Any count of tokens."""

    def __init__(self, rank: int, members: range, exchange: Exchange) -> None:
        """
        Args:
            rank: of this process.
            members: the ranks that share these tokens; as many as divide the heads. The other ranks of the team share
                other tokens in other instances and go through the same forward at the same time.
            exchange: sends rows to the members.
        """
        self._members, self._exchange = members, exchange
        self._rank, self._size = members.index(rank), len(members)
        self._counts = [0] * self._size  # tokens of each process

    def share(self, tokens: Tensor) -> Tensor:
        """This process's tokens. [1, all tokens, ...] -> [1, tokens, ...]"""
        whole, rest = divmod(tokens.shape[1], self._size)
        self._counts = [whole + (rank < rest) for rank in range(self._size)]
        return tokens.split(self._counts, dim=1)[self._rank].contiguous()

    def whole(self, tokens: Tensor) -> Tensor:
        """All tokens. [1, tokens, channels] -> [1, all tokens, channels]"""
        everything = self._exchanged(tokens[0].repeat(self._size, 1), [tokens.shape[1]] * self._size, self._counts)
        return everything[None]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, attend: Attention) -> Tensor:
        """What this process's tokens attend to among all tokens. [1, tokens, heads, head_dim]"""
        count, heads, width = q.shape[1:]
        own_heads = heads // self._size
        mine = [count] * self._size
        outgoing = q.new_empty((self._size, count, 3, own_heads, width))
        for index, part in enumerate((q, k, v)):
            outgoing[:, :, index] = part[0].unflatten(1, (self._size, own_heads)).transpose(0, 1)
        every = self._exchanged(outgoing.flatten(0, 1), mine, self._counts)  # [all tokens, 3, own_heads, width]
        attended = attend(*(part[None] for part in every.unbind(1)))[0].contiguous()
        incoming = self._exchanged(attended, self._counts, mine)
        return incoming.unflatten(0, (self._size, count)).transpose(0, 1).flatten(1, 2)[None]

    def _exchanged(self, rows: Tensor, sent: list[int], received: list[int]) -> Tensor:
        """Rows of dim 0, so many to and from each member."""
        arrived = rows.new_empty((sum(received), *rows.shape[1:]))
        self._exchange(arrived, rows, received, sent, self._members)
        return arrived
