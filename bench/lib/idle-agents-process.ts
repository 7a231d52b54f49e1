/** Agents without engines in a process of their own, to be counted, stopped and killed: argv is how to join as JSON, and how many. */
import { SystemClock } from "../../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../../src/adapters/crypto-node/node-crypto.ts";
import { WebSocketDialer } from "../../src/adapters/link-websocket/websocket-dialer.ts";
import { createPinoLog } from "../../src/adapters/log-pino/pino-log.ts";
import { AgentMembership } from "../../src/agent/membership/agent-membership.ts";
import type { WorkHandler } from "../../src/agent/session.ts";
import type { NodeCapabilities } from "../../src/domain/hardware.ts";

/** An agent at rest: it has no replica, and is ordered none. */
const atRest: WorkHandler = {
  onLineUp: () => undefined,
  onLineDown: () => undefined,
  onOrder: () => undefined,
  replicas: () => [],
  isYielding: () => false,
  memoryFreeBytes: () => 1e9,
  stop: () => Promise.resolve(),
};
const gib = 1024 ** 3;
const capabilities: NodeCapabilities = {
  platform: `${process.platform}-${process.arch}`,
  cpuModel: "an agent at rest",
  cpuCores: 1,
  memoryBytes: 4 * gib,
  diskFreeBytes: 10 * gib,
  devices: [
    {
      deviceId: "cpu",
      kind: "cpu",
      variant: "cpu",
      name: "an agent at rest",
      memoryBytes: 4 * gib,
      memoryFreeBytes: 2 * gib,
      reserveBytes: gib,
    },
  ],
  engineVariant: "cpu",
  engineVersion: "none",
  referenceSpeed: null,
};

const { url, certificateSha256, token, gridId } = JSON.parse(process.argv[2] ?? "{}");
const count = Number(process.argv[3] ?? 1);
const crypto = new NodeCrypto();
const ports = {
  dialer: new WebSocketDialer(),
  clock: new SystemClock(),
  crypto,
  random: new SystemRandom(),
  log: createPinoLog({ level: "silent" }),
  capabilities: () => capabilities,
  work: atRest,
};
const memberships = Array.from({ length: count }, (_, at) => {
  const keyPair = crypto.generateKeyPair();
  const membership = new AgentMembership(
    {
      name: `agent-${process.pid}-${at}`,
      target: { url, certificateSha256 },
      gridId,
      joinToken: token,
      version: "0.0.0-test",
      onStatus: (status) => process.send?.({ nodeId: membership.nodeId, ...status }),
    },
    { ...ports, keyPair },
  );
  return membership;
});
for (const membership of memberships) membership.start();
// The clock's timers and IPC keep no process alive by themselves; the parent's channel does.
process.on("message", () => undefined);
process.on("disconnect", () => process.exit(0));
