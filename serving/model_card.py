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
| calibration | softmax of logits / {temperature:.4g}, the temperature stored with the weights |
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
    """Writes the card of an exported version as a Markdown file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(render(facts))


def render(facts: dict[str, Any]) -> str:
    """Returns the card as Markdown.

    Args:
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
    return _CARD.format(**fields)


def _results(metrics: dict[str, Any]) -> str:
    """The scores that the trainer's evaluation wrote into metrics.json, as tables."""
    parts = [(name, metrics[name]) for name in ("val", "test") if metrics.get(name, {}).get("faces")]
    if not parts:
        return "The run was not evaluated before the export."
    lines = ["| part | faces | accuracy | 95 % interval | mean class accuracy | macro F1 | calibration error |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, scores in parts:
        low, high = scores.get("accuracy_interval") or (float("nan"), float("nan"))
        error = scores["calibration"]["calibrated"]["ece"]
        lines.append(
            f"| {name} | {scores['faces']} | {scores['accuracy']:.3f} | {low:.3f} to {high:.3f} | "
            f"{scores['mean_class_accuracy']:.3f} | {scores['macro_f1']:.3f} | {error:.3f} |"
        )
    _, last = parts[-1]
    for title, key in (("class", "by_class"), ("pose", "by_pose"), ("gender", "by_gender"), ("age", "by_age")):
        known = {name: row["accuracy"] for name, row in last.get(key, {}).items() if row["accuracy"] is not None}
        if known:
            lines += ["", f"Accuracy by {title}: " + ", ".join(f"{name} {value:.3f}" for name, value in known.items())]
    lines += [f"\n- {note}" for note in metrics.get("notes", ())]
    return "\n".join(lines)


def _rights(spec: dict[str, Any]) -> str:
    notes = ["Code: Apache-2.0. Weights: as the training data allows."]
    if "68_face_landmarks" in spec["landmark_model"]:
        notes.append(_IBUG)
    if "fer2013" in spec["task"].lower():
        notes.append("FER2013's images come from a web search; use the weights for research.")
    return "\n".join(f"- {note}" for note in notes)
