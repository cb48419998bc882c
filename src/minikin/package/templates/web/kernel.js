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

/* The separator of a pasted table: a tab or comma that most of its first lines have equally often; else none. */
function separatorOf(text) {
  for (const separator of ["\t", ","]) {
    const rows = rowsOf(text.slice(0, 20000), separator).slice(0, 20);
    const widths = rows.map((row) => row.length);
    if (rows.length > 1 && widths[0] > 1 && widths.slice(0, -1).every((width) => width === widths[0])) return separator;
  }
  return "";
}
