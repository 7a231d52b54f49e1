/** Agents as real processes over TLS on this machine: killed, stopped, continued. Bounds are those of docs/failure-detection.md. */
import { type ChildProcess, fork } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../src/adapters/clock-system/system-random.ts";
import { NodeCrypto } from "../src/adapters/crypto-node/node-crypto.ts";
import { type HttpServer, startHttpServer } from "../src/adapters/http-server/http-server.ts";
import { LinkServer } from "../src/adapters/link-websocket/link-server.ts";
import { WebSocketDialer } from "../src/adapters/link-websocket/websocket-dialer.ts";
import { keptTlsIdentity } from "../src/adapters/tls-identity/tls-identity.ts";
import { AgentMembership, type MembershipStatus } from "../src/agent/membership/agent-membership.ts";
import { NodeRegistry } from "../src/coordinator/registry/node-registry.ts";
import { type NodeId, nodeId } from "../src/domain/ids.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { MemoryStore } from "../src/sim/store/memory-store.ts";
import { LINK_PATH } from "../src/wire/agent-link.ts";
import { CAPABILITIES, RecordedWork } from "./support/membership-grid.ts";

const GRID_ID = "grid-of-processes";
const WAIT = { timeout: 30_000, interval: 20 };

let folder: string;
let clock: SystemClock;
let registry: NodeRegistry;
let server: HttpServer;
let joining: { url: string; certificateSha256: string; token: string; gridId: string };
let delays: ReturnType<typeof monitorEventLoopDelay>;
const children: ChildProcess[] = [];
/** When the registry told what, and how long the node had been silent then. */
let told: { what: string; nodeId: NodeId; atMs: number; silentMs: number }[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "fallow-processes-"));
  clock = new SystemClock();
  const store = new MemoryStore({ writeLatencyMs: 0 }, { clock });
  const ports = { store, clock, crypto: new NodeCrypto(), random: new SystemRandom(), log: simLog(() => undefined) };
  registry = new NodeRegistry({ gridId: GRID_ID, boot: 1 }, ports);
  told = [];
  const note = (what: string) => (id: NodeId) => {
    const lastMs = registry.node(id)?.lastMessageMonoMs ?? 0;
    told.push({ what, nodeId: id, atMs: clock.monoMs(), silentMs: clock.monoMs() - lastMs });
  };
  registry.subscribe({
    onOnline: note("online"),
    onSuspect: note("suspect"),
    onGone: (id, cause) => note(`gone: ${cause}`)(id),
    onWithdrawn: () => undefined,
    onWork: () => undefined,
    onReplicas: () => undefined,
  });
  await registry.start();
  const tls = await keptTlsIdentity(folder);
  const links = new LinkServer((link) => registry.accept(link));
  server = await startHttpServer({
    host: "0.0.0.0",
    port: 0,
    tls,
    handler: () => Promise.resolve(new Response(null, { status: 404 })),
    links: { path: LINK_PATH, upgrade: (upgrade) => links.upgrade(upgrade) },
  });
  const { token } = await registry.issueJoinToken({ usesMax: 10, ttlMs: 60_000 });
  joining = {
    url: `https://127.0.0.1:${server.port}`,
    certificateSha256: tls.certificateSha256,
    token,
    gridId: GRID_ID,
  };
  delays = monitorEventLoopDelay({ resolution: 10 });
  delays.enable();
});
afterEach(async () => {
  delays.disable();
  for (const child of children.splice(0)) {
    child.kill("SIGCONT");
    child.kill("SIGKILL");
  }
  registry.stop();
  await server.close(0);
  await rm(folder, { recursive: true, force: true });
});

/** How much later than its bound this process may have noticed, because the machine did not let it run. */
const heldUpMs = () => delays.max / 1e6;

async function startAgent(
  how: object = joining,
): Promise<{ child: ChildProcess; id: NodeId; said: { kind: string; [key: string]: unknown }[] }> {
  const script = fileURLToPath(new URL("../bench/lib/idle-agents-process.ts", import.meta.url));
  const child = fork(script, [JSON.stringify(how)]);
  children.push(child);
  const said: { kind: string; [key: string]: unknown }[] = [];
  child.on("message", (message: { kind: string }) => said.push(message));
  await vi.waitFor(() => expect(said.some(({ kind }) => kind !== "connecting")).toBe(true), WAIT);
  return { child, id: nodeId(String(said[0]?.["nodeId"])), said };
}

const stateOf = (id: NodeId) => registry.node(id)?.state ?? null;
const toldOf = (id: NodeId) => told.filter((event) => event.nodeId === id);

describe("an agent's process", () => {
  test("that is killed is gone at once, because the kernel closes its link", async () => {
    const { child, id } = await startAgent();
    await vi.waitFor(() => expect(stateOf(id)).toBe("online"), WAIT);
    delays.reset();
    const killedAtMs = clock.monoMs();
    child.kill("SIGKILL");
    await vi.waitFor(() => expect(stateOf(id)).toBe("offline"), WAIT);
    const gone = toldOf(id).at(-1);
    expect(gone?.what).toMatch(/^gone: link closed/);
    expect((gone?.atMs ?? 0) - killedAtMs).toBeLessThanOrEqual(1_000 + heldUpMs());
  });

  test("that is stopped is suspected within 3 s and out of every plan within 5 s, and comes back when it is continued", async () => {
    const { child, id, said } = await startAgent();
    await vi.waitFor(() => expect(stateOf(id)).toBe("online"), WAIT);
    delays.reset();
    child.kill("SIGSTOP");
    await vi.waitFor(() => expect(stateOf(id)).toBe("offline"), WAIT);
    const [, suspect, gone] = toldOf(id);
    expect(suspect?.what).toBe("suspect");
    expect(suspect?.silentMs).toBeGreaterThanOrEqual(2_500);
    expect(suspect?.silentMs).toBeLessThanOrEqual(3_000 + heldUpMs());
    expect(gone?.what).toMatch(/^gone: silent for/);
    expect(gone?.silentMs).toBeGreaterThanOrEqual(4_500);
    expect(gone?.silentMs).toBeLessThanOrEqual(5_000 + heldUpMs());
    child.kill("SIGCONT");
    await vi.waitFor(() => expect(stateOf(id)).toBe("online"), WAIT);
    expect(said.map(({ kind }) => kind)).toContain("waiting");
  });

  test("that is stopped for a moment keeps its link", async () => {
    const { child, id } = await startAgent();
    await vi.waitFor(() => expect(stateOf(id)).toBe("online"), WAIT);
    child.kill("SIGSTOP");
    await vi.waitFor(() => expect(stateOf(id)).toBe("suspect"), WAIT);
    child.kill("SIGCONT");
    await vi.waitFor(() => expect(stateOf(id)).toBe("online"), WAIT);
    expect(toldOf(id).map(({ what }) => what)).toEqual(["online", "suspect", "online"]);
  });

  test("whose neighbour floods the coordinator with 10,000 chunks stays online, and the neighbour is cut with the reason", async () => {
    const { id } = await startAgent();
    await vi.waitFor(() => expect(stateOf(id)).toBe("online"), WAIT);
    const work = new RecordedWork();
    const statuses: MembershipStatus[] = [];
    const crypto = new NodeCrypto();
    const flooder = new AgentMembership(
      {
        name: "flooder",
        target: joining,
        gridId: GRID_ID,
        joinToken: joining.token,
        version: "0.0.0-test",
        onStatus: (status) => statuses.push(status),
      },
      {
        dialer: new WebSocketDialer(),
        clock,
        crypto,
        random: new SystemRandom(),
        log: simLog(() => undefined),
        keyPair: crypto.generateKeyPair(),
        capabilities: () => CAPABILITIES,
        work,
      },
    );
    flooder.start();
    await vi.waitFor(() => expect(work.line).not.toBeNull(), WAIT);
    for (let seq = 0; seq < 10_000; seq++) {
      const chunk = { leaseId: "lease_01KA0000000000000000000000", epoch: 1, seq, tokenIds: [1], details: null };
      work.line?.send({ type: "attempt.chunks", chunks: [chunk] });
    }
    await vi.waitFor(() => expect(statuses.some(({ kind }) => kind === "waiting")).toBe(true), WAIT);
    expect(statuses.find(({ kind }) => kind === "waiting")).toMatchObject({ cause: expect.stringMatching(/flood/) });
    expect(toldOf(flooder.nodeId).at(-1)?.what).toMatch(/^gone: flood/);
    expect(toldOf(id).map(({ what }) => what)).toEqual(["online"]);
    await flooder.stop({ drainMs: 0 });
  });

  test("with another certificate in its code sends nothing and says why", async () => {
    const { said } = await startAgent({ ...joining, certificateSha256: "ab".repeat(32) });
    expect(said.find(({ kind }) => kind === "waiting")).toMatchObject({
      cause: expect.stringMatching(/shows the certificate/),
    });
    expect(registry.nodes()).toEqual([]);
    expect(registry.stats()).toMatchObject({ linksOpen: 0, refused: {} });
  });
});
