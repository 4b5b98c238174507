"use strict";
// Draws each picture of the page again on a canvas, so that window, level and overlay can be changed.
// Knows nothing but the drawings that stand on the page.
(() => {
  const SHARPEST = 768; // a canvas has at least about this many pixels across, for crisp outlines

  function canvasFor(svg, image) {
    const canvas = document.createElement("canvas");
    const factor = Math.max(1, Math.round(SHARPEST / image.width));
    canvas.width = image.width * factor;
    canvas.height = image.height * factor;
    canvas.className = "picture";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", svg.getAttribute("aria-label"));
    svg.before(canvas);
    svg.classList.add("replaced");
    const box = svg.viewBox.baseVal;
    return { canvas, shapes: [...svg.querySelectorAll(".map > *")].map(shape), box };
  }

  function shape(element) {
    const style = getComputedStyle(element);
    const number = (name) => Number(element.getAttribute(name));
    return { kind: element.localName, style, number, text: element.textContent };
  }

  function drawShape(pen, { kind, style, number, text }) {
    pen.lineWidth = number("stroke-width");
    pen.strokeStyle = style.stroke;
    pen.fillStyle = style.fill;
    if (kind === "rect") {
      const box = ["x", "y", "width", "height"].map(number);
      if (style.fill === "none") pen.strokeRect(...box);
      else pen.fillRect(...box);
    } else if (kind === "line") {
      pen.beginPath();
      pen.moveTo(number("x1"), number("y1"));
      pen.lineTo(number("x2"), number("y2"));
      pen.stroke();
    } else if (kind === "text") {
      pen.font = `bold ${number("font-size")}px sans-serif`;
      pen.strokeText(text, number("x"), number("y"));
      pen.fillText(text, number("x"), number("y"));
    }
  }

  function start(card, image) {
    const controls = card.querySelector(".controls");
    const part = (name) => controls.querySelector(`[name=${name}]`);
    const source = document.createElement("canvas");
    source.width = image.width;
    source.height = image.height;
    const brush = source.getContext("2d", { willReadFrequently: true });
    brush.drawImage(image, 0, 0);
    const stored = brush.getImageData(0, 0, image.width, image.height);
    const shown = new ImageData(image.width, image.height);
    const places = [...card.querySelectorAll("svg.picture")].map((svg) => canvasFor(svg, image));

    function window256() { // every stored grey through level and window
      if (!part("window")) return null;
      const [level, width] = ["level", "window"].map((name) => Number(part(name).value) / 100);
      return Uint8ClampedArray.from({ length: 256 }, (_, value) => 255 * ((value / 255 - level) / width + 0.5));
    }

    function draw() {
      const table = window256();
      for (let at = 0; at < stored.data.length; at += 1)
        shown.data[at] = table && at % 4 < 3 ? table[stored.data[at]] : stored.data[at];
      brush.putImageData(shown, 0, 0);
      for (const { canvas, shapes, box } of places) {
        const pen = canvas.getContext("2d", { willReadFrequently: true });
        pen.globalAlpha = 1;
        pen.setTransform(1, 0, 0, 1, 0, 0);
        pen.drawImage(source, 0, 0, canvas.width, canvas.height);
        pen.setTransform(canvas.width / box.width, 0, 0, canvas.height / box.height, 0, 0);
        const strength = part("opacity") ? Number(part("opacity").value) / 100 : 1;
        for (const one of shapes) {
          pen.globalAlpha = strength * (one.kind === "rect" ? Number(one.style.fillOpacity) : 1);
          drawShape(pen, one);
        }
      }
      for (const range of controls.querySelectorAll("input")) range.nextElementSibling.value = `${range.value} %`;
    }

    controls.addEventListener("input", draw);
    controls.querySelector("button").addEventListener("click", () => {
      for (const range of controls.querySelectorAll("input")) range.value = range.defaultValue;
      draw();
    });
    controls.hidden = false;
    card.dataset.drawn = "yes";
    draw();
  }

  for (const card of document.querySelectorAll(".map-card")) {
    const stored = card.querySelector("svg image");
    if (stored) {
      const image = new Image();
      image.onload = () => start(card, image);
      image.src = stored.getAttribute("href");
    }
  }
})();
