"use strict";
// The filter of the rendered rows. Without this script every row is there and opens all the same.
const bar = document.querySelector(".filters");
if (bar) {
  const rows = [...document.querySelectorAll(".rendered")];
  const words = bar.querySelector("[name=text]");
  const partition = bar.querySelector("[name=partition]");
  const state = bar.querySelector("[name=state]");
  const output = bar.querySelector("output");
  const texts = new Map();
  const textOf = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };
  const states = {
    "": () => true,
    problem: (found) => found !== "fine",
    cut: (found) => found === "cut",
    dropped: (found) => found === "dropped",
  };
  const filter = () => {
    const wanted = words.value.toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden =
        (partition.value !== "" && row.dataset.partition !== partition.value) ||
        !states[state.value](row.dataset.state) ||
        (wanted !== "" && !textOf(row).includes(wanted));
      shown += row.hidden ? 0 : 1;
    }
    output.textContent = `${shown} of ${rows.length} shown`;
  };
  for (const control of [words, partition, state]) control.addEventListener("input", filter);
  bar.hidden = false;
  filter();
}
