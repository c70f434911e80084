"use strict";
(() => {
  // Adds the read-out under the pointer; the page says everything else without it.
  const root = document.documentElement;
  addEventListener("error", (e) => { root.dataset.error = e.message; });
  const { first, length, width, bins, episodes } = JSON.parse(document.getElementById("data").textContent);
  const plots = document.getElementById("plots");
  const cursor = document.getElementById("cursor");
  const readout = document.getElementById("readout");
  const pad = (n, digits) => String(n).padStart(digits, "0");
  const clock = (ms) => {
    const s = Math.floor(ms / 1000);
    return `${Math.floor(s / 3600)}:${pad(Math.floor(s / 60) % 60, 2)}:${pad(s % 60, 2)}.${pad(Math.floor(ms) % 1000, 3)}`;
  };
  const area = (share) => (share > 0 && share < 0.0005 ? "< 0.1 %" : `${(share * 100).toFixed(1)} %`);
  let at = 0;

  function show(index, ms) {
    at = Math.max(0, Math.min(bins.length - 1, index));
    const bin = bins[at];
    const from = at * width;
    const time = ms ?? Math.min(from, length);
    cursor.hidden = false;
    cursor.style.left = `${Math.min(100, (time / length) * 100)}%`;
    const parts = [`<b>${clock(first + time)}</b>`];
    if (bin) {
      parts.push(`frame <b>${bin[0]}</b>`, `probability <b>${bin[1].toFixed(2)}</b>`, `area <b>${area(bin[2])}</b>`);
    } else {
      parts.push("no frame");
    }
    const number = episodes.findIndex(([start, end]) => start < from + width && end > from);
    if (number >= 0) parts.push(`episode <b>${number + 1}</b>`);
    readout.innerHTML = parts.map((p) => `<span>${p}</span>`).join("");
  }

  if (bins.length) {
    plots.addEventListener("pointermove", (e) => {
      const box = plots.getBoundingClientRect();
      const ms = Math.max(0, Math.min(1, (e.clientX - box.left) / box.width)) * length;
      show(Math.floor(ms / width), ms);
    });
    plots.tabIndex = 0;
    plots.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -32, PageDown: 32 }[e.key];
      const to = e.key === "Home" ? 0 : e.key === "End" ? bins.length - 1 : step && at + step;
      if (to === undefined) return;
      e.preventDefault();
      show(to);
    });
    // Begins at the largest area.
    let best = 0;
    bins.forEach((b, i) => {
      const c = bins[best];
      if (b && (!c || b[2] > c[2] || (b[2] === c[2] && b[1] > c[1]))) best = i;
    });
    show(best);
    cursor.hidden = true;
    readout.hidden = false;
  }
  root.dataset.ready = "yes";
})();
