"use strict";
/* The page: one text as one types, and many at once. */

const SHOWN = 8; /* labels with a bar, until more are asked for */
const PREVIEW = 12;
const QUIET_MS = 700; /* what is said to a screen reader waits for a pause in typing */
const SLICE_MS = 30; /* how long a batch computes before the page may draw */

const $ = (id) => document.getElementById(id);
const kin = JSON.parse($("kin").textContent);
const fields = kin.pair ? [$("text"), $("text2")] : [$("text")];
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const made = (name, text = "", kind = "") => {
  const element = document.createElement(name);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
};
let kernel = null;
let noKernel = "The model is not there yet.";
let showsAll = false;
let saying = 0;

/* ---- one text ---- */

function answerNow() {
  const empty = fields.some((field) => field.value.trim() === "");
  $("answer").hidden = empty;
  $("hint").hidden = !empty;
  clearTimeout(saying);
  if (empty || !kernel) return;
  const started = performance.now();
  const found = kernel.answer(...fields.map((field) => field.value));
  const took = performance.now() - started;
  document.body.dataset.first ??= performance.now().toFixed(1);
  draw(found, took);
  const words = `${kin.labels[found.best]}, ${percent(found.probabilities[found.best])}`;
  saying = setTimeout(() => ($("said").textContent = words), QUIET_MS);
}

function draw(found, took) {
  const order = [...found.probabilities.keys()].sort((a, b) => found.probabilities[b] - found.probabilities[a]);
  const sure = made("span", `${percent(found.probabilities[found.best])} sure`, "sure");
  $("label").replaceChildren(kin.labels[found.best] + " ", sure);
  const cut = found.truncated ? `; only the first ${kin.tokens} tokens were read` : "";
  $("took").textContent = `answered in ${took < 10 ? took.toFixed(1) : took.toFixed(0)} ms on this device${cut}`;
  $("bars").replaceChildren(
    ...order.slice(0, showsAll ? order.length : SHOWN).map((i) => {
      const item = made("li"), track = made("span", "", "track"), bar = made("span", "", "bar");
      bar.style.transform = `scaleX(${found.probabilities[i]})`;
      track.ariaHidden = "true";
      track.append(bar);
      item.append(made("span", kin.labels[i]), track, made("span", percent(found.probabilities[i]), "share"));
      return item;
    }),
  );
  $("more").hidden = kin.labels.length <= SHOWN;
  $("more").textContent = showsAll ? `Show ${SHOWN} labels` : `Show all ${kin.labels.length} labels`;
  $("more").ariaExpanded = String(showsAll);
}

/* ---- many texts ---- */

let chosenForm = false; /* by hand */
let stopped = false;
let csv = "";

/* The form and the columns that fit what was pasted. */
function look() {
  const text = $("batch").value;
  if (!chosenForm) $("form").value = isTable(text, kin.pair) ? "table" : "lines";
  const table = $("form").value === "table";
  for (const part of document.querySelectorAll(".column")) part.hidden = !table || (!kin.pair && part.matches(".second"));
  if (!table) return;
  const rows = rowsOf(text.slice(0, LOOKED_AT), separatorOf(text)).slice(0, 20);
  const length = (i) => rows.slice(1).reduce((sum, row) => sum + (row[i] ?? "").length, 0);
  const names = rows[0] ?? [];
  const order = [...names.keys()].sort((a, b) => length(b) - length(a));
  const chosen = order.slice(0, fields.length).sort((a, b) => a - b);
  ["column", "column2"].forEach((id, place) => {
    const options = names.map((name, i) => new Option(name || `column ${i + 1}`, String(i)));
    const kept = $(id).value;
    const same = [...$(id).options].map((option) => option.text).join("\n") === options.map((option) => option.text).join("\n");
    $(id).replaceChildren(...options);
    $(id).value = same ? kept : String(chosen[place] ?? 0);
  });
}

/* What is to be answered: the header of the CSV, its rows, and the texts of each row. */
function asked() {
  const text = $("batch").value;
  if ($("form").value === "table") {
    const [names = [], ...rows] = rowsOf(text, separatorOf(text));
    const columns = ["column", "column2"].slice(0, fields.length).map((id) => Number($(id).value));
    return { names, rows, texts: rows.map((row) => columns.map((i) => row[i] ?? "")) };
  }
  const lines = text.split(/\r\n|\r|\n/).filter((line) => line.trim() !== "");
  if (!kin.pair) return { names: ["text"], rows: lines.map((line) => [line]), texts: lines.map((line) => [line]) };
  const rows = lines.map((line) => [line.split("\t")[0], line.split("\t").slice(1).join(" ")]);
  return { names: ["first", "second"], rows, texts: rows };
}

async function answerAll() {
  if ($("start").ariaDisabled === "true") return;
  const { names, rows, texts } = asked();
  if (!texts.length || !kernel) {
    $("done").textContent = kernel ? "There is no text yet." : noKernel;
    return;
  }
  const answers = [];
  let cut = 0, pause = performance.now() + SLICE_MS;
  const started = performance.now();
  busy(true);
  for (const pair of texts) {
    const found = kernel.answer(...pair);
    answers.push([kin.labels[found.best], found.probabilities[found.best].toFixed(4)]);
    cut += found.truncated;
    if (performance.now() > pause) {
      $("progress").value = answers.length / texts.length;
      await new Promise((resolve) => setTimeout(resolve));
      pause = performance.now() + SLICE_MS;
      if (stopped) break;
    }
  }
  busy(false);
  const seconds = ((performance.now() - started) / 1000).toFixed(2);
  csv = csvOf(answered(names, rows, answers));
  const told = [`${answers.length} ${answers.length === 1 ? "text" : "texts"} in ${seconds} s`];
  if (stopped) told.push(`stopped before ${texts.length - answers.length} more`);
  if (cut) told.push(`${cut} cut off after ${kin.tokens} tokens`);
  $("done").textContent = told.join("; ") + ".";
  const heads = kin.pair ? ["first text", "second text"] : ["text"];
  preview([...heads, "label", "confidence"], answers.slice(0, PREVIEW).map((answer, i) => [...texts[i], ...answer]));
}

/* Neither button takes the keyboard's focus with it: a disabled or hidden one would drop it. */
function busy(is) {
  if (is) stopped = false;
  $("start").ariaDisabled = String(is);
  if (document.activeElement === $("stop")) $("start").focus();
  $("stop").hidden = $("progress").hidden = !is;
  $("progress").value = 0;
}

/* The first answers as a table; the CSV has all of them, and all columns. */
function preview(names, rows) {
  const head = made("thead"), body = made("tbody"), line = made("tr");
  line.append(...names.map((name) => Object.assign(made("th", name), { scope: "col" })));
  head.append(line);
  for (const row of rows) {
    const cells = made("tr");
    const short = (value) => (value.length > 120 ? `${value.slice(0, 120)}…` : value);
    cells.append(...row.map((value, i) => made("td", short(value), i === row.length - 1 ? "num" : "")));
    body.append(cells);
  }
  $("table").replaceChildren(head, body);
  $("result").hidden = false;
}

async function copy() {
  try {
    await navigator.clipboard.writeText(csv);
    $("done").textContent = "Copied.";
  } catch {
    const area = made("textarea", csv, "unseen");
    document.body.append(area);
    area.select();
    $("done").textContent = document.execCommand("copy") ? "Copied." : "The browser does not allow copying: download it.";
    area.remove();
    $("copy").focus();
  }
}

function save() {
  const link = made("a");
  link.href = URL.createObjectURL(new Blob([csv], { type: "text/csv" }));
  link.download = `${kin.file}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/* ---- start ---- */

for (const field of fields) field.addEventListener("input", answerNow);
$("more").addEventListener("click", () => {
  showsAll = !showsAll;
  answerNow();
});
$("batch").addEventListener("input", look);
$("form").addEventListener("change", () => {
  chosenForm = true;
  look();
});
$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  if (!file) return;
  $("batch").value = (await file.text()).replace(/^\ufeff/, "");
  look();
});
$("start").addEventListener("click", answerAll);
$("stop").addEventListener("click", () => (stopped = true));
$("copy").addEventListener("click", copy);
$("save").addEventListener("click", save);

load()
  .then(([wasm, model]) => Kernel.open(wasm, model))
  .then((opened) => {
    kernel = opened;
    document.body.dataset.ready = performance.now().toFixed(1);
    answerNow();
  })
  .catch((error) => {
    const old = error.name === "Error" ? "" : " It needs a browser of 2023 or newer."; /* a plain Error is one of ours */
    noKernel = "The model could not be loaded.";
    $("fault").hidden = false;
    $("fault").textContent = `This page can't answer here: ${error.message}.${old}`;
  });
