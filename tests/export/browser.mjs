// Opens a page in Chromium, as a person with a keyboard would: node browser.mjs chromium address < [steps as JSON].
// A step is {until: expression}, {ask: expression}, {key: "Enter" or "Tab"} or {scheme: "light" or "dark"}; prints what
// was asked. It speaks the DevTools protocol over a pipe: that needs no library, and the page's policy is not in its way.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [program, address] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "minikin-browser-"));
const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
flags.push("--disable-component-update", "--disable-sync", "--remote-debugging-pipe", `--user-data-dir=${profile}`);
const browser = spawn(program, [...flags, "about:blank"], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const [, , , requests, replies] = browser.stdio;

const waiting = new Map();
let rest = "";
replies.setEncoding("utf8").on("data", (data) => {
  const messages = (rest + data).split("\0");
  rest = messages.pop();
  for (const message of messages.map((text) => JSON.parse(text))) waiting.get(message.id)?.(message);
});
let sent = 0;
async function call(method, params = {}, sessionId = undefined) {
  const id = ++sent;
  requests.write(JSON.stringify({ id, method, params, sessionId }) + "\0");
  const { result, error } = await new Promise((resolve) => waiting.set(id, resolve));
  if (error) throw new Error(`${method}: ${error.message}`);
  return result;
}

async function run(steps) {
  const { targetId } = await call("Target.createTarget", { url: address });
  const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
  const inPage = (method, params) => call(method, params, sessionId);
  const ask = async (expression) => {
    const { result, exceptionDetails } = await inPage("Runtime.evaluate", { expression, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${result.description}`);
    return result.value ?? null;
  };
  const until = async (expression) => {
    for (let tries = 0; tries < 600; tries++) {
      if (await ask(expression).catch(() => false)) return; // fails while a page loads
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`never true: ${expression}`);
  };
  const press = async (key) => {
    const pressed = { key, code: key, windowsVirtualKeyCode: { Enter: 13, Tab: 9 }[key], ...(key === "Enter" && { text: "\r" }) };
    await inPage("Input.dispatchKeyEvent", { type: "keyDown", ...pressed });
    await inPage("Input.dispatchKeyEvent", { type: "keyUp", ...pressed });
  };
  await until('location.href !== "about:blank" && document.readyState === "complete"');
  const asked = [];
  for (const step of steps) {
    if (step.until) await until(step.until);
    if (step.ask) asked.push(await ask(step.ask));
    if (step.key) await press(step.key);
    if (step.scheme) {
      const features = [{ name: "prefers-color-scheme", value: step.scheme }];
      await inPage("Emulation.setEmulatedMedia", { features });
    }
  }
  return asked;
}

try {
  console.log(JSON.stringify(await run(JSON.parse(readFileSync(0, "utf8")))));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  const closed = new Promise((resolve) => browser.once("close", resolve));
  await call("Browser.close").catch(() => browser.kill());
  await closed;
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
