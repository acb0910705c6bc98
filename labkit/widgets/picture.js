// A PNG with its alternative text. The next picture is decoded before it takes the place of the last: no flicker.

function render({ model, el }) {
  const image = document.createElement("img");
  image.style.cssText = "max-width:100%;height:auto;display:block";
  let url = "", turn = 0;

  const show = async () => {
    const mine = ++turn, png = model.get("png");
    image.hidden = !png || png.byteLength === 0;
    image.alt = model.get("alt");
    if (image.hidden) return;
    const next = URL.createObjectURL(new Blob([png], { type: "image/png" }));
    const probe = new Image();
    probe.src = next;
    await probe.decode().catch(() => {}); // a view that is gone, or a picture that is no PNG: the browser shows alt
    if (mine !== turn) {
      URL.revokeObjectURL(next);
      return;
    }
    image.src = next;
    if (url) URL.revokeObjectURL(url);
    url = next;
  };
  model.on("change:png change:alt", show);
  show();
  el.append(image);
  return () => {
    turn += 1;
    model.off("change:png change:alt", show);
    if (url) URL.revokeObjectURL(url);
  };
}

export default { render };
