"use strict";
(() => {
  // Adds the read-out under the pointer; the page says everything else without it.
  const root = document.documentElement;
  addEventListener("error", (e) => { root.dataset.error = e.message; });
  const { first, length, width, bins, episodes, noun } = JSON.parse(document.getElementById("data").textContent);
  const plots = document.getElementById("plots");
  const cursor = document.getElementById("cursor");
  const readout = document.getElementById("readout");
  const pad = (n, digits) => String(n).padStart(digits, "0");
  const clock = (ms) => {
    const s = Math.floor(Math.round(ms) / 1000);
    return `${Math.floor(s / 3600)}:${pad(Math.floor(s / 60) % 60, 2)}:${pad(s % 60, 2)}.${pad(Math.round(ms) % 1000, 3)}`;
  };
  const area = (share) => (share > 0 && share < 0.0005 ? "< 0.1 %" : `${(share * 100).toFixed(1)} %`);
  // As in the page: what is not certain is not shown as 1.
  const probability = (p) => (p < 1 && p >= 0.995 ? (Math.floor(p * 1000) / 1000).toFixed(3) : p.toFixed(2));
  let at = 0;

  // A bin is [frame, ms since the start, probability, area]: its frame with the largest area.
  function show(index, ms, note = "") {
    at = Math.max(0, Math.min(bins.length - 1, index));
    const bin = bins[at];
    const from = at * width;
    const time = bin ? bin[1] : from;
    cursor.hidden = false;
    cursor.style.left = `${Math.min(100, ((ms ?? time) / length) * 100)}%`;
    const parts = [`${note}<b>${clock(first + time)}</b>`];
    if (bin) {
      parts.push(`frame <b>${bin[0]}</b>`, `probability <b>${probability(bin[2])}</b>`, `area <b>${area(bin[3])}</b>`);
    } else {
      parts.push("no frame");
    }
    const number = episodes.findIndex(([start, end]) => start < from + width && end > from);
    if (number >= 0) parts.push(`${noun} <b>${number + 1}</b>`);
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
      if (b && (!c || b[3] > c[3] || (b[3] === c[3] && b[2] > c[2]))) best = i;
    });
    show(best, undefined, bins[best] && bins[best][3] > 0 ? "largest area at " : "largest probability at ");
    readout.hidden = false;
  }
  root.dataset.ready = "yes";
})();
