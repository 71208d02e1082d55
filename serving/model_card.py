"""The model card: what the network is, what it was trained on, what it may be used for and how well it does."""

from __future__ import annotations

from typing import Any

_CARD = """# {model_name}, version {version}

Facial expression recognition: a face crop goes in, the probabilities of {num_classes} expressions come out.

| | |
|---|---|
| network | {variant}, {image_size} x {image_size}, {colour}, computed in {precision} |
| expressions | {expressions} |
| trained for | {task} |
| training data | fingerprint `{data_fingerprint}` |
| faces aligned by | {landmark_model} |
| calibration | softmax of logits / {temperature:.4g}, fitted on the validation part |
| exported | {exported}, TensorFlow {tensorflow}, Keras {keras} |

## Results
{results}

## Use
Give it faces aligned as in training: eyes level, 256 x 256, JPEG or PNG; `python -m serving.client` does that.
It reads the expression that a face shows, not what a person feels. Do not use it to judge people: for hiring,
policing, education, credit or health. Accuracy differs between poses, ages, skin tones and kinds of pictures; measure
it on yours.

## Rights
{rights}
"""
_IBUG = (
    "The landmark model that aligned the faces was trained on iBUG 300-W, which excludes commercial use (its author "
    "says so); name another predictor when you build the data to be free of that."
)


def write_card(path: str, facts: dict[str, Any]) -> None:
    """Writes the card of an exported version.

    Args:
      path: the Markdown file.
      facts: what `model.json` holds.
    """
    spec = facts["spec"]
    fields = {**spec, **facts, **facts["versions"]}
    fields["num_classes"] = len(spec["expressions"])
    fields["expressions"] = ", ".join(spec["expressions"])
    fields["colour"] = "grey" if spec["channels"] == 1 else "RGB"
    fields["task"] = spec["task"] or "not recorded"
    fields["data_fingerprint"] = spec["data_fingerprint"] or "not recorded"
    fields["results"] = _results(facts["metrics"])
    fields["rights"] = _rights(spec)
    with open(path, "w") as file:
        file.write(_CARD.format(**fields))


def _results(metrics: dict[str, Any]) -> str:
    lines = _numbers(metrics)
    return "\n".join(lines) if lines else "The run was not evaluated before the export."


def _numbers(metrics: dict[str, Any], prefix: str = "") -> list[str]:
    """The single numbers of the metrics, two levels deep; curves and matrices stay in metrics.json."""
    lines = []
    for name, value in metrics.items():
        if isinstance(value, dict) and not prefix:
            lines += _numbers(value, f"{name} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            lines.append(f"- {prefix}{name}: {value:.4g}")
    return lines


def _rights(spec: dict[str, Any]) -> str:
    notes = ["Code: Apache-2.0. Weights: as the training data allows."]
    if "68_face_landmarks" in spec["landmark_model"]:
        notes.append(_IBUG)
    if "fer2013" in spec["task"].lower():
        notes.append("FER2013's images come from a web search; use the weights for research.")
    return "\n".join(f"- {note}" for note in notes)
