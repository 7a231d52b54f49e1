/**
 * The status page. The key comes in the address's fragment (`#key=…`), which no server sees; it is moved into the tab's session
 * storage and taken out of the address, so that it is in no history and no bookmark. Everything that came from elsewhere is put on
 * the page as text, never as markup.
 */
import { metricsOf, PANELS } from "./metrics-panel.js";

const POLL_MS = 2_000;
/** Two missed polls: what is on the page is no longer true enough to show without saying so. */
const STALE_MS = 5_000;
const KEY_NAME = "fallow-key";

const byId = (id) => document.getElementById(id);
let lastGoodMs = 0;
let timer = 0;
/** Counts polls: an answer that a later poll has overtaken is dropped. */
let turn = 0;

function takeKey() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get("key");
  if (given !== null) {
    sessionStorage.setItem(KEY_NAME, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEY_NAME);
}

function askForKey(message) {
  clearTimeout(timer);
  byId("main").hidden = true;
  byId("key-form").hidden = false;
  byId("key-message").textContent = message;
  byId("grid").textContent = "";
  byId("freshness").textContent = "";
}

async function ask(path) {
  const headers = { authorization: `Bearer ${sessionStorage.getItem(KEY_NAME) ?? ""}` };
  return fetch(path, { headers, cache: "no-store" });
}

async function poll() {
  clearTimeout(timer);
  turn += 1;
  const mine = turn;
  try {
    const [answer, metrics] = await Promise.all([ask("/admin/v1/status"), ask("/metrics")]);
    if (mine !== turn) return;
    if (answer.status === 401 || answer.status === 403) {
      sessionStorage.removeItem(KEY_NAME);
      const why = answer.status === 401 ? "The grid does not know this key." : "This key has no admin scope.";
      askForKey(`${why} Open the dashboard address that \`fallow up\` printed, or paste the key here.`);
      return;
    }
    if (!answer.ok) throw new Error(`the grid answered ${answer.status}`);
    show(await answer.json());
    if (metrics.ok) showMetrics(metricsOf(await metrics.text()));
    if (mine !== turn) return;
    lastGoodMs = performance.now();
    setFreshness("live", false);
  } catch (problem) {
    if (mine !== turn) return;
    const isStale = performance.now() - lastGoodMs > STALE_MS;
    setFreshness(`no answer (${problem.message}); trying again`, isStale);
  }
  timer = setTimeout(poll, document.hidden ? POLL_MS * 5 : POLL_MS);
}

function setFreshness(text, isStale) {
  byId("freshness").textContent = text;
  byId("freshness").classList.toggle("stale", isStale);
}

const dollars = (microUsd) => (microUsd / 1e6).toFixed(6);
const gib = (bytes) =>
  bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const time = (atMs) => new Date(atMs).toLocaleTimeString();
const state = (name) => ({ text: name, className: `state-${name}` });
const number = (value) => ({ text: String(value), className: "number" });
const name = (text) => ({ text, className: "name", title: text });

function show(status) {
  byId("key-form").hidden = true;
  byId("main").hidden = false;
  byId("grid").textContent = `${status.gridId}, version ${status.version}`;
  const { requests, ledger } = status;
  fillTiles([
    ["Nodes online", `${status.nodes.filter((node) => node.state === "online").length} of ${status.nodes.length}`],
    ["Replicas ready", `${status.replicas.filter((one) => one.state === "ready").length} of ${status.replicas.length}`],
    ["Requests in flight", requests.inFlight],
    ["Requests queued", requests.queued],
    ["Requests settled", requests.settled],
    ["Charged, USD", dollars(ledger.chargedMicroUsd)],
    ["Held, USD", dollars(ledger.heldMicroUsd)],
    ["Tenants' balance, USD", dollars(ledger.availableMicroUsd)],
    ["Earned by nodes, USD", dollars(ledger.nodesMicroUsd)],
    ["Grid's share, USD", dollars(ledger.platformMicroUsd)],
  ]);
  showTables(status);
}

function showTables(status) {
  const names = new Map(status.nodes.map((node) => [node.nodeId, node.name]));
  fillTable(
    "nodes",
    ["Name", "State", "Engine", "CPU", "Lends#", "Round trip#", "Tokens/s#", "Replicas#", "Earned, USD#", "Id"],
    status.nodes.map((node) => [
      { ...name(node.name), title: [node.name, ...(node.warnings ?? [])].join("\n") },
      state(node.isYielding ? "yielding" : node.state),
      name(`${node.engineVariant} ${node.engineVersion}`),
      name(`${node.cpuCores} × ${node.cpuModel}`),
      number(gib(node.devices.reduce((sum, { lentBytes }) => sum + lentBytes, 0))),
      number(node.rttMs === null ? "–" : `${node.rttMs.toFixed(1)} ms`),
      number(node.decodeTokPerSecond === null ? "–" : node.decodeTokPerSecond.toFixed(0)),
      number(node.replicas),
      number(dollars(node.earnedMicroUsd)),
      name(node.nodeId),
    ]),
    "No node has joined. `fallow join-code` makes a code for one.",
  );
  fillTable(
    "replicas",
    ["Model", "Node", "State", "Loaded#", "Busy#", "Queued#", "Context#", "Memory#", "Cause"],
    status.replicas.map((one) => [
      name(one.modelId ?? "–"),
      name(one.nodeName),
      state(one.state),
      number(`${Math.round((one.state === "ready" ? 1 : one.progress) * 100)} %`),
      number(`${one.slotsBusy}/${one.slots}`),
      number(one.queued),
      number(one.contextTokens),
      number(gib(one.memoryBytes)),
      name(one.failure ?? ""),
    ]),
    "No replica runs.",
  );
  fillTable(
    "models",
    ["Model", "Architecture", "Quantisation", "Size#", "Context#", "In, USD/Mtok#", "Out#", "Ready#"],
    status.models.map((model) => [
      name(model.modelId),
      name(model.architecture),
      name(model.quantisation),
      number(gib(model.fileBytes)),
      number(model.contextTokensMax),
      number((model.inputMicroUsdPerMtok / 1e6).toFixed(3)),
      number((model.outputMicroUsdPerMtok / 1e6).toFixed(3)),
      number(`${model.replicasReady}/${model.warmReplicas}`),
    ]),
    "No model is registered.",
  );
  showWeights(status.weights ?? []);
  fillTable(
    "requests",
    ["Time", "Model", "Tier", "In#", "Out#", "Charged, USD#", "Attempts#", "Nodes", "Receipt"],
    status.requests.recent.map((row) => [
      name(time(row.createdAtMs)),
      name(row.modelId),
      name(row.tier),
      number(row.promptTokens),
      number(row.outputTokens),
      number(dollars(row.costMicroUsd)),
      number(row.attempts),
      name(row.nodeIds.map((nodeId) => names.get(nodeId) ?? nodeId).join(", ")),
      name(row.receiptId),
    ]),
    "No request was settled yet.",
  );
}

function showWeights(weights) {
  fillTable(
    "weights",
    ["Model", "Node", "State", "Has#", "Wanted#", "Uploads#", "From source#"],
    weights.flatMap((row) =>
      row.nodes.map((node) => [
        name(row.modelId ?? row.weightsSha256.slice(0, 12)),
        name(node.nodeName),
        state(node.state),
        number(hasText(node)),
        number(node.progress === null ? "–" : `${Math.floor(node.progress * 100)} %`),
        number(`${node.uploads}/${node.uploadsMax}`),
        number(gib(node.sourceBytes)),
      ]),
    ),
    "No node has told which weights it has.",
  );
}

/** Of a share of the layers which, not only how much. */
function hasText({ share, layers = [] }) {
  const percent = `${Math.floor(share * 100)} %`;
  if (share >= 1 || layers.length === 0 || layers.length > 3) return percent;
  const runs = layers.map(([first, count]) => (count === 1 ? `${first}` : `${first}-${first + count - 1}`));
  return `layers ${runs.join(", ")}, ${percent}`;
}

function element(tag, text, className, title) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  if (title) made.title = title;
  return made;
}

function fillTiles(pairs) {
  byId("totals").replaceChildren(
    ...pairs.map(([label, value]) => {
      const tile = document.createElement("div");
      tile.append(element("dt", label), element("dd", String(value)));
      return tile;
    }),
  );
}

/** A title that ends in `#` heads a column of numbers. */
function fillTable(id, titles, rows, empty) {
  const head = document.createElement("tr");
  head.append(...titles.map((title) => element("th", title.replace("#", ""), title.endsWith("#") ? "number" : "")));
  const body = rows.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells.map((cell) => element("td", cell.text, cell.className, cell.title)));
    return row;
  });
  if (rows.length === 0) {
    const cell = element("td", empty);
    cell.colSpan = titles.length;
    const row = document.createElement("tr");
    row.append(cell);
    body.push(row);
  }
  const thead = document.createElement("thead");
  const tbody = document.createElement("tbody");
  thead.append(head);
  tbody.append(...body);
  byId(id).replaceChildren(thead, tbody);
}

function showMetrics(values) {
  byId("metrics").replaceChildren(
    ...PANELS.map((panel) => {
      const tile = document.createElement("div");
      tile.append(
        element("dt", panel.title),
        element("dd", panel.show(values.get(panel.name))),
        element("code", panel.name),
      );
      return tile;
    }),
  );
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY_NAME, byId("key-input").value.trim());
  byId("key-input").value = "";
  void poll();
});
window.addEventListener("hashchange", () => {
  if (takeKey() !== null) void poll();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && sessionStorage.getItem(KEY_NAME) !== null) void poll();
});

if (takeKey() === null) {
  askForKey(
    "This page needs the grid's API key. Open the dashboard address that `fallow up` printed, or paste the key here.",
  );
} else {
  void poll();
}
