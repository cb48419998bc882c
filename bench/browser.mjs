// Measures an exported page in Chromium, from a file, and records every request that it makes (there must be none but
// the file). To run it, outside this repository: npm i --ignore-scripts playwright-core, then
//
//   minikin export kin/ --to html -o kin.html
//   NODE_PATH=.../node_modules node bench/browser.mjs kin.html texts.json [labels.json] [folder for screenshots]
//
// texts.json is a list of texts (or pairs); labels.json the library's labels for them. CHROMIUM names the browser.
// With a folder made by --to web instead of a file, it is served, visited once, and visited again with the server gone.
import { createRequire } from "node:module";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, resolve } from "node:path";

const { chromium } = createRequire(import.meta.url)(process.env.PLAYWRIGHT ?? "playwright-core");
const [place, textsFile, labelsFile, shots] = process.argv.slice(2);
const texts = JSON.parse(readFileSync(textsFile, "utf8"));
const expected = labelsFile && labelsFile !== "-" ? JSON.parse(readFileSync(labelsFile, "utf8")) : null;
const flags = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const kinds = { html: "text/html", js: "text/javascript", css: "text/css", wasm: "application/wasm", svg: "image/svg+xml" };

async function fresh(options) {
  const profile = mkdtempSync(join(tmpdir(), "minikin-browser-"));
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const context = await chromium.launchPersistentContext(profile, { executablePath, args: flags, ...options });
  context.done = async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  };
  return context;
}

// The page's policy forbids what waitForFunction does, so its elements are asked again and again.
async function until(page, name) {
  for (let tries = 0; tries < 600; tries++) {
    const value = await page.getAttribute("body", name).catch(() => null);
    if (value !== null) return Number(value);
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error(`no ${name}: ${await page.textContent("#fault")}`);
}

const fill = async (page, text) => {
  if (Array.isArray(text)) await page.fill("#text2", text[1]);
  await page.fill("#text", Array.isArray(text) ? text[0] : text);
};
const middle = (values, share) => [...values].sort((a, b) => a - b)[Math.floor(values.length * share)];

async function measured(url) {
  const context = await fresh({ acceptDownloads: true });
  const page = await context.newPage();
  const requests = [], faults = [];
  context.on("request", (request) => requests.push(request.url()));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("pageerror", (error) => faults.push(String(error)));
  const opened = performance.now();
  await page.goto(url);
  await fill(page, texts[0]);
  const first = await until(page, "data-first");
  const outside = performance.now() - opened;
  const ready = await until(page, "data-ready");
  const labels = [], took = [];
  for (const text of texts) {
    await fill(page, text);
    labels.push(await page.evaluate(() => document.getElementById("label").firstChild.textContent.trimEnd()));
    took.push(Number((await page.textContent("#took")).match(/([\d.]+) ms/)[1]));
  }
  // in the page itself, without the drawing
  const kernel = await page.evaluate((given) => {
    const times = [];
    for (let round = 0; round < 4; round++)
      for (const text of given) {
        const started = performance.now();
        kernel.answer(...[text].flat());
        times.push(performance.now() - started);
      }
    return times.slice(given.length);
  }, texts);
  await page.fill("#batch", texts.map((text) => [text].flat().map((t) => t.replace(/\s+/g, " ")).join("\t")).join("\n"));
  await page.selectOption("#form", "lines");
  await page.click("#start");
  await page.waitForSelector("#result:not([hidden])");
  const batch = await page.textContent("#done");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  const lines = readFileSync(await download.path(), "utf8").trim().split("\r\n").length;
  const asked = requests.filter((address) => !/^(file|data|blob):/.test(address));
  const seen = [...faults]; // what follows is meant to be refused
  const escaped = await page.evaluate(async () => {
    const tries = [fetch("https://example.org/"), fetch("data:,x"), new Promise((_, no) => {
      const image = new Image();
      image.onerror = () => no(new Error("refused"));
      image.src = "https://example.org/x.png";
    })];
    return (await Promise.allSettled(tries)).filter((one) => one.status === "fulfilled").length;
  });
  await context.done();
  return {
    bytes: url.startsWith("file:") ? statSync(new URL(url)).size : undefined,
    ready_ms: ready, first_answer_ms: first, first_answer_ms_with_browser: Number(outside.toFixed(1)),
    p50_ms: middle(kernel, 0.5), p95_ms: middle(kernel, 0.95), shown_p50_ms: middle(took, 0.5),
    same_labels: expected ? labels.filter((label, i) => label === expected[i]).length : undefined, of: texts.length,
    batch, csv_lines: lines, requests: asked, connections_that_were_not_refused: escaped, faults: seen,
  };
}

async function pictured(url) {
  const sizes = { phone: { width: 390, height: 844 }, desktop: { width: 1280, height: 900 } };
  for (const [name, viewport] of Object.entries(sizes))
    for (const colorScheme of ["light", "dark"]) {
      const context = await fresh({ viewport, colorScheme, isMobile: name === "phone", hasTouch: name === "phone" });
      const page = await context.newPage();
      await page.goto(url);
      await until(page, "data-ready");
      await fill(page, texts[3]);
      await page.screenshot({ path: join(shots, `${name}-${colorScheme}.png`) });
      await page.fill("#batch", `id,text,when\n${texts.slice(0, 30).map((t, i) => `${i},"${[t].flat().join(" ").replaceAll('"', '""')}",today`).join("\n")}`);
      await page.click("#start");
      await page.waitForSelector("#result:not([hidden])");
      await page.screenshot({ path: join(shots, `${name}-${colorScheme}-whole.png`), fullPage: true });
      await context.done();
    }
}

// Visit a served folder once, take the server away, and visit it again in the same browser.
async function withoutServer(folder) {
  const server = createServer((request, response) => {
    const path = join(folder, request.url.endsWith("/") ? "index.html" : new URL(request.url, "http://x").pathname);
    response.setHeader("content-type", kinds[extname(path).slice(1)] ?? "application/octet-stream");
    try {
      response.end(readFileSync(path));
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${server.address().port}/`;
  const context = await fresh({});
  const page = await context.newPage();
  const faults = [];
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  await page.goto(url);
  const first = await until(page, "data-ready");
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => true));
  await page.waitForTimeout(1000);
  await new Promise((done) => {
    server.close(done);
    server.closeAllConnections();
  });
  await page.goto(url);
  const again = await until(page, "data-ready");
  let same = 0;
  for (const [i, text] of texts.slice(0, 50).entries()) {
    await fill(page, text);
    same += (await page.evaluate(() => document.getElementById("label").firstChild.textContent.trimEnd())) === expected?.[i];
  }
  await context.done();
  return { ready_ms: first, ready_ms_without_server: again, same_labels: expected ? same : undefined, of: 50, faults };
}

if (statSync(place).isDirectory()) {
  console.log(JSON.stringify(await withoutServer(resolve(place)), null, 1));
} else {
  const url = `file://${resolve(place)}`;
  console.log(JSON.stringify(await measured(url), null, 1));
  if (shots) await pictured(url);
}
process.exit(0);
