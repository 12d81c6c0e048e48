// Formulas come as \(...\) and \[...\]; KaTeX, which lies beside this file, draws them.
for (const each of document.querySelectorAll(".arithmatex")) {
  const block = each.tagName === "DIV";
  katex.render(each.textContent.trim().slice(2, -2), each, { displayMode: block, throwOnError: false });
}
// In tables text is wide enough to be read and short names stay on one line; a table that does not fit then scrolls.
for (const cell of document.querySelectorAll(".md-typeset td")) {
  if (cell.textContent.length > 60) cell.style.minWidth = "7.5rem";
  for (const code of cell.querySelectorAll("code")) if (code.textContent.length <= 30) code.style.whiteSpace = "nowrap";
}
