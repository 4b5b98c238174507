"use strict";
// Moves all pictures of a region together. Knows nothing but the sizes in the page's own attributes.
(() => {
  const root = document.querySelector(".viewer");
  const whole = { w: Number(root.dataset.width), h: Number(root.dataset.height) };
  const um = Number(root.dataset.um);
  const most = Number(root.dataset.most);
  const closest = 24; // pixels of the region across a picture, at the largest zoom
  const view = { x: 0, y: 0, w: whole.w };
  const pictures = [...root.querySelectorAll("svg.tissue")];
  const where = root.querySelector("[data-where]");
  const swipes = [...root.querySelectorAll("[data-swipe]")].map((element) => ({
    element,
    share: 0.5,
    range: element.querySelector("[data-divider]"),
  }));
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const height = () => (view.w * whole.h) / whole.w;

  function show() {
    view.w = clamp(view.w, Math.min(closest, whole.w), whole.w);
    view.x = clamp(view.x, 0, whole.w - view.w);
    view.y = clamp(view.y, 0, whole.h - height());
    root.classList.toggle("near", view.w < whole.w * 0.999);
    root.classList.toggle("pixels", pictures[0].clientWidth / view.w > 4);
    for (const svg of pictures) {
      svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${height()}`);
      placeScale(svg.querySelector(".scale"));
    }
    swipes.forEach(placeDivider);
  }

  function set(element, values) {
    for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
  }

  function placeScale(scale) { // as scale_bar in stain_region.py
    const target = (view.w * um) / 4;
    const power = 10 ** Math.floor(Math.log10(target));
    const length = Math.max(...[1, 2, 5].map((step) => step * power).filter((one) => one <= target));
    const unit = view.w / 100;
    const x2 = view.x + 97 * unit;
    const x1 = x2 - length / um;
    const y = view.y + 8 * unit;
    for (const line of scale.querySelectorAll("line")) set(line, { x1, x2, y1: y, y2: y });
    const text = scale.querySelector("text");
    set(text, { x: (x1 + x2) / 2, y: y - 2 * unit });
    set(scale, { "font-size": 4 * unit });
    text.textContent = `${Number(length.toPrecision(3))} µm`;
  }

  function placeDivider(swipe) {
    const at = view.x + view.w * swipe.share;
    set(swipe.element.querySelector(".cut"), { x: view.x, y: view.y, width: at - view.x, height: height() });
    for (const line of swipe.element.querySelectorAll(".divider line"))
      set(line, { x1: at, x2: at, y1: view.y, y2: view.y + height() });
    swipe.element.querySelector(".chip.left").hidden = swipe.share < 0.02;
    swipe.element.querySelector(".chip.right").hidden = swipe.share > 0.98;
    swipe.range.value = Math.round(swipe.share * 100);
  }

  function zoom(factor, x = view.x + view.w / 2, y = view.y + height() / 2) {
    const before = view.w;
    view.w = clamp(view.w / factor, Math.min(closest, whole.w), whole.w);
    view.x = x - (x - view.x) * (view.w / before);
    view.y = y - (y - view.y) * (view.w / before);
    show();
  }

  function move(x, y) {
    view.x += x;
    view.y += y;
    show();
  }

  function reset() {
    Object.assign(view, { x: 0, y: 0, w: whole.w });
    show();
  }

  // From a place on the screen to the region's own pixels.
  function place(frame, event) {
    const box = frame.querySelector("svg.tissue").getBoundingClientRect();
    const scale = view.w / box.width;
    return { x: view.x + (event.clientX - box.left) * scale, y: view.y + (event.clientY - box.top) * scale, scale, box };
  }

  const keys = {
    ArrowLeft: () => move(-view.w / 8, 0),
    ArrowRight: () => move(view.w / 8, 0),
    ArrowUp: () => move(0, -view.w / 8),
    ArrowDown: () => move(0, view.w / 8),
    "+": () => zoom(1.5),
    "=": () => zoom(1.5),
    "-": () => zoom(1 / 1.5),
    "_": () => zoom(1 / 1.5),
    0: reset,
    Home: reset,
  };

  function listen(frame) {
    const fingers = new Map();
    const swipe = swipes.find((one) => one.element.contains(frame));
    let dragsDivider = false;
    frame.addEventListener("keydown", (event) => {
      if (event.target !== frame || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
    frame.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== frame) return;
      event.preventDefault();
      const at = place(frame, event);
      zoom(Math.exp(-clamp(event.deltaY, -240, 240) / 400), at.x, at.y);
    }, { passive: false });
    frame.addEventListener("dblclick", (event) => {
      const at = place(frame, event);
      zoom(event.shiftKey ? 0.5 : 2, at.x, at.y);
    });
    frame.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      frame.focus({ preventScroll: true });
      frame.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
      root.classList.add("held");
      if (swipe && fingers.size === 1) {
        const { box } = place(frame, event);
        dragsDivider = Math.abs(event.clientX - box.left - box.width * swipe.share) < 24;
      }
    });
    frame.addEventListener("pointermove", (event) => {
      tell(place(frame, event));
      const last = fingers.get(event.pointerId);
      if (!last) return;
      const before = [...fingers.values()];
      fingers.set(event.pointerId, event);
      const at = place(frame, event);
      if (dragsDivider) {
        swipe.share = clamp((event.clientX - at.box.left) / at.box.width, 0, 1);
        placeDivider(swipe);
      } else if (before.length === 1) {
        move((last.clientX - event.clientX) * at.scale, (last.clientY - event.clientY) * at.scale);
      } else {
        pinch(frame, before, [...fingers.values()]);
      }
    });
    const lift = (event) => {
      fingers.delete(event.pointerId);
      if (!fingers.size) root.classList.remove("held");
      dragsDivider = false;
    };
    frame.addEventListener("pointerup", lift);
    frame.addEventListener("pointercancel", lift);
    frame.addEventListener("pointerleave", () => { where.textContent = "Pointer off the pictures"; });
  }

  function pinch(frame, before, now) {
    const apart = ([a, b]) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) || 1;
    const middle = ([a, b]) => ({ clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 });
    const from = place(frame, middle(before));
    const to = place(frame, middle(now));
    view.x += from.x - to.x;
    view.y += from.y - to.y;
    zoom(apart(now) / apart(before), from.x, from.y);
  }

  // The expected error under the pointer, read back from the colours of its picture.
  const steps = new Map();
  for (let step = 0; step < 256; step += 1) steps.set(root.dataset.ramp.slice(6 * step, 6 * step + 6), step);
  const errors = [...document.querySelectorAll("image[id^=error-]")].map((element) => {
    const found = { pixels: null };
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      set(canvas, { width: whole.w, height: whole.h });
      const pen = canvas.getContext("2d", { willReadFrequently: true });
      pen.drawImage(image, 0, 0);
      found.pixels = pen.getImageData(0, 0, whole.w, whole.h).data;
    };
    image.src = element.getAttribute("href");
    return found;
  });

  function tell(at) {
    const [x, y] = [Math.floor(at.x), Math.floor(at.y)];
    if (x < 0 || y < 0 || x >= whole.w || y >= whole.h) return;
    const values = errors.map(({ pixels }) => {
      if (!pixels) return "?";
      const start = 4 * (y * whole.w + x);
      const colour = [...pixels.slice(start, start + 3)].map((one) => one.toString(16).padStart(2, "0")).join("");
      const step = steps.get(colour);
      return step === undefined ? "?" : `${((step / 255) * most * 100).toFixed(1)} %`;
    });
    where.textContent = `x ${(x * um).toFixed(0)} µm, y ${(y * um).toFixed(0)} µm; expected error ${values.join(", ")}`;
  }

  function choose(swipe, select) {
    const side = select.dataset.side;
    const option = select.selectedOptions[0];
    swipe.element.querySelector(`use.${side}`).setAttribute("href", `#${option.value}`);
    const chip = swipe.element.querySelector(`.chip.${side}`);
    const made = "made" in option.dataset;
    chip.textContent = made ? root.querySelector(".chip.made").textContent : option.textContent;
    chip.classList.toggle("made", made);
    const names = [...swipe.element.querySelectorAll("select")].map((one) => one.selectedOptions[0].textContent);
    swipe.element.querySelector("svg.tissue").setAttribute("aria-label", `${names[0]} on the left, ${names[1]} on the right.`);
  }

  root.querySelectorAll(".window").forEach(listen);
  for (const swipe of swipes) {
    swipe.range.addEventListener("input", () => {
      swipe.share = swipe.range.value / 100;
      placeDivider(swipe);
    });
    for (const select of swipe.element.querySelectorAll("select"))
      select.addEventListener("change", () => choose(swipe, select));
  }
  for (const range of root.querySelectorAll("[data-opacity]"))
    range.addEventListener("input", () => {
      for (const over of root.querySelectorAll(`[data-over="${range.dataset.opacity}"]`)) over.setAttribute("opacity", range.value / 100);
      range.nextElementSibling.textContent = `${range.value} %`;
    });
  root.querySelector("[data-outline]").addEventListener("change", (event) => root.classList.toggle("bare", !event.target.checked));
  const tools = { in: () => zoom(1.5), out: () => zoom(1 / 1.5), reset };
  for (const button of root.querySelectorAll("[data-do]")) button.addEventListener("click", tools[button.dataset.do]);
  root.querySelectorAll(".tools, .slide").forEach((element) => { element.hidden = false; });
  window.addEventListener("beforeprint", reset);
  window.addEventListener("resize", show);
  show();
})();
