"""What the replicas have said of one request, and what it proves. [CL99 4.1, 5.1]

Here: counting the replies to one request, each replica once, results by their digest. Not here: what is sent to whom
and when (`replog.client`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from replog.codec import digest_of
from replog.core import ClientRules
from replog.types import Answer, Digest, NodeId, Reply

RESULTS: Final = (Answer.DONE, Answer.TENTATIVE, Answer.READ)
"""Answers that hold results; the others hold a text, which nobody compares."""


class Word(NamedTuple):
    """What one replica says of a request, as far as others must say the same.

    `digest`: of the results. `view`: of a tentative result, else 0. What was prepared in different views does not add
    up to a quorum: a view in between may have chosen something else, and the next one may take that. [CL99 5.1]
    """

    answer: int
    digest: Digest = b""
    view: int = 0

    def backs(self, word: Word) -> bool:
        """Whether it counts for `word`: the same, or decided what the other says tentatively. [CL99 5.1]"""
        decided = word.answer == Answer.TENTATIVE and self.answer == Answer.DONE
        return self == word or (decided and self.digest == word.digest)


class Proof(NamedTuple):
    """A word that enough replicas back, in order, and its results in full."""

    word: Word
    results: bytes
    vouchers: tuple[NodeId, ...]


class Counts(NamedTuple):
    """How many must say the same, by answer; more than there are replicas for what is never believed."""

    n: int
    least: Mapping[int, int]
    fewest: int
    """Of whatever kind."""

    @classmethod
    def of(cls, rules: ClientRules, n: int) -> Counts:
        least = dict.fromkeys(map(int, Answer), rules.reply_quorum)
        least[Answer.TENTATIVE] = rules.tentative_quorum or n + 1
        least[Answer.READ] = rules.read_quorum or n + 1
        return cls(n, least, min(least.values()))


class Replies:
    """Invariants:
    one word a replica, its latest: a rollback takes a tentative one back        (HAZARDS P39, P43)
    a proof's results have the digest that its vouchers named, whoever sent them
    """

    __slots__ = ("_counts", "_said")

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._said: dict[NodeId, tuple[Word, bytes | None]] = {}

    def hear(self, sender: NodeId, reply: Reply) -> Proof | None:
        """One more word; what is proved by it, if anything is."""
        word = _word(reply)
        self._said[sender] = word, None if reply.digested else reply.results
        proofs = (self._proof(known, vouchers) for known, vouchers in self._agreed() if known.digest == word.digest)
        return next((proof for proof in proofs if proof is not None), None)

    def forget(self, sender: NodeId) -> None:
        self._said.pop(sender, None)

    @property
    def lacks_results(self) -> bool:
        """Enough replicas agree, and none of them has sent the results in full."""
        return any(self._proof(word, vouchers) is None for word, vouchers in self._agreed())

    @property
    def alike(self) -> tuple[int, int]:
        """How many replicas have sent results, and how many of them the same, at most."""
        digests = Counter(word.digest for word, _ in self._said.values() if word.answer in RESULTS)
        return digests.total(), max(digests.values(), default=0)

    @property
    def may_read(self) -> bool:
        """Whether replicas that are still silent can make what was read at once a result."""
        silent = self._counts.n - len(self._said)
        words = [word for word, _ in self._said.values() if word.answer == Answer.READ]
        most = max(Counter(words).values(), default=0)
        return silent > 0 and most + silent >= self._counts.least[Answer.READ]

    def _agreed(self) -> Iterator[tuple[Word, tuple[NodeId, ...]]]:
        """The words that enough replicas back, and who they are."""
        if len(self._said) < self._counts.fewest:
            return
        for word in dict.fromkeys(word for word, _ in self._said.values()):
            vouchers = tuple(sorted(node for node, (said, _) in self._said.items() if said.backs(word)))
            if len(vouchers) >= self._counts.least[word.answer]:
                yield word, vouchers

    def _proof(self, word: Word, vouchers: tuple[NodeId, ...]) -> Proof | None:
        """A digest that came without its results is checked by its being equal to that of results that came."""
        full = (self._said[node][1] for node in vouchers)
        results = next((found for found in full if found is not None), None)
        return None if results is None else Proof(word, results, vouchers)

    def check_invariants(self) -> None:
        assert len(self._said) <= self._counts.n, "one word a replica"


def _word(reply: Reply) -> Word:
    if reply.answer not in RESULTS:
        return Word(reply.answer)
    digest = reply.results if reply.digested else digest_of(reply.results)
    return Word(reply.answer, digest, reply.view if reply.answer == Answer.TENTATIVE else 0)
