// Answers texts as an exported page does: node answers.mjs page.html [kernel.wasm] < [texts or pairs as JSON].
// Takes the page's own script up to its part that needs a document, and the two blobs that lie in the page.
import { readFileSync } from "node:fs";

const [page, wasm] = process.argv.slice(2);
const html = readFileSync(page, "utf8");
const part = (id) => html.match(new RegExp(`<script type="[^"]*" id="${id}">([^<]*)</script>`))[1];
const script = html.match(/<script>([^]*?)<\/script>/)[1];
const kernelPart = script.slice(0, script.indexOf("/* Where the page's bytes come from"));
const { Kernel, inflated, bytesOfBase64, rowsOf, csvOf, separatorOf, isTable, answered } = new Function(
  `${kernelPart}; return { Kernel, inflated, bytesOfBase64, rowsOf, csvOf, separatorOf, isTable, answered };`,
)();

const unpacked = (id) => inflated(bytesOfBase64(part(id)));
const kernel = await Kernel.open(wasm ? readFileSync(wasm) : await unpacked("wasm"), await unpacked("model"));
const input = JSON.parse(readFileSync(0, "utf8"));
const answers = (input.texts ?? []).map((text) => {
  const found = kernel.answer(...[text].flat());
  return { probabilities: [...found.probabilities], best: found.best, truncated: found.truncated };
});
const tables = (input.tables ?? []).map((text) => {
  const separator = separatorOf(text);
  const rows = rowsOf(text, separator);
  const [names = [], ...others] = rows;
  const labelled = csvOf(answered(names, others, others.map(() => ["L", "0.9"])));
  return { separator, table: isTable(text, input.pair ?? false), rows, again: csvOf(rows), labelled };
});
process.stdout.write(JSON.stringify({ answers, tables }));
