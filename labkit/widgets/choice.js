// A native select with a real label; `index` is the chosen option's place, what it stands for is known to Python.

function render({ model, el }) {
  const id = `labkit-choice-${Math.random().toString(36).slice(2)}`;
  const label = document.createElement("label");
  label.htmlFor = id;
  label.textContent = model.get("label");
  const select = document.createElement("select");
  select.id = id;
  select.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's own arrows would take the key away
  for (const name of model.get("names")) select.append(new Option(name));
  const root = document.createElement("div");
  root.className = "labkit-input";
  root.title = model.get("hint");
  root.append(label, select);

  const show = () => { select.selectedIndex = model.get("index"); };
  select.addEventListener("change", () => {
    model.set("index", select.selectedIndex);
    model.save_changes();
  });
  model.on("change:index", show);
  show();
  el.append(root);
  return () => model.off("change:index", show);
}

export default { render };
