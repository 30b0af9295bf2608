"use strict";
// Filters of the samples. Without this script every sample is there and opens all the same.
for (const group of document.querySelectorAll(".sample-group")) {
  const bar = group.querySelector(".filters");
  const buttons = [...bar.querySelectorAll("button")];
  const samples = [...group.querySelectorAll(".sample")];
  const shows = {
    all: () => true,
    regressed: (sample) => sample.dataset.change === "regressed",
    improved: (sample) => sample.dataset.change === "improved",
    different: (sample) => sample.dataset.different === "yes",
  };
  const filter = (name) => {
    let shown = 0;
    for (const sample of samples) {
      sample.hidden = !shows[name](sample);
      shown += sample.hidden ? 0 : 1;
    }
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.filter === name));
    }
    bar.querySelector("output").textContent = `${shown} of ${samples.length} shown`;
  };
  for (const button of buttons) {
    button.addEventListener("click", () => filter(button.dataset.filter));
  }
  bar.hidden = false;
  filter("all");
}
