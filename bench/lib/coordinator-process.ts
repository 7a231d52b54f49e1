/** A whole coordinator in a process of its own, as `fallow up` runs it; argv is home and host. Answers `measure` with its state. */
import { createPinoLog } from "../../src/adapters/log-pino/pino-log.ts";
import { startCoordinatorHost } from "../../src/cli/compose/coordinator-host.ts";
import { openHome } from "../../src/cli/home/home-folder.ts";

const HOUR_MS = 3_600_000;
const JOINS_MAX = 100_000;

const [home, host = "127.0.0.1"] = process.argv.slice(2);
const grid = await startCoordinatorHost({
  home: openHome(home),
  host,
  port: 0,
  database: undefined,
  tlsFiles: null,
  version: "0.0.0-bench",
  clientStallMsMax: 30_000,
  peering: { peerPort: null, peerAddress: null, hasUdp: false, hasRelay: false, hasLan: false },
  log: createPinoLog({ level: "error" }),
});
const { registry, gridId } = grid.coordinator;
let suspected = 0;
let gone = 0;
registry.subscribe({
  onOnline: () => undefined,
  onSuspect: () => {
    suspected += 1;
  },
  onGone: () => {
    gone += 1;
  },
  onWithdrawn: () => undefined,
  onWork: () => undefined,
  onReplicas: () => undefined,
});
const { token } = await registry.issueJoinToken({ usesMax: JOINS_MAX, ttlMs: HOUR_MS });
const { certificateSha256 } = grid.addresses;
const { port } = new URL(grid.localUrl);
process.send?.({
  kind: "ready",
  joining: {
    url: `${certificateSha256 === null ? "http" : "https"}://127.0.0.1:${port}`,
    certificateSha256,
    token,
    gridId,
  },
});
process.on("message", () => {
  const { user, system } = process.cpuUsage();
  process.send?.({
    kind: "measured",
    online: registry.nodes().filter(({ state }) => state === "online").length,
    suspected,
    gone,
    rssBytes: process.memoryUsage.rss(),
    heapUsedBytes: process.memoryUsage().heapUsed,
    cpuMs: (user + system) / 1_000,
    atMs: performance.now(),
  });
});
process.on("disconnect", () => process.exit(0));
