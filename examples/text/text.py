import math
import random

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from trainables.workloads.own import OwnWorkload

SOUNDS = {"dog": "bark", "cat": "purr", "lion": "roar", "bird": "sing", "frog": "croak", "bee": "hum"} | {
    "cow": "moo",
    "duck": "quack",
    "owl": "hoot",
    "pig": "grunt",
    "snake": "hiss",
    "wolf": "howl",
}
SEEN = ("see", "hear", "know")
ENDING = "."
WORDS = [ENDING, "the", "that", *(word + s for word in (*SOUNDS, *SOUNDS.values(), *SEEN) for s in ("", "s"))]
NUMBERS = {word: number for number, word in enumerate(WORDS)}
LENGTH = 16


def sentence(draw):
    """Returns words such as "the dogs that the cat sees bark": the last one follows from the second alone."""
    subject, plural, depth = draw.choice(list(SOUNDS)), draw.random() < 0.5, draw.randrange(4)
    words = ["the", subject + "s" * plural]
    for _ in range(depth):
        others = draw.random() < 0.5
        words += ["that", "the", draw.choice(list(SOUNDS)) + "s" * others, draw.choice(SEEN) + "s" * (not others)]
    return [*words, SOUNDS[subject] + "s" * (not plural)]


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.mixed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.register_buffer("later", torch.ones(LENGTH, LENGTH).triu(1).bool())

    def forward(self, x):
        q, k, v = self.mixed(self.norms[0](x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(self.later, -math.inf).softmax(dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.inner(self.norms[1](x))


class Transformer(nn.Module):
    def __init__(self, width=32, heads=2, blocks=2):
        super().__init__()
        self.words = nn.Embedding(len(WORDS), width)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.scores = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(WORDS)))

    def forward(self, words):
        return self.scores(self.blocks(self.words(words) + self.places))


class Text(OwnWorkload):
    """A language model of a small grammar; its metric is the share of sentences whose last word it knows."""

    def data(self, data_dir):
        draw = random.Random(0)
        texts = torch.zeros(1768, LENGTH + 1, dtype=torch.long)
        for text in texts:
            words = sentence(draw)
            text[LENGTH + 1 - len(words) :] = torch.tensor([NUMBERS[word] for word in words])
        parts = slice(0, 512), slice(512, 768), slice(768, 1768)
        return tuple((texts[part, :-1], texts[part, 1:]) for part in parts)

    def model(self):
        return Transformer()

    def loss(self, outputs, targets):
        return cross_entropy(outputs.mT, targets, reduction="none").mean(dim=1)

    def metric(self, outputs, targets):
        return outputs[:, -1].argmax(dim=1) == targets[:, -1]
