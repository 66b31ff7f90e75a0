"""MovieLens-100k as implicit feedback: ranks each user's next film (paper §4.3, protocol of NCF)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables import metrics
from trainables.data import DataError
from trainables.models import build_model
from trainables.tasks import Split, Task
from trainables.workloads.base import Evaluation, Predict, Resident, in_calls
from trainables.workloads.interactions import Interactions, join, leave_latest_out, read_interactions
from trainables.workloads.negatives import CANDIDATE_NEGATIVES, NegativeSampler, candidates

NEGATIVES = 4
"""Training negatives for each positive, drawn again every epoch (NCF; consistent with the paper's batch sizes)."""
CANDIDATE_SEEDS: Mapping[Split, int] = {"validation": 100_001, "test": 100_002}
EXAMPLES_PER_CALL = 256 * (1 + CANDIDATE_NEGATIVES)
PROBE_SEED = 100_003
PROBE_POSITIVES = 4096 // (1 + NEGATIVES)


class MovieLens(Resident):
    """Interactions resident on the device; `base.Workload` states the contract.

    Validation has each user's second-latest item, test the latest; evaluation ranks it among 99 fixed items that the
    user never interacted with. Training negatives come from all items outside the user's *training* items, the held-out
    ones included; otherwise their absence would give them away.

    Args:
        task: what is trained. Under `train_on = "train+validation"` the validation items are positives as well.
        interactions: all of the file.
        device: where the data is.
    """

    def __init__(self, task: Task, interactions: Interactions, device: torch.device) -> None:
        self.examples_per_call = EXAMPLES_PER_CALL
        splits = leave_latest_out(interactions)
        search = task.train_on == "train"
        positives = splits.train if search else join(splits.train, splits.validation)
        held_out: dict[Split, Interactions] = {"test": splits.test}
        if search:
            held_out["validation"] = splits.validation
        self._task, self._device = task, device
        self._counts = interactions.user_count, interactions.item_count
        self._users, self._items = positives.users.to(device), positives.items.to(device)
        self.examples = len(positives) * (1 + NEGATIVES)
        self._sampler = NegativeSampler(positives, device)
        self._candidates = {
            split: candidates(part, interactions, CANDIDATE_SEEDS[split]).to(device) for split, part in held_out.items()
        }
        self._probe = self._draw_probe()

    def build_model(self) -> nn.Module:
        """See `Workload.build_model`."""
        users, items = self._counts
        return build_model(self._task, {"users": users, "items": items})

    def epoch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns users, items and labels [5·P] in random order: every positive once, with four new negatives."""
        items = self._with_negatives(self._users, self._items, generator)
        order = torch.randperm(items.numel(), generator=generator).to(self._device)
        positive = order // (1 + NEGATIVES)
        return self._users[positive], items.flatten()[order], (order % (1 + NEGATIVES) == 0).float()

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
        """Returns HR@10 and NDCG@10 (percent) and which users' positive is in the top 10."""
        held_out = self._candidates.get(split)
        if held_out is None:
            raise ValueError(f"split '{split}' is part of the training data when train_on is '{self._task.train_on}'")

        def scores(users: Tensor, items: Tensor) -> Tensor:
            outputs = predict(users.unsqueeze(1).expand_as(items).reshape(-1), items.reshape(-1))
            return outputs.view(-1, *items.shape)

        users_per_call = max(1, self.examples_per_call // held_out.items.shape[1])
        outputs = in_calls(scores, [held_out.users, held_out.items], users_per_call)
        ranks = metrics.rank_of_positive(outputs, held_out.valid)
        hits = metrics.hit_at_k(ranks)
        return Evaluation({"hr@10": metrics.percentage(hits), "ndcg@10": metrics.ndcg_at_k(ranks)}, hits)

    def _with_negatives(self, users: Tensor, items: Tensor, generator: torch.Generator) -> Tensor:
        return torch.cat([items.unsqueeze(1), self._sampler.draw(users, NEGATIVES, generator)], dim=1)

    def _draw_probe(self) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(PROBE_SEED)
        chosen = torch.randperm(len(self._users), generator=generator)[:PROBE_POSITIVES].to(self._device)
        users = self._users[chosen]
        items = self._with_negatives(users, self._items[chosen], generator)
        labels = torch.zeros(items.shape, device=self._device)
        labels[:, 0] = 1
        return users.repeat_interleave(1 + NEGATIVES), items.flatten(), labels.flatten()


def build(task: Task, data_dir: Path, device: torch.device) -> MovieLens:
    """Returns MovieLens-100k: 943 users, 1,682 films, 100,000 interactions.

    Args:
        task: what is trained.
        data_dir: folder that contains `ml-100k/u.data`.
        device: where the data will be.

    Raises:
        DataError: the file cannot be used; the message gives the reason.
    """
    path = data_dir / "ml-100k" / "u.data"
    interactions = read_interactions(path)
    try:
        return MovieLens(task, interactions, device)
    except DataError as error:
        raise DataError(f"{path}: {error}.") from error
