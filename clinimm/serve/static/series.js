// Scrolls through the pictures of a series, and shows each through a level and a window.
"use strict";
(() => {
  const stage = document.getElementById("series");
  const canvas = document.getElementById("picture");
  const draw = canvas.getContext("2d", { willReadFrequently: true });
  const state = document.getElementById("state");
  const part = (name) => document.getElementById(name);
  const count = Number(stage.dataset.count);
  const known = new Map(); // number -> promise of the decoded picture
  const most = 64;
  let at = 0;
  let inverted = false;

  function picture(number) {
    if (!known.has(number)) {
      known.set(number, fetch(`${stage.dataset.address}${number}.png`, { credentials: "same-origin" })
        .then((answer) => {
          if (!answer.ok) throw new Error(String(answer.status));
          return answer.blob();
        })
        .then(createImageBitmap));
      if (known.size > most) known.delete(known.keys().next().value);
    }
    return known.get(number);
  }

  function table() { // 256 grey values through level and window
    const level = Number(part("level").value) / 100;
    const width = Number(part("window").value) / 100;
    return Uint8ClampedArray.from({ length: 256 }, (_, value) => {
      const shown = 255 * ((value / 255 - level) / width + 0.5);
      return inverted ? 255 - shown : shown;
    });
  }

  async function show(number) {
    at = number;
    let image;
    try {
      image = await picture(number);
    } catch (error) {
      known.delete(number);
      state.textContent = error.message === "403" ? "Load this page again to go on." : "This picture cannot be shown.";
      return;
    }
    if (number !== at) return; // scrolled on meanwhile
    canvas.width = image.width;
    canvas.height = image.height;
    draw.drawImage(image, 0, 0);
    const pixels = draw.getImageData(0, 0, image.width, image.height);
    const through = table();
    for (let place = 0; place < pixels.data.length; place += 4) {
      for (let colour = 0; colour < 3; colour += 1) {
        pixels.data[place + colour] = through[pixels.data[place + colour]];
      }
    }
    draw.putImageData(pixels, 0, 0);
    state.textContent = `${number + 1} of ${count}`;
    canvas.dataset.shown = String(number);
    part("index").value = String(number + 1);
    part("index-text").textContent = `${number + 1} of ${count}`;
    part("level-text").textContent = `${part("level").value} %`;
    part("window-text").textContent = `${part("window").value} %`;
    if (number + 1 < count) picture(number + 1).catch(() => known.delete(number + 1));
  }

  const go = (step) => show(Math.min(count - 1, Math.max(0, at + step)));
  const keys = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -count, End: count };
  canvas.addEventListener("keydown", (event) => {
    if (event.key in keys) { event.preventDefault(); go(keys[event.key]); }
  });
  canvas.addEventListener("wheel", (event) => {
    if (count > 1) { event.preventDefault(); go(Math.sign(event.deltaY)); }
  }, { passive: false });
  part("index").addEventListener("input", () => show(Number(part("index").value) - 1));
  for (const name of ["level", "window"]) part(name).addEventListener("input", () => show(at));
  part("invert").addEventListener("click", () => {
    inverted = !inverted;
    part("invert").setAttribute("aria-pressed", String(inverted));
    show(at);
  });
  part("reset").addEventListener("click", () => {
    part("level").value = "50";
    part("window").value = "100";
    inverted = false;
    part("invert").setAttribute("aria-pressed", "false");
    show(at);
  });
  show(count > 1 ? Math.floor(count / 2) : 0);
})();
