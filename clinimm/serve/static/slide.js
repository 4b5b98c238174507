// A slide in OpenSeadragon: tiles from this server, buttons of our own.
"use strict";
(() => {
  const stage = document.getElementById("slide");
  // OpenSeadragon adds a style element, which our policy forbids, unless it finds one; this one has no effect.
  const mark = document.createElementNS("urn:clinimm:none", "style");
  mark.setAttribute("data-openseadragon-mobile-css", "true");
  document.head.append(mark);
  const viewer = OpenSeadragon({
    element: stage,
    tileSources: stage.dataset.address,
    drawer: "canvas",
    showNavigationControl: false,
    showNavigator: false,
    crossOriginPolicy: false,
    ajaxWithCredentials: false,
    maxZoomPixelRatio: 2,
    visibilityRatio: 0.5,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    animationTime: window.matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.5,
  });
  const zoom = document.getElementById("zoom");
  const tell = () => {
    const item = viewer.world.getItemAt(0);
    if (item) zoom.textContent = `${Math.round(100 * item.viewportToImageZoom(viewer.viewport.getZoom(true)))} % of full size`;
  };
  viewer.canvas.setAttribute("role", "application");
  viewer.canvas.setAttribute("aria-label", stage.dataset.label);
  viewer.addHandler("open", () => { stage.dataset.open = "yes"; tell(); });
  viewer.addHandler("open-failed", () => { zoom.textContent = "This slide cannot be shown. Load the page again."; });
  viewer.addHandler("tile-drawn", () => { stage.dataset.drawn = "yes"; });
  viewer.addHandler("animation", tell);
  viewer.addHandler("animation-finish", tell);
  const by = (factor) => { viewer.viewport.zoomBy(factor); viewer.viewport.applyConstraints(); };
  document.getElementById("zoom-in").addEventListener("click", () => by(2));
  document.getElementById("zoom-out").addEventListener("click", () => by(0.5));
  document.getElementById("home").addEventListener("click", () => viewer.viewport.goHome());
})();
