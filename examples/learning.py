"""How three scores learn: the gradient p - y step by step, and what is left of it when a row is sure.

Gradient descent moves scores by y - p. From equal scores it is quick at first and slows as p nears y. A row that is
sure and right has stopped; one that is sure and wrong has the largest gradient there is, sqrt 2, but no curvature.
The baseline is the squared error of the probabilities (Brier): its gradient passes through the Jacobian of softmax once
more, which is almost 0 wherever the row is sure. So it cannot leave a sure mistake, and for the same reason it wins
where the mistake is the label's: it hardly moves.

Run: python examples/learning.py [--out DIRECTORY]
"""

import numpy as np
from _script import claim, figures_folder

import softly
from softly.report.panels import Panel, svg

TRUE, RATE, MOST = 0, 1.0, 1000
Y = np.eye(3)[TRUE]


def cross_entropy_gradient(z):
    """p - y."""
    return softly.cross_entropy_and_gradient(z, TRUE)[1]


def squared_error_gradient(z):
    """2 J (p - y), of the sum of (p - y)^2."""
    return 2 * softly.jacobian_product(z, softly.softmax(z) - Y)


def learn(gradient, start, steps=MOST):
    """The scores of every step of gradient descent, (steps + 1, 3)."""
    scores = [np.array(start, float)]
    for _ in range(steps):
        scores.append(scores[-1] - RATE * gradient(scores[-1]))
    return np.array(scores)


def steps_to(scores, share):
    """The first step at which the true class has the share, None if there is none."""
    reached = softly.softmax(scores)[:, TRUE] >= share
    return int(reached.argmax()) if reached.any() else None


def show_steps(scores, kept=(0, 1, 2, 5, 10, 100)):
    """Scores, probabilities and gradient, a line a step."""
    print("step  scores                    probabilities           gradient p - y              loss")
    for step in kept:
        z = scores[step]
        rows = [" ".join(f"{x:7.4f}" for x in row) for row in (z, softly.softmax(z), cross_entropy_gradient(z))]
        print(f"{step:4}  {'   '.join(rows)}   {float(softly.cross_entropy(z, TRUE)):.4f}")


def figure(fair, stuck, rival):
    """Probabilities from equal scores; the true class's from a sure mistake; gradients by the gap."""
    steps = np.arange(61)
    level = Panel("From equal scores", "step", "probability", (0, 60), (0, 1))
    p = softly.softmax(fair[:61])
    level.line(steps, p[:, 0], "true class", 1, label=(20, 0.86))
    level.line(steps, p[:, 1], "each of the others", 0, label=(20, 0.09))

    wrong = Panel("From a sure mistake, gap 8", "step", "p of the true class", (0, 60), (0, 1))
    wrong.line(steps, softly.softmax(stuck[:61])[:, TRUE], "cross-entropy", 1, label=(22, 0.82))
    wrong.line(steps, softly.softmax(rival[:61])[:, TRUE], "squared error", 0, label=(22, 0.06))

    gaps = np.linspace(-10, 10, 201)
    z = np.stack([gaps, 0 * gaps, 0 * gaps - 30], axis=1)  # two classes that matter
    size = Panel("What moves the scores", "true class ahead by", "norm of the gradient", (-10, 10), (0, 1.6))
    for gradient, name, colour, label in (
        (cross_entropy_gradient, "cross-entropy", 1, (-9.5, 1.48)),
        (squared_error_gradient, "squared error", 0, (1.6, 0.62)),
    ):
        size.line(gaps, [np.linalg.norm(gradient(row)) for row in z], name, colour, label=label)
    return svg("Three scores that learn, by cross-entropy and by squared error", (level, wrong, size))


def main() -> None:
    """Learns, checks and draws."""
    out = figures_folder(__doc__)
    fair, fair_rival = learn(cross_entropy_gradient, [0, 0, 0]), learn(squared_error_gradient, [0, 0, 0])
    stuck, rival = learn(cross_entropy_gradient, [0, 8, 0]), learn(squared_error_gradient, [0, 8, 0])
    show_steps(fair)

    quick, slow = steps_to(fair, 0.9), steps_to(fair_rival, 0.9)
    claim(f"equal scores reach .9 in {quick} steps; by squared error in {slow}", quick < slow)
    quick, slow = steps_to(stuck, 0.5), steps_to(rival, 0.5)
    claim(
        f"a sure mistake (gap 8) is undone in {quick} steps; by squared error {slow or f'not in {MOST}'}",
        quick < 20 and (slow is None or slow > 20 * quick),
    )
    at = np.array([0.0, 8.0, 0.0])
    norm, curvature = np.linalg.norm(cross_entropy_gradient(at)), float(softly.sensitivity(at).local)
    claim(
        f"there the gradient is {norm:.4f} of at most {2**0.5:.4f}, the curvature {curvature:.1e}",
        1.41 < norm < 2**0.5 and curvature < 2e-3,
    )
    moved, kept = (np.abs(run[10] - run[0]).max() for run in (stuck, rival))
    claim(f"if that label is wrong, ten steps do harm: {moved:.2f}; by squared error {kept:.3f}", kept < 0.1 < moved)

    sure = np.array([20, 0, 0], np.float32)
    p, gradient = softly.softmax(sure), cross_entropy_gradient(sure)
    claim(
        f"float32 scores (20, 0, 0): p is {p[0]:g}, the gradient still {gradient[0]:.2e}", p[0] == 1 > -gradient[0] > 0
    )
    (out / "learning.svg").write_text(figure(fair, stuck, rival), encoding="utf-8")


if __name__ == "__main__":
    main()
