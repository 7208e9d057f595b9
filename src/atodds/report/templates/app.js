"use strict";
(() => {
  const drawings = JSON.parse(document.getElementById("drawings").textContent);
  const small = window.matchMedia("(max-width: 620px)");

  const draw = () => {
    for (const place of document.querySelectorAll("[data-drawing]")) {
      const spec = structuredClone(drawings[place.dataset.drawing]);
      for (const param of spec.params || []) if (param.name === "narrow") param.value = small.matches;
      vegaEmbed(place, spec, { mode: "vega-lite", renderer: "svg", actions: false, ast: true, tooltip: { theme: "custom" } })
        .catch((error) => { place.textContent = "This chart could not be drawn (" + error.message + "). Its numbers are in the table below."; });
    }
  };
  draw();
  small.addEventListener("change", draw);

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        const range = document.createRange();
        range.selectNodeContents(source);
        const selection = window.getSelection();
        selection.removeAllRanges();
        selection.addRange(range);
        button.textContent = document.execCommand("copy") ? "Copied" : "Selected: now copy";
      }
      window.setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  const closer = document.getElementById("closer");
  let shown = null;
  const enlarge = (shot) => {
    shown = shot;
    closer.querySelector("div").replaceChildren(...[...shot.children].map((child) => child.cloneNode(true)));
    if (!closer.open) closer.showModal();
  };
  const go = (shot, key) => {
    const all = [...shot.parentElement.children];
    const here = all.indexOf(shot);
    const next = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: all.length - 1 }[key];
    if (next === undefined) return null;
    const to = all[Math.max(0, Math.min(all.length - 1, next))];
    for (const other of all) other.tabIndex = other === to ? 0 : -1;
    return to;
  };
  for (const shot of document.querySelectorAll(".shot")) {
    shot.addEventListener("click", () => enlarge(shot));
    shot.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const to = go(shot, event.key);
      if (to) to.focus();
      else if (event.key === "Enter" || event.key === " ") enlarge(shot);
      else return;
      event.preventDefault();
    });
  }
  closer.addEventListener("keydown", (event) => {
    const to = shown && go(shown, event.key);
    if (!to) return;
    enlarge(to);
    event.preventDefault();
  });
  closer.addEventListener("click", (event) => { if (event.target === closer || event.target.closest(".close")) closer.close(); });
  closer.addEventListener("close", () => { if (shown) shown.focus(); });

  const folded = document.querySelector(".provenance");
  let opened = false;
  window.addEventListener("beforeprint", () => { opened = folded.open; folded.open = true; });
  window.addEventListener("afterprint", () => { folded.open = opened; });
})();
