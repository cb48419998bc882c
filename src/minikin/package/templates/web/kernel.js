"use strict";
/* The kernel in a page or in a worker: no document, no network. `await Kernel.open(wasm, model)` takes two Uint8Arrays. */

class Kernel {
  static async open(wasm, model) {
    const { instance } = await WebAssembly.instantiate(wasm, {});
    const kernel = new Kernel(instance.exports);
    kernel.load(model);
    return kernel;
  }

  constructor(module) {
    this.module = module;
    this.encoder = new TextEncoder();
  }

  load(model) {
    const at = this.module.reserve(model.length) >>> 0;
    if (at === 0) throw new Error("there is not enough memory for the model");
    new Uint8Array(this.module.memory.buffer, at, model.length).set(model);
    const code = this.module.open_model(at, model.length);
    if (code !== 0) throw new Error(`the model is damaged (code ${code})`);
    this.classes = this.module.classes();
    this.room = this.module.room_of_text() >>> 0;
    this.at = this.module.text_at() >>> 0;
  }

  /* Probabilities of one text, or of two: {probabilities: Float32Array, best: index, truncated}. */
  answer(first, second) {
    const size = this.write(first, this.at);
    const secondSize = second === undefined ? -1 : this.write(second, this.at + this.room);
    const at = this.module.answer(size, secondSize) >>> 0;
    const probabilities = new Float32Array(this.module.memory.buffer, at, this.classes).slice();
    let best = 0;
    for (let i = 1; i < probabilities.length; i++) if (probabilities[i] > probabilities[best]) best = i;
    return { probabilities, best, truncated: this.module.was_truncated() === 1 };
  }

  write(text, at) {
    return this.encoder.encodeInto(text, new Uint8Array(this.module.memory.buffer, at, this.room)).written;
  }
}

/* Bytes of base64, and of a deflated stream. */
function bytesOfBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/* Rows of CSV or TSV: quotes as in RFC 4180, any end of line. */
function rowsOf(text, separator) {
  const rows = [];
  let row = [], cell = "", quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quoted) {
      if (c !== '"') cell += c;
      else if (text[i + 1] === '"') cell += text[++i];
      else quoted = false;
    } else if (c === '"' && cell === "") {
      quoted = true;
    } else if (c === separator) {
      row.push(cell);
      cell = "";
    } else if (c === "\n" || c === "\r") {
      if (c === "\r" && text[i + 1] === "\n") i++;
      row.push(cell);
      rows.push(row);
      row = [];
      cell = "";
    } else {
      cell += c;
    }
  }
  if (cell !== "" || row.length) {
    row.push(cell);
    rows.push(row);
  }
  return rows.filter((cells) => cells.some((value) => value.trim() !== ""));
}

function csvOf(rows) {
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  return rows.map((row) => row.map((value) => quoted(String(value))).join(",")).join("\r\n") + "\r\n";
}

/* The rows of a table with their answers behind them: all as wide as the widest, so that an answer has its own column. */
function answered(names, rows, answers) {
  const width = rows.reduce((widest, row) => Math.max(widest, row.length), names.length);
  const padded = (row) => [...row, ...Array(width - row.length).fill("")];
  return [[...padded(names), "label", "confidence"], ...answers.map((answer, i) => [...padded(rows[i]), ...answer])];
}

const LOOKED_AT = 20000; /* characters of what was pasted that tell its form */

/* What parts the cells of a table: tabs if its first line has one, else commas. */
function separatorOf(text) {
  const first = text.slice(0, LOOKED_AT).split(/[\r\n]+/).find((line) => line.trim() !== "") ?? "";
  return first.includes("\t") ? "\t" : ",";
}

/* Whether a pasted text is a table: its first lines have equally many cells, and the first could name columns. In doubt it
 * is lines, where no text is lost. */
function isTable(text, pair) {
  const separator = separatorOf(text);
  const [names = [], ...rows] = rowsOf(text.slice(0, LOOKED_AT), separator);
  const whole = text.length > LOOKED_AT ? rows.slice(0, -1) : rows; /* the last one may be cut off */
  const even = whole.slice(0, 20).every((row) => row.length === names.length);
  const words = pair && separator === "\t" && names.length === 2 ? 1 : 3; /* a line of two texts has a tab too */
  return names.length > 1 && rows.length > 0 && even && names.every((name) => isName(name, separator, words));
}

/* A name of a column is short, no number, and has no sign that ends sentences, nor the space that follows their commas. */
function isName(name, separator, words) {
  if (name.trim() === "" || name.length > 40 || name.trim().split(" ").length > words) return false;
  return Number.isNaN(Number(name)) && !/[.!?]/.test(name) && !(separator === "," && /^\s/.test(name));
}
