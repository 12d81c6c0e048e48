// Formulas come as \(...\) and \[...\]; KaTeX, which lies beside this file, draws them.
for (const each of document.querySelectorAll(".arithmatex")) {
  const block = each.tagName === "DIV";
  katex.render(each.textContent.trim().slice(2, -2), each, { displayMode: block, throwOnError: false });
}
