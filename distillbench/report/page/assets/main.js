// Each part of the page starts when it comes near the window, so that opening it costs little.

const PARTS = {
  tradeoff: startTradeoff, curves: startCurves, losses: startLosses, forest: startForest, samples: startSamples,
};

for (const table of document.querySelectorAll("main table")) enhanceTable(table);

const coming = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    coming.unobserve(target);
    PARTS[target.dataset.part](target);
    target.dataset.ready = "";
  }
}, { rootMargin: "400px" });
for (const host of document.querySelectorAll("[data-part]")) coming.observe(host);
