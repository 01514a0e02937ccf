// Sets TeX with KaTeX: reads one JSON object a line, {tex, display}, and writes one a line,
// {html} or {error}. The strictness is KaTeX's own: what it would guess at is an error here.
const katex = require("katex");
const lines = require("readline").createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const { tex, display } = JSON.parse(line);
  const answer = {};
  try {
    answer.html = katex.renderToString(tex, {
      displayMode: display,
      output: "htmlAndMathml",
      strict: "error",
      throwOnError: true,
    });
  } catch (error) {
    answer.error = String(error.message);
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
});
