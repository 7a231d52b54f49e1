/** Nodes of the grid that want more of its weights than is theirs, or its coordinator's memory and places. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { startHttpServer } from "../src/adapters/http-server/http-server.ts";
import { DiskModelFiles } from "../src/adapters/model-files-disk/disk-model-files.ts";
import { DOWNLOADS_PER_NODE_MAX } from "../src/coordinator/weights/source-guard.ts";
import { UNREAD_MS_MAX, WeightsEndpoint } from "../src/coordinator/weights/weights-endpoint.ts";
import { nodeId } from "../src/domain/ids.ts";
import { LINK_PATH, WEIGHTS_PATH } from "../src/wire/agent-link.ts";
import { CHUNKS, WeightsGrid } from "./support/weights-grid.ts";

async function started(): Promise<WeightsGrid> {
  const weights = new WeightsGrid();
  await weights.grid.start();
  return weights;
}

describe("a node", () => {
  test("that calls ever new nodes unreachable is not remembered with them", async () => {
    const weights = await started();
    const [holder, liar] = await weights.nodes(2);
    if (holder === undefined || liar === undefined) throw new Error("two are online");
    await weights.have(holder, [[0, 1]]);
    await weights.want(liar);
    let named = 0;
    for (let round = 0; round < 20; round++) {
      const unreachable = Array.from({ length: 31 }, () => nodeId(`node_${(named++).toString(16).padStart(32, "0")}`));
      await weights.claim(liar, { unreachable: [...unreachable, holder.nodeId] });
    }
    const remembered = weights.tracker.swarms()[0]?.wants.get(liar.nodeId)?.unreachable;
    expect([...(remembered?.keys() ?? [])]).toEqual([holder.nodeId]);
    await weights.grid.settled(weights.grid.registry.remove(holder.nodeId));
    expect(remembered?.size).toBe(0);
  });

  test("that has nothing to do with a private model learns nothing of it by offering it", async () => {
    const weights = await started();
    const [member] = await weights.nodes(1);
    const [foreign] = await weights.nodes(1, { isOrdered: false });
    if (member === undefined || foreign === undefined) throw new Error("both are online");
    await weights.have(member, [[0, 2]]);
    await weights.have(foreign, [[0, CHUNKS]]);
    await weights.want(member);
    await weights.want(foreign);
    expect(await weights.claim(foreign)).toEqual([]);
    expect(weights.holders(foreign).size).toBe(0);
    // It may send what it says it has; the grant is to read there, and is the member's alone.
    const grant = weights.grant(weights.holders(member).get(foreign.nodeId)?.grant);
    expect(grant.holderKeyHex).toBe(weights.holders(member).get(foreign.nodeId)?.publicKey);
    expect(grant.fetcherKeyHex).not.toBe(grant.holderKeyHex);
    expect(weights.tracker.stats().grants).toBe(1);
  });

  test("that asks for weights that are not its own costs few readings, and learns nothing of what there is", async () => {
    const weights = await started();
    let reads = 0;
    const endpoint = new WeightsEndpoint({
      sessions: weights.grid.registry,
      contents: {
        content: (sha256) => {
          reads += 1;
          return Promise.resolve(sha256 === weights.sha256 ? weights.content : null);
        },
      },
      tracker: weights.tracker,
      modelFiles: new DiskModelFiles({ folder: join(tmpdir(), "fallow-none"), bundled: [] }),
      clock: weights.grid.clock,
      log: weights.grid.log,
    });
    const [foreign] = await weights.nodes(1, { isOrdered: false });
    const authorization = `Bearer ${foreign?.peers.line?.welcome.sessionToken}`;
    const ask = async (sha256: string, what: string) => {
      const url = `http://127.0.0.1${WEIGHTS_PATH}${sha256}/${what}`;
      const response = await endpoint.handle(new Request(url, { headers: { authorization } }));
      return [response?.status, await response?.text()];
    };
    expect(await ask(weights.sha256, "manifest")).toEqual(await ask("ab".repeat(32), "manifest"));
    expect((await ask(weights.sha256, "files/0"))[0]).toBe(403);
    for (let round = 0; round < 300; round++) await ask(weights.sha256, "digests");
    expect((await ask(weights.sha256, "digests"))[0]).toBe(429);
    expect(reads).toBeLessThan(100);
  });

  test("that begins downloads and reads none of them gives their places back", async () => {
    const weights = await started();
    const folder = await mkdtemp(join(tmpdir(), "fallow-unread-"));
    const path = join(folder, "model.gguf");
    // Sockets' own buffers take some megabytes: the file is longer, whatever the manifest says.
    const fileBytes = 64 * 1024 * 1024;
    await writeFile(path, Buffer.alloc(fileBytes));
    const [file] = weights.content.manifest.files;
    if (file === undefined) throw new Error("the model has a file");
    const manifest = { ...weights.content.manifest, files: [{ ...file, fileBytes }] };
    const endpoint = new WeightsEndpoint({
      sessions: weights.grid.registry,
      contents: { content: () => Promise.resolve({ ...weights.content, manifest, filePaths: [path] }) },
      tracker: weights.tracker,
      modelFiles: new DiskModelFiles({ folder: join(folder, "models"), bundled: [] }),
      clock: weights.grid.clock,
      log: weights.grid.log,
    });
    const server = await startHttpServer({
      host: "127.0.0.1",
      port: 0,
      tls: null,
      handler: async (request) => (await endpoint.handle(request)) ?? new Response(null, { status: 404 }),
      links: { path: LINK_PATH, upgrade: ({ socket }) => socket.destroy() },
    });
    onTestFinished(async () => {
      await server.close(0);
      await rm(folder, { recursive: true, force: true });
    });
    const [alone] = await weights.nodes(1, { isPeer: false });
    const bearer = alone?.peers.line?.welcome.sessionToken ?? "";
    const head = `GET ${WEIGHTS_PATH}${weights.sha256}/files/0 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${bearer}\r\n\r\n`;
    const sockets = Array.from({ length: DOWNLOADS_PER_NODE_MAX }, () => {
      const socket = connect(server.port, "127.0.0.1", () => socket.write(head));
      socket.on("error", () => undefined);
      socket.pause();
      return socket;
    });
    const sent = () => weights.tracker.swarms()[0]?.sourceBytes ?? 0;
    let before = -1;
    await expect
      .poll(
        () => {
          const isStill = sent() > 0 && sent() === before;
          before = sent();
          return isStill && endpoint.stats().running === DOWNLOADS_PER_NODE_MAX;
        },
        { interval: 300, timeout: 20_000 },
      )
      .toBe(true);
    await weights.grid.run(UNREAD_MS_MAX / 2);
    expect(endpoint.stats().running).toBe(DOWNLOADS_PER_NODE_MAX);
    await weights.grid.run(UNREAD_MS_MAX / 2 + 1_000);
    await expect.poll(() => endpoint.stats().running).toBe(0);
    for (const socket of sockets) socket.destroy();
  });
});
