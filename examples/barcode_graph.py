"""Species of mason bees on a graph of their DNA barcodes: softly's graph attention beside PyTorch Geometric's layer.

Nodes are the unique COI barcodes of Osmia, edges the nearest neighbours by profiles of words, labels the species.
Two layers of attention are trained on some of the nodes; both libraries have the same set-up, the same seeds and the
same data, so that their accuracies must be those of one method. The baseline is the species of the nearest known
barcode; what is printed is what there is, also where it wins.

Run: python examples/barcode_graph.py [--out DIRECTORY]
"""

import csv
import gzip
import importlib.util
import itertools
import time
from pathlib import Path

import numpy as np
import torch
from _script import claim, figures_folder

import softly
from softly.report.panels import Panel, svg
from softly.torch import GraphAttention

FILE = Path(__file__).parent / "data" / "osmia_coi.tsv.gz"
NEIGHBOURS, HIDDEN, HEADS, EPOCHS = 8, 16, 4, 60
KNOWN = (0.3, 0.5, 0.7)  # shares of the barcodes whose species is known


def barcodes():
    """Profiles (n, 1024) of unit length, and species as integers."""
    with gzip.open(FILE, "rt", encoding="utf-8") as file:
        first = {}
        for row in csv.DictReader(file, delimiter="\t"):
            first.setdefault(row["seq"], row)
    rows = list(first.values())
    place = {"".join(word): i for i, word in enumerate(itertools.product("ACGT", repeat=5))}
    profiles = np.zeros((len(rows), len(place)), np.float32)
    for row, profile in zip(rows, profiles, strict=True):
        for at in range(len(row["seq"]) - 4):
            if (word := row["seq"][at : at + 5]) in place:
                profile[place[word]] += 1
    profiles -= profiles.mean(0)
    profiles /= np.linalg.norm(profiles, axis=1, keepdims=True)
    return profiles, np.unique([row["species_name"] for row in rows], return_inverse=True)[1]


def softly_layers(width, classes):
    """Of softly."""
    return GraphAttention(width, HIDDEN, HEADS), GraphAttention(HIDDEN * HEADS, classes, 1)


def pyg_layers(width, classes):
    """Of PyTorch Geometric."""
    from torch_geometric.nn import GATConv

    return GATConv(width, HIDDEN, HEADS), GATConv(HIDDEN * HEADS, classes, 1)


def accuracy(layers, seed, x, edges, species, trained):
    """Of held-out nodes, after training on the others, and the seconds it took."""
    torch.manual_seed(seed)
    model = torch.nn.ModuleList(layers(x.shape[1], int(species.max()) + 1))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=5e-4)
    started = time.perf_counter()
    for _ in range(EPOCHS):
        optimiser.zero_grad()
        scores = model[1](torch.nn.functional.elu(model[0](x, edges)), edges)
        softly.cross_entropy(scores[trained], species[trained]).backward()
        optimiser.step()
    seconds = time.perf_counter() - started
    with torch.no_grad():
        scores = model[1](torch.nn.functional.elu(model[0](x, edges)), edges)
    return (scores.argmax(1) == species)[~trained].float().mean().item(), seconds


def main():
    """Both libraries over seeds, and the nearest neighbour."""
    out = figures_folder(__doc__)
    profiles, species = barcodes()
    likeness = profiles @ profiles.T
    np.fill_diagonal(likeness, -np.inf)
    sources = np.argsort(-likeness, axis=1, kind="stable")[:, :NEIGHBOURS]
    pairs = np.stack([sources.ravel(), np.repeat(np.arange(len(species)), NEIGHBOURS)])
    x, labels = torch.from_numpy(profiles), torch.from_numpy(species)
    graphs = {"softly": softly.Edges.from_pairs(*pairs, num_targets=len(species), num_sources=len(species))}
    libraries = {"softly": softly_layers}
    if importlib.util.find_spec("torch_geometric") is not None:
        libraries["PyG"], graphs["PyG"] = pyg_layers, torch.from_numpy(pairs)
    else:
        print("torch_geometric is not installed: softly alone")

    found = {name: [] for name in (*libraries, "nearest")}
    seconds = dict.fromkeys(libraries, 0.0)
    for seed, share in enumerate(KNOWN):
        trained = np.random.default_rng(seed).random(len(species)) < share
        for name, layers in libraries.items():
            got, took = accuracy(layers, seed, x, graphs[name], labels, torch.from_numpy(trained))
            found[name].append(got)
            seconds[name] += took
        nearest = np.where(trained, likeness, -np.inf).argmax(1)
        found["nearest"].append((species[nearest] == species)[~trained].mean())
    for name, got in found.items():
        took = f", {seconds[name]:.1f} s" if name in seconds else ""
        print(f"{name:8} accuracy on held-out barcodes {np.mean(got):.3f} ({', '.join(f'{a:.3f}' for a in got)}){took}")
    claim(f"{len(species)} barcodes of {species.max() + 1} species, {pairs.shape[1]} edges", len(species) == 783)
    half = KNOWN.index(0.5)
    ours, nearest = found["softly"][half], found["nearest"][half]
    claim(f"with half of the species known graph attention names {ours:.1%} of the others", ours > 0.65)
    claim(f"the nearest known barcode names {nearest:.1%}", nearest > 0.7)
    if "PyG" in found:
        apart = np.mean(found["PyG"]) - np.mean(found["softly"])
        claim(f"PyG's layer with the same set-up is {apart:+.3f} off", abs(apart) < 0.03)

    panel = Panel("Species of held-out barcodes", "share of barcodes known", "accuracy", (0.2, 0.8), (0.4, 1))
    for place, (name, text) in enumerate((("softly", "graph attention"), ("nearest", "nearest known barcode"))):
        panel.line(np.array(KNOWN), np.array(found[name]), text, place, label=(0.45, (0.52, 0.46)[place]))
    title = "Accuracy on barcodes by the share that is known"
    (out / "barcode_graph.svg").write_text(svg(title, (panel,)), encoding="utf-8")


if __name__ == "__main__":
    main()
