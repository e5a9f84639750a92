"""What "it" stands for: attention learns to look at the noun, and moving its weights changes the answer.

"The bee landed on the flower because it had nectar" and "... because it was hungry" differ in their ends, and so in
what "it" is. A reader of two layers of self-attention learns pairs like this: the first tells "it" how the sentence
ends, the second averages the other words, and the answer is the word most like the average. It is asked about pairs of
nouns that it never saw together. Baselines: the last noun before "it", and a linear model of the words that are there.
Beside it stands what a real sentence encoder, MiniLM, gives "it" in both sentences, reported as it is.

Run: python examples/antecedents.py [--out DIRECTORY]
"""

import itertools
import time
from pathlib import Path

import numpy as np
import torch
from _script import claim, figures_folder
from torch import nn

import softly
from softly.report.panels import Panel, svg
from softly.torch import SelfAttention

NOUNS = {
    "animal": ["bee", "bird", "ant", "moth", "wasp", "fly", "beetle", "mouse", "bat", "hare", "squirrel", "sparrow"],
    "plant": ["flower", "tree", "bush", "rose", "clover", "lily", "daisy", "thistle", "orchid", "tulip", "oak", "elm"],
}
ENDS = {
    "animal": ["was hungry", "was thirsty", "was tired", "wanted food", "wanted rest", "felt weak", "felt lost"],
    "plant": ["had nectar", "had pollen", "was blooming", "smelled sweet", "had petals", "grew tall", "had leaves"],
}
TEMPLATES = ["{a} landed on the {p}", "{p} attracted the {a}", "{a} left the {p}", "{p} fed the {a}"]
PAIRS = list(itertools.product(*NOUNS.values()))
HELD_OUT = 36  # pairs of nouns
WIDTH, EPOCHS, BATCH = 48, 5, 128


def sentences():
    """(pair, words, antecedent) of every pair of nouns, template and end."""
    for (a, p), template, kind in itertools.product(PAIRS, TEMPLATES, ENDS):
        for end in ENDS[kind]:
            told = f"the {template.format(a=a, p=p)} because it {end} ."
            yield (a, p), told.split(), a if kind == "animal" else p


class Reader(nn.Module):
    """Words and places to a word: the antecedent of what stands at `at`."""

    def __init__(self, vocabulary, length):
        super().__init__()
        self.words, self.places = nn.Embedding(vocabulary, WIDTH), nn.Embedding(length, WIDTH)
        self.context, self.pointer = SelfAttention(WIDTH, heads=2), SelfAttention(WIDTH)
        for layer in (self.pointer.value, self.pointer.output):  # copies: what is learned is where to look
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
            layer.requires_grad_(False)

    def read(self, words, at):
        """What the pointer sees: words as they are but "it", which knows what comes after it; and where: not "it"."""
        x, places = self.words(words) + self.places.weight[: words.shape[1]], torch.arange(words.shape[1])
        after, is_it = places > at[:, None], places == at[:, None]
        x = torch.where(is_it[..., None], x + self.context(x, where=after[:, None]), x)
        return x, ~is_it[:, None]

    def forward(self, words, at, weights=None):
        """Scores of all words: how like theirs the average is."""
        x, others = self.read(words, at)
        average = self.pointer(x, where=others, weights=weights)[torch.arange(len(words)), at]
        return average @ self.words.weight.T


def train(model, truth, *inputs):
    """Fits the model's scores of all words to the antecedents."""
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(truth)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(*(x[batch] for x in inputs)), truth[batch]).backward()
            optimiser.step()


def share(scores, expected):
    """How many of the answers are as expected."""
    return (scores.argmax(-1) == expected).float().mean().item()


def minilm():
    """Weights of "bee" and "flower" in the 72 heads of MiniLM, and where "flower" is first, of both sentences."""
    with np.load(Path(__file__).parent / "data" / "minilm_attention.npz") as data:
        for i in (0, 1):
            tokens = data[f"tokens_{i}"].tolist()
            weights = softly.softmax(data[f"scores_{i}"].astype(np.float64))[:, :, tokens.index("it")].reshape(72, -1)
            bee, flower = tokens.index("bee"), tokens.index("flower")
            yield weights[:, bee], weights[:, flower], weights.argmax(-1) == flower


def figure(own, real):
    """Weights of both nouns: the reader's on held-out sentences, and MiniLM's in both sentences."""
    panels = []
    for title, nouns, most, clouds in (
        ("The reader, held-out pairs", ("the animal", "the plant"), 1.0, own),
        ("MiniLM, 72 heads", ("bee", "flower"), 0.4, real),
    ):
        panel = Panel(title, f"weight of {nouns[0]}", f"weight of {nouns[1]}", (0, most), (0, most))
        for colour, (name, (x, y, *_)) in enumerate(clouds.items()):
            panel.points(x, y, name, colour)
            panel.note(name, colour, (0.5 * most, (0.9 - 0.1 * colour) * most))
        panels.append(panel)
    return svg("What it stands for: weights of the two nouns", panels)


def main():
    """Trains, asks, moves weights, and draws."""
    out, start = figures_folder(__doc__), time.process_time()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # for matrices this small
    told, length = list(sentences()), 11
    index = {word: i for i, word in enumerate(sorted({word for _, words, _ in told for word in words}))}
    words = torch.tensor([[index[w] for w in (*words, ".")][:length] for _, words, _ in told])
    at, truth = (words == index["it"]).nonzero()[:, 1], torch.tensor([index[word] for *_, word in told])
    held = {PAIRS[i] for i in torch.randperm(len(PAIRS))[:HELD_OUT]}
    test = torch.tensor([pair in held for pair, *_ in told])
    reader, linear = Reader(len(index), length), nn.EmbeddingBag(len(index), len(index))
    train(reader, truth[~test], words[~test], at[~test])
    train(linear, truth[~test], words[~test])

    words, at, truth, rows = words[test], at[test], truth[test], torch.arange(int(test.sum()))
    animals, plants = (torch.tensor([index[noun] for noun in nouns]) for nouns in NOUNS.values())
    animal, plant = (torch.isin(words, nouns).nonzero()[:, 1] for nouns in (animals, plants))
    is_animal, not_it = torch.isin(truth, animals), words[rows, animal] + words[rows, plant] - truth
    with torch.no_grad():
        x, others = reader.read(words, at)
        weights = reader.pointer.weights(x, where=others)
        of_animal, of_plant = weights[rows, 0, at, animal], weights[rows, 0, at, plant]
        moved = torch.zeros_like(weights)
        moved[rows, 0, at, torch.where(is_animal, plant, animal)] = 1
        right, by_words = (share(scores, truth) for scores in (reader(words, at), linear(words)))
        turned = share(reader(words, at, weights=moved), not_it)
    by_rule = (words[rows, torch.maximum(animal, plant)] == truth).float().mean()
    claim(f"held-out pairs of nouns, {len(rows)} sentences: {right:.1%} of the antecedents are found", right >= 0.95)
    claim(
        f"the last noun before it is right in {by_rule:.1%}, a linear model of the words in {by_words:.1%}", by_rule < 1
    )
    claim("training and asking take less than a minute", time.process_time() - start < 60)
    its, others = (torch.where(is_animal, *pair) for pair in ((of_animal, of_plant), (of_plant, of_animal)))
    ahead, most, less = (x.float().mean() for x in (its > others, its, others))
    claim(f"it outweighs the other noun in {ahead:.1%}, with {most:.3f} of the weight to {less:.3f}", ahead > 0.95)
    claim(f"with all weight moved to the other noun, {turned:.1%} of the answers are that one", turned > 0.95)

    real = dict(zip(("it had nectar", "it was hungry"), minilm(), strict=True))
    for name, (bee, flower, top) in real.items():
        claim(f"MiniLM, {name}: flower beats bee in {(flower > bee).sum()} of 72 heads, is first in {top.sum()}", True)
    both = torch.stack([of_animal, of_plant]).numpy()[:, ::4]
    own = {f"it is the {kind}": both[:, is_animal[::4].numpy() == (kind == "animal")] for kind in NOUNS}
    (out / "antecedents.svg").write_text(figure(own, real), encoding="utf-8")


if __name__ == "__main__":
    main()
