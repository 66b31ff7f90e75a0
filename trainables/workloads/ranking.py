"""Implicit feedback: a model ranks each user's next item among others (paper §4.3, protocol of NCF)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainables import metrics
from trainables.examples import PLACES
from trainables.models import build_model
from trainables.tasks import GPU_CALL, Split, Task
from trainables.workloads.base import Evaluation, Predict, Resident, in_calls, trained_on
from trainables.workloads.interactions import Interactions, Splits, join
from trainables.workloads.negatives import CANDIDATE_NEGATIVES, Candidates, NegativeSampler, candidates

NEGATIVES = 4
"""Training negatives for each positive, drawn again every epoch (NCF; consistent with the paper's batch sizes)."""
CANDIDATE_SEEDS: Mapping[Split, int] = {"validation": 100_001, "test": 100_002}
EXAMPLES_PER_CALL = 256 * (1 + CANDIDATE_NEGATIVES)
PROBE_SEED = 100_003
PROBE_POSITIVES = 4096 // (1 + NEGATIVES)


class Ranking(Resident):
    """Interactions resident on the device; `base.Workload` states the contract.

    Evaluation ranks each user's held-out item among fixed ones: those given, or 99 that the user never interacted with.
    Training negatives come from all items outside the user's *training* items, the held-out ones included; otherwise
    their absence would give them away.

    Args:
        task: what is trained. Under `train_on = "train+validation"` the validation items are positives as well.
        splits: all interactions.
        device: where the data is; an epoch is drawn there.
        given: candidates of splits whose publisher gives them.
    """

    def __init__(
        self, task: Task, splits: Splits, device: torch.device, given: Mapping[Split, Candidates] | None = None
    ) -> None:
        self.examples_per_call = EXAMPLES_PER_CALL if device.type == "cpu" else GPU_CALL
        search = task.train_on == "train"
        known = join(splits.train, splits.validation)
        positives = splits.train if search else known
        held_out: dict[Split, Interactions] = {"test": splits.test}
        if search:
            held_out["validation"] = splits.validation
        self._task, self._device = task, device
        self._counts = positives.user_count, positives.item_count
        self._users, self._items = positives.users.to(device), positives.items.to(device)
        self.examples = len(positives) * (1 + NEGATIVES)
        self._sampler = NegativeSampler(positives, device)
        everything, fixed = join(known, splits.test), dict(given or {})
        for split in held_out.keys() - fixed.keys():
            fixed[split] = candidates(held_out[split], everything, CANDIDATE_SEEDS[split])
        self._popularity = popularity(known, fixed["test"])
        self._candidates = {split: fixed[split].to(device) for split in held_out}
        self._probe = self._draw_probe()

    def build_model(self) -> nn.Module:
        """See `Workload.build_model`."""
        users, items = self._counts
        return build_model(self._task, {"users": users, "items": items})

    def epoch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns users, items and labels [5·P] in random order: every positive once, with four new negatives."""
        generator = on_device(generator, self._device)
        examples = self._with_negatives(self._users, self._items, generator)
        order = torch.randperm(self.examples, generator=generator, device=self._device)
        return tuple(values.index_select(0, order) for values in examples)  # several times as fast as values[order]

    def batch(self, *examples: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Returns users and items, and the labels, unchanged."""
        users, items, labels = examples
        return (users, items), labels

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `metrics.binary_margin`."""
        return metrics.binary_margin(outputs, targets)

    def probe_examples(self) -> tuple[Tensor, ...]:
        """Returns 819 fixed positives with four fixed negatives each, or as many as there are."""
        return self._probe

    def evaluate(self, predict: Predict, split: Split) -> Evaluation:
        """Returns HR@10, NDCG@10 and AUC (percent) and which users' positive is in the top 10."""
        held_out = self._candidates.get(split)
        if held_out is None:
            raise trained_on(split, self._task)

        def scores(users: Tensor, items: Tensor) -> Tensor:
            outputs = predict(users.unsqueeze(1).expand_as(items).reshape(-1), items.reshape(-1))
            return outputs.view(-1, *items.shape)

        users_per_call = max(1, self.examples_per_call // held_out.items.shape[1])
        outputs = in_calls(scores, [held_out.users, held_out.items], users_per_call)
        measured, ranks = ranked(outputs, held_out.valid)
        places = ranks.clamp_max(PLACES).to(torch.uint8)
        return Evaluation(measured, metrics.hit_at_k(ranks), places=places)

    def references(self) -> Mapping[str, Mapping[str, float]]:
        """Returns HR@10, NDCG@10 and AUC of ranking by popularity, for what `train+validation` trains on."""
        return {"itempop": self._popularity}

    def _with_negatives(self, users: Tensor, items: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns users, items and labels [5·P] of positives [P]: each is followed by its four negatives."""
        items = torch.cat([items.unsqueeze(1), self._sampler.draw(users, NEGATIVES, generator)], dim=1)
        labels = torch.zeros(items.shape, device=self._device)
        labels[:, 0] = 1
        return users.repeat_interleave(1 + NEGATIVES), items.flatten(), labels.flatten()

    def _draw_probe(self) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(PROBE_SEED)
        chosen = torch.randperm(len(self._users), generator=generator)[:PROBE_POSITIVES].to(self._device)
        return self._with_negatives(self._users[chosen], self._items[chosen], generator)


def on_device(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """Returns a generator that draws on a device: the given one, or one seeded by it where it draws elsewhere.

    So millions of numbers are drawn where they are used, and a CPU draws the same ones as it always did.
    """
    if generator.device.type == device.type:
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))


def ranked(scores: Tensor, valid: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
    """Returns HR@10, NDCG@10 and AUC [...] (percent), and the rank of each user's positive, from 0, int64 [..., E].

    Args:
        scores: [..., E, 1 + N], the positive first.
        valid: bool [E, 1 + N], False at padding; None without.
    """
    ranks = metrics.rank_of_positive(scores, valid)
    hits = metrics.percentage(metrics.hit_at_k(ranks))
    return {"hr@10": hits, "ndcg@10": metrics.ndcg_at_k(ranks), "auc": metrics.auc(scores, valid)}, ranks


def popularity(positives: Interactions, fixed: Candidates) -> dict[str, float]:
    """Returns HR@10, NDCG@10 and AUC (percent) of ranking every user's candidates by their number of interactions.

    It is what a model without any user's taste can reach. As everywhere here, a tie counts against the positive.

    Args:
        positives: interactions that are counted; none of the split that is ranked.
        fixed: the candidates.
    """
    counts = torch.bincount(positives.items, minlength=positives.item_count)
    found, _ = ranked(counts[fixed.items], fixed.valid)
    return {name: round(value.item(), 4) for name, value in found.items()}
