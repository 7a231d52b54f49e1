/** A download of weights lasts no longer than the session that it was begun in. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DiskModelFiles } from "../src/adapters/model-files-disk/disk-model-files.ts";
import { DOWNLOADS_PER_NODE_MAX, WeightsEndpoint } from "../src/coordinator/registry/weights-endpoint.ts";
import { type NodeId, nodeId, sha256Hex } from "../src/domain/ids.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { WEIGHTS_PATH } from "../src/wire/agent-link.ts";
import { aManifest } from "./support/store-samples.ts";

const NODE = nodeId(`node_${"ab".repeat(16)}`);
const BEARER = "b".repeat(64);
const SHA256 = sha256Hex("66".repeat(32));
const FILE_BYTES = 8 * 1024 * 1024;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "fallow-weights-session-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test("a download ends when its session has ended, and gives its place back", async () => {
  const weightsPath = join(folder, "model.gguf");
  await writeFile(weightsPath, Buffer.alloc(FILE_BYTES));
  const manifest = { ...aManifest("tiny"), weightsSha256: SHA256, fileBytes: FILE_BYTES };
  let session: NodeId | null = NODE;
  const endpoint = new WeightsEndpoint({
    sessions: { nodeOfBearer: (bearer) => (bearer === BEARER ? session : null) },
    models: { byWeights: () => ({ manifest, weightsPath }) },
    modelFiles: new DiskModelFiles({ folder: join(folder, "models"), bundled: [] }),
    log: simLog(() => undefined),
  });
  const ask = () =>
    endpoint.handle(
      new Request(`http://grid${WEIGHTS_PATH}${SHA256}`, { headers: { authorization: `Bearer ${BEARER}` } }),
    );
  const begun = await Promise.all(Array.from({ length: DOWNLOADS_PER_NODE_MAX }, ask));
  const readers = begun.map((response) => response?.body?.getReader());
  for (const reader of readers) expect((await reader?.read())?.done).toBe(false);
  session = null;
  for (const reader of readers) await expect(reader?.read()).rejects.toMatchObject({ code: "session-over" });
  session = NODE;
  const next = await Promise.all(Array.from({ length: DOWNLOADS_PER_NODE_MAX }, ask));
  expect(next.map((response) => response?.status)).toEqual(next.map(() => 200));
  for (const response of next) await response?.body?.cancel();
});
