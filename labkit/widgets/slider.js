// A native range input with a real label, so that it has a name, a unit and every key that a slider has.
// The model's `position` is where the handle stands; what that means (log or not, which unit) is Python's `readout`.

function render({ model, el }) {
  const id = `labkit-slider-${Math.random().toString(36).slice(2)}`;
  const label = document.createElement("label");
  label.htmlFor = id;
  const input = document.createElement("input");
  Object.assign(input, { type: "range", id });
  input.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's own arrows would take the key away
  const readout = document.createElement("output");
  readout.htmlFor = id;
  const root = document.createElement("div");
  root.className = "labkit-input";
  root.append(label, input, readout);

  const show = () => {
    label.textContent = model.get("label");
    root.title = model.get("hint");
    input.min = model.get("low");
    input.max = model.get("high");
    input.step = model.get("step");
    // An older echo must not pull the handle back while it is being moved.
    if (document.activeElement !== input || Number(input.value) !== model.get("position")) input.value = model.get("position");
    readout.textContent = model.get("readout");
    input.setAttribute("aria-valuetext", model.get("readout"));
  };
  input.addEventListener("input", () => {
    model.set("position", Number(input.value));
    model.save_changes();
  });
  model.on("change:position change:readout", show);
  show();
  el.append(root);
  return () => model.off("change:position change:readout", show);
}

export default { render };
