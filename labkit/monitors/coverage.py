"""The ledger of what has been read: every shard once an epoch, none twice, none never."""

from __future__ import annotations

from labkit.errors import UsageError
from labkit.monitors.alert import Alert

__all__ = ["CoverageLedger"]


class CoverageLedger:
    """Counts reads by epoch and shard. No threshold: a read is in the ledger or it is not.

    A repeated shard alerts at its second read. A skipped one can only be missed once every rank has gone on to the next
    epoch, so its alert comes up to an epoch late: the ledger believes reads, not what a loader says of its own order.
    """

    def __init__(self, num_shards: int, num_ranks: int) -> None:
        if num_shards < 1 or num_ranks < 1:
            raise UsageError(f"A ledger needs at least one shard and one rank; got {num_shards} and {num_ranks}.")
        self.num_shards, self.num_ranks = num_shards, num_ranks
        self._read: dict[int, dict[int, tuple[int, int]]] = {}  # epoch -> shard -> (step, rank) of its first read
        self._at = [0] * num_ranks  # the epoch that each rank reads
        self._closed = 0  # epochs that have been looked through

    def read(self, step: int, rank: int, epoch: int, shard: int) -> list[Alert]:
        """Note one read. UsageError: a rank, epoch or shard that there is not."""
        if not (0 <= rank < self.num_ranks and 0 <= shard < self.num_shards and epoch >= 0):
            raise UsageError(
                f"The ledger knows {self.num_ranks} ranks and {self.num_shards} shards; got rank {rank}, shard {shard} "
                f"and epoch {epoch}."
            )
        alerts = []
        reads = self._read.setdefault(epoch, {})
        first = reads.get(shard)
        if first is None:
            reads[shard] = (step, rank)
        else:
            told = f"read again in epoch {epoch} by rank {rank}; first in step {first[0]} by rank {first[1]}"
            evidence = {"epoch": epoch, "rank": rank, "first_step": first[0], "first_rank": first[1]}
            alerts.append(
                Alert(monitor="repeated shard", step=step, where=f"shard {shard}", message=told, evidence=evidence)
            )
        self._at[rank] = max(self._at[rank], epoch)
        while self._closed < min(self._at):
            alerts += self._close(step)
        return alerts

    def finish(self, step: int, *, num_epochs: int) -> list[Alert]:
        """At the end, after which nobody goes on to another epoch: what was never read in the first num_epochs."""
        alerts = []
        while self._closed < num_epochs:
            alerts += self._close(step)
        return alerts

    def _close(self, step: int) -> list[Alert]:
        epoch, self._closed = self._closed, self._closed + 1
        read = self._read.get(epoch, {})
        missing = [shard for shard in range(self.num_shards) if shard not in read]
        told = f"not read in epoch {epoch}, which every rank has left"
        evidence = {"epoch": epoch, "read": len(read), "num_shards": self.num_shards}
        return [
            Alert(monitor="skipped shard", step=step, where=f"shard {shard}", message=told, evidence=evidence)
            for shard in missing
        ]
