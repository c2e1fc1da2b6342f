"use strict";
(() => {
  const table = document.getElementById("claims"), body = table.tBodies[0], rows = [...body.rows], form = document.getElementById("filter");
  const [finding, verdict, text, count] = ["by-finding", "by-verdict", "by-text", "count"].map((id) => document.getElementById(id));
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const falls = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const column = Number(head.dataset.sort), sign = falls ? -1 : 1;
      body.append(...[...rows].sort((a, b) => sign * value(a, column).localeCompare(value(b, column))));
    });
  }
  const show = () => {
    const words = text.value.trim().toLowerCase();
    for (const row of rows) {
      const has = row.textContent.toLowerCase().includes(words) && (!finding.value || row.dataset.finding === finding.value);
      row.hidden = !(has && (!verdict.value || row.dataset.verdict.split(",").includes(verdict.value)));
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} claims`;
  };
  for (const field of [finding, verdict, text]) field.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
})();
