"""Architecture search on digits: a mixture of candidate layers, its shares by softmax and by sparsemax.

Two layers of a small network choose among six operations each, shares and weights learned together. With softmax all
operations keep a share, and leaving the small ones out after training breaks the network. Sparsemax gives most of them
exactly 0: they go without a change of any output. The baselines are each operation alone in both layers, and the whole
softmax mixture, which may well be more accurate: what pruning buys is work.

Run: python examples/architecture_search.py [--out DIRECTORY]
"""

import numpy as np
import torch
from _script import claim, figures_folder
from sklearn.datasets import load_digits
from torch import nn

from softly.report.panels import Panel, svg
from softly.torch import ChoiceMixture

CHANNELS, EPOCHS, TRAIN = 8, 30, 1000
NAMES = ("conv 3x3", "conv 5x5", "conv 1x1", "average", "identity", "nothing")


class Nothing(nn.Module):
    """Zeros."""

    def forward(self, x):
        """Zeros like x."""
        return torch.zeros_like(x)


def operations():
    """The candidates, of the order of NAMES."""
    convolutions = [nn.Conv2d(CHANNELS, CHANNELS, size, padding=size // 2) for size in (3, 5, 1)]
    return [*convolutions, nn.AvgPool2d(3, 1, 1), nn.Identity(), Nothing()]


def network(first, second):
    """Digits to scores, with two layers to be filled in."""
    stem, head = nn.Conv2d(1, CHANNELS, 1), nn.Linear(CHANNELS * 16, 10)
    return nn.Sequential(stem, first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.Flatten(), head)


def train(model, x, y):
    """Adam on cross-entropy, in batches of 100."""
    mixtures = [m.scores for m in model.modules() if isinstance(m, ChoiceMixture)]
    rest = [p for p in model.parameters() if not any(p is m for m in mixtures)]
    optimiser = torch.optim.Adam([{"params": rest}, {"params": mixtures, "lr": 0.02}] if mixtures else rest, lr=0.005)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y)).split(100):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
    return model


def accuracy(model, x, y):
    """The share of rows that are right."""
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def with_layers(model, first, second):
    """The same network, its two choices replaced."""
    layers = list(model)
    layers[1], layers[4] = first, second
    return nn.Sequential(*layers)


def main() -> None:
    """Trains, prunes, checks and draws."""
    out = figures_folder(__doc__)
    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(y)
    order = torch.tensor(np.random.default_rng(0).permutation(len(y)))
    fit, held = order[:TRAIN], order[TRAIN:]

    alone = {}
    for i, name in enumerate(NAMES[:4]):
        torch.manual_seed(0)
        alone[name] = accuracy(train(network(operations()[i], operations()[i]), x[fit], y[fit]), x[held], y[held])
    mixed = {}
    for name, alpha in (("softmax", 1.0), ("sparsemax", 2.0)):
        torch.manual_seed(0)
        choices = [ChoiceMixture(operations(), alpha=alpha) for _ in range(2)]
        mixed[name] = train(network(*choices), x[fit], y[fit])
    shares = {name: [model[i].weights.detach().numpy() for i in (1, 4)] for name, model in mixed.items()}
    whole = {name: accuracy(model, x[held], y[held]) for name, model in mixed.items()}
    for name, both in shares.items():
        for place, p in zip(("first", "second"), both, strict=True):
            print(f"{name}, {place}: " + ", ".join(f"{n} {s:.3f}" for n, s in zip(NAMES, p, strict=True)))

    sparse = mixed["sparsemax"]
    pruned = with_layers(sparse, sparse[1].prune(), sparse[4].prune())
    kept = [len(pruned[i].choices) for i in (1, 4)]
    with torch.no_grad():
        same = torch.equal(pruned(x[held]), sparse(x[held]))
    soft = mixed["softmax"]
    largest = [soft[i].choices[int(soft[i].weights.argmax())] for i in (1, 4)]
    cut = accuracy(with_layers(soft, *largest), x[held], y[held])
    claim(f"softmax keeps all {len(NAMES)} operations in both layers", all((p > 0).all() for p in shares["softmax"]))
    claim(
        f"sparsemax keeps {kept[0]} and {kept[1]} of {len(NAMES)}, the pruned network gives the same bits",
        same and sum(kept) < 2 * len(NAMES),
    )
    best = max(alone, key=alone.get)
    claim(
        f"held-out accuracy: pruned {whole['sparsemax']:.3f}, softmax mixture {whole['softmax']:.3f}, best operation "
        f"alone ({best}) {alone[best]:.3f}",
        accuracy(pruned, x[held], y[held]) == whole["sparsemax"] > 0.9,
    )
    claim(f"the softmax mixture cut to its largest operation: {cut:.3f}", cut < whole["softmax"])
    (out / "architecture_search.svg").write_text(figure(shares, alone, whole, cut), encoding="utf-8")


def figure(shares, alone, whole, cut):
    """The shares of the first layer's operations, and accuracies."""
    panels = []
    for place, title in enumerate(("Shares in the first layer", "Shares in the second layer")):
        panel = Panel(title, "operation", "share", (-0.5, 5.5), (0, 1.2))
        places = np.arange(len(NAMES))
        panel.bars(places - 0.18, shares["softmax"][place], 0.34, "softmax", 0)
        panel.bars(places + 0.18, shares["sparsemax"][place], 0.34, "sparsemax", 1)
        for at, name in enumerate(NAMES):
            top = max(shares[kind][place][at] for kind in shares)
            panel.note(name, 3, (at, top + 0.02 + 0.05 * (at % 2)), anchor="middle")
        panel.note("softmax", 0, (5.4, 1.1), anchor="end")
        panel.note("sparsemax", 1, (5.4, 1.02), anchor="end")
        panels.append(panel)
    print("alone: " + ", ".join(f"{name} {value:.3f}" for name, value in alone.items()))
    rows = {"best alone": max(alone.values()), "softmax": whole["softmax"], "softmax, cut": cut}
    rows["sparsemax, cut"] = whole["sparsemax"]
    panel = Panel("Held-out accuracy", "network", "share right", (-0.5, len(rows) - 0.5), (0, 1.3))
    panel.bars(range(len(rows)), list(rows.values()), 0.7, "accuracy", 1)
    for at, (name, value) in enumerate(rows.items()):
        panel.note(f"{value:.3f}", 3, (at, value + 0.02), anchor="middle")
        panel.note(name, 3, (at, value + 0.1 + 0.08 * (at % 2)), anchor="middle")
    return svg("Choosing operations for digits", [*panels, panel])


if __name__ == "__main__":
    main()
