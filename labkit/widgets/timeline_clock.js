// The one clock of a TimelineView, however many views are open: while `playing`, it moves `time_s`. Put before timeline.js.

const WHOLE_S = 10; // at speed 1 the whole timeline plays in WHOLE_S seconds

const calm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

function initialize({ model }) {
  let frame = 0, last = 0, sent = 0, owed = 0;
  const tick = (now) => {
    if (!model.get("playing")) return;
    const { start, end } = model.get("data");
    owed += ((now - last) / 1000) * model.get("speed") * ((end - start) / WHOLE_S);
    last = now;
    // Reduced motion: two jumps a second instead of a glide.
    if (!calm() || now - sent > 500) {
      const time = Math.min(end, model.get("time_s") + owed);
      owed = 0;
      model.set("time_s", time);
      if (time >= end) model.set("playing", false);
      if (now - sent > 150 || time >= end) { sent = now; model.save_changes(); }
    }
    frame = requestAnimationFrame(tick);
  };
  const turn = () => {
    cancelAnimationFrame(frame);
    if (!model.get("playing")) return;
    const { start, end } = model.get("data");
    if (model.get("time_s") >= end) model.set("time_s", start);
    last = sent = performance.now();
    owed = 0;
    frame = requestAnimationFrame(tick);
  };
  model.on("change:playing", turn);
  turn();
  return () => { cancelAnimationFrame(frame); model.off("change:playing", turn); };
}
