"""A partner that depends on the context: attention over a protein network finds it, the mean of neighbours does not.

Simulated: each protein has eight neighbours, one of each type, active or not. Which of them matters depends on the
protein's own compartment; the protein is on when that one partner is active. Query and key are learned from labels
alone, nobody tells which edge matters. Beside dot products stand two baselines: the mean of the neighbours, and the
scoring of graph attention networks (GAT), which adds a number of the target to one of the source. That sum ranks the
neighbours of every target alike (Brody, Alon and Yahav, 2022), so that it cannot follow the context either.

Run: python examples/graph_attention.py [--out DIRECTORY]
"""

import numpy as np
import torch
from _script import claim, figures_folder

import softly
from softly.report.panels import Panel, svg

TYPES, PROTEINS, TRAINED, STEPS = 8, 2400, 1600, 200


def network(rng):
    """Compartments of proteins, states of neighbours (PROTEINS, TYPES) of -1 or 1, partners, labels 0 or 1."""
    partner_of = rng.permutation(TYPES)  # the type that matters in each compartment
    compartment = rng.integers(0, TYPES, PROTEINS)
    state = rng.choice([-1.0, 1.0], (PROTEINS, TYPES))
    partner = partner_of[compartment]
    return compartment, state, partner, (state[np.arange(PROTEINS), partner] > 0).astype(int)


def edges_of(proteins):
    """Eight edges a protein, in the order of the types, from nodes that are theirs alone."""
    sources = (proteins[:, None] * TYPES + np.arange(TYPES)).ravel()
    targets = np.repeat(np.arange(len(proteins)), TYPES)
    return softly.Edges.from_pairs(sources, targets, num_targets=len(proteins), num_sources=PROTEINS * TYPES)


class Reader(torch.nn.Module):
    """The mean of neighbours' states by attention, and a logit of it. width 0: all neighbours alike."""

    def __init__(self, width, negative_slope=None):
        super().__init__()
        self.of_compartment = torch.nn.Parameter(0.1 * torch.randn(TYPES, width))
        self.of_type = torch.nn.Parameter(0.1 * torch.randn(TYPES, width))
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.negative_slope = negative_slope

    def arguments(self, compartment, edges):
        """Query, key and options of softly.graph_attention."""
        key = self.of_type.repeat(PROTEINS, 1)
        return (self.of_compartment[compartment], key), {"edges": edges, "negative_slope": self.negative_slope}

    def forward(self, compartment, state, edges):
        """Logits of being on."""
        scored, options = self.arguments(compartment, edges)
        return self.gain * softly.graph_attention(*scored, state.reshape(-1, 1), **options)[:, 0]

    def weights(self, compartment, edges):
        """(proteins, types)."""
        scored, options = self.arguments(compartment, edges)
        with torch.no_grad():
            return softly.graph_attention_weights(*scored, **options).reshape(-1, TYPES)


def train(model, compartment, state, label):
    """Adam on the first TRAINED proteins; accuracy and weights of the others."""
    old, new = np.arange(TRAINED), np.arange(TRAINED, PROTEINS)
    graph, optimiser = edges_of(old), torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(STEPS):
        optimiser.zero_grad()
        softly.binary_cross_entropy(model(compartment[old], state, graph), label[old].float()).backward()
        optimiser.step()
    graph = edges_of(new)
    with torch.no_grad():
        logits = model(compartment[new], state, graph)
    accuracy = ((logits > 0).long() == label[new]).float().mean().item()
    return accuracy, model.weights(compartment[new], graph).numpy()


def main():
    """Three models on the same proteins."""
    out = figures_folder(__doc__)
    torch.manual_seed(0)
    compartment, state, partner, label = network(np.random.default_rng(0))
    arrays = [torch.from_numpy(x) for x in (compartment, state.astype(np.float32), label)]
    models = {"dot products": Reader(8), "GAT's sums": Reader(1, 0.2), "mean": Reader(0)}
    accuracy, weights = {}, {}
    for name, model in models.items():
        accuracy[name], weights[name] = train(model, *arrays)
        found = (weights[name].argmax(1) == partner[TRAINED:]).mean()
        print(f"{name:13} accuracy {accuracy[name]:.3f}, most weight on the partner {found:.3f} of held-out proteins")
    right = (weights["dot products"].argmax(1) == partner[TRAINED:]).mean()
    claim(f"attention by dot products finds the partner of {right:.1%} of held-out proteins", right >= 0.99)
    claim(f"its accuracy there is {accuracy['dot products']:.1%}", accuracy["dot products"] >= 0.97)
    claim(f"the mean of the neighbours reaches {accuracy['mean']:.1%}", accuracy["mean"] < 0.75)
    sums = accuracy["GAT's sums"]
    claim(f"GAT's sums reach {sums:.1%}", sums < 0.75)

    panel = Panel("Weight of the partner, held out", "proteins, sorted", "weight", (0, 1), (0, 1))
    share = np.linspace(0, 1, PROTEINS - TRAINED)
    for place, (name, found) in enumerate(weights.items()):
        own = np.sort(found[np.arange(len(found)), partner[TRAINED:]])
        panel.line(share[::8], own[::8], name, place, label=(0.1, (0.9, 0.25, 0.05)[place]))
    (out / "graph_attention.svg").write_text(
        svg("Weights that attention gives the partner", (panel,)), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
