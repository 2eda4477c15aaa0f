// A model and data of one's own. The kernel reads the form (load_form.py); the present model stays until then.

import { METRICS, CLASSES } from "./constants.js";
import { h, send } from "./shared.js";
import { entry, pick, checkBox, card } from "./cards.js";
import { filePicker } from "./filepicker.js";

const BY_NAME = /^\s*(torchvision|timm|transformers):/;
const SOURCE = "folder or .zip of images, .npy, .npz, IDX file, or module:factory";
const SPLIT_HINT = "Its subfolder or part, such as train or test";
const MOST_HINT = "So many examples, drawn by a fixed seed; empty: all";

export function drawLoad(state, el, on) {
  const model = entry("model", "Model", "package.module:factory, path/to/file.py:factory, torchvision:resnet18, timm:…, transformers:…",
    "A function or class that is called without arguments, or a model of torchvision, timm or transformers where that package is installed", 10);
  const pretrained = checkBox("pretrained", "pretrained");
  const fields = [
    model,
    entry("checkpoint", "Checkpoint, optional", "weights.safetensors or weights.pt", "The model's weights: a .safetensors file, or one that torch.save wrote", 6),
    entry("options", "Options, optional", '{"num_classes": 10}', "Keyword arguments of the model's factory, as JSON", 3),
    entry("mask", "Padding mask, optional", "attention_mask", "The network's argument that says which positions count, where padding hides some; none: all count; empty: attention_mask, or a name that ends in padding_mask", 3),
    entry("calibration", "Calibration: the moments are measured on it", SOURCE, "", 8),
    entry("calibration_split", "part", "train", SPLIT_HINT, 2),
    entry("calibration_limit", "at most", "all", MOST_HINT, 2),
    entry("evaluation", "Evaluation, optional: the score", "the same forms, or a function", "The data for the score, or module:function of the model, which is the score", 8),
    entry("evaluation_split", "part", "test", SPLIT_HINT, 2),
    entry("evaluation_limit", "at most", "all", MOST_HINT, 2),
    entry("targets", "targets, if apart", "y_test.npy", "A file of targets, where the evaluation data has none", 4),
    pick("metric", "Score", METRICS, 4),
    pick("classes", "Classes on", CLASSES, 4),
    entry("training", "Training, optional: fine-tuning learns from it", "the same forms; empty: the calibration data", "Data with targets; also for the Taylor criterion", 8),
    entry("training_split", "part", "train", SPLIT_HINT, 2),
    entry("training_limit", "at most", "all", MOST_HINT, 2),
    entry("size", "Images: size", "224", "Resize the shorter side to this, or to height x width, such as 224x160", 2),
    entry("crop", "crop", "224", "Cut this square, or height x width, out of the centre", 2),
    entry("mean", "mean", "0.485, 0.456, 0.406", "Subtract this; pixels are 0 to 1. A number, or one a channel", 4),
    entry("std", "std", "0.229, 0.224, 0.225", "Divide by this; a number, or one a channel", 4),
  ];
  const own = state.get("own") ?? {};
  for (const field of fields) {
    field.input.value = own[field.key] ?? "";
    field.hint?.();
  }
  pretrained.input.checked = Boolean(own.pretrained);
  const weights = () => {
    const byName = BY_NAME.test(model.input.value);
    pretrained.input.disabled = !byName;
    pretrained.node.title = byName ? "The package's own pretrained weights" : "For torchvision:, timm: and transformers: models";
  };
  model.input.addEventListener("input", weights);
  weights();

  const submit = () => {
    const form = Object.fromEntries(fields.map((field) => [field.key, field.input.value.trim()]));
    form.pretrained = pretrained.input.checked && !pretrained.input.disabled;
    send(state, "load_own", { form });
  };
  const picker = filePicker(state, on, fields);
  const body = fields.map((field) => field.node);
  body.splice(1, 0, h("span", { class: "wbw-beside", style: "grid-column: span 2" }, pretrained.node));
  card(state, el, on, { name: "load", title: "Load your own model", sub: "Paths start from the notebook's folder", submitText: "Load and measure", submit,
    body: [h("div", { class: "wbw-fields" }, ...body), picker], buttons: [], commands: ["load", "load_own"] });

  on("error error_at", () => {
    const words = state.get("error_at") === "load" ? state.get("error") : "";
    for (const { input, label } of fields) {
      const meant = words && words.startsWith(`${label.split(/[:,] ?/)[0]}:`) && label[0] === label[0].toUpperCase();
      input.toggleAttribute("aria-invalid", meant);
      if (meant && state.card === "load") input.focus({ preventScroll: true });
    }
  });
}
