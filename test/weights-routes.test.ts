/** What an operator is told of the weights and of the ways between nodes: the real gateway, and a registry with real memberships. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { weightsTable } from "../src/cli/commands/tables.ts";
import { addDistributionRoutes, WEIGHTS_STREAMS_MAX } from "../src/coordinator/admin/weights-routes.ts";
import { weightsRows } from "../src/coordinator/admin/weights-rows.ts";
import { linkListSchema, weightsListSchema } from "../src/coordinator/admin/weights-schema.ts";
import { LinkBook } from "../src/coordinator/network/link-book.ts";
import { Swarm } from "../src/coordinator/weights/swarm.ts";
import { assert } from "../src/domain/assert.ts";
import { type Sha256Hex, sha256Hex } from "../src/domain/ids.ts";
import { KEY_SCOPES } from "../src/ports/store.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { KIB_64 } from "./support/chunked-model.ts";
import { GatewayFixture } from "./support/gateway-fixture.ts";
import type { AgentUnderTest } from "./support/membership-grid.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";
import { CHUNKS, WeightsGrid } from "./support/weights-grid.ts";

const ADMIN = "fal_the-operators-own-key";
const TENANT = "fal_a-tenants-own-key-of-no-rank";
let tokenizer: Tokenizer;
let closeTokenizer: () => Promise<void>;
let gateway: GatewayFixture;
let weights: WeightsGrid;
let nodes: readonly AgentUnderTest[];
let registered: { readonly weightsSha256: Sha256Hex; readonly fileBytes: number }[];

beforeAll(async () => {
  ({ tokenizer, close: closeTokenizer } = await openTiny());
});
afterAll(async () => {
  await closeTokenizer();
});
beforeEach(async () => {
  gateway = await GatewayFixture.open(tokenizer);
  await gateway.addKey(2, ADMIN, { scopes: [...KEY_SCOPES] });
  await gateway.addKey(3, TENANT, { scopes: ["inference"] });
  weights = new WeightsGrid();
  registered = [];
  const { clock, registry: roster } = weights.grid;
  const links = new LinkBook({ roster, clock });
  const { app, gate } = gateway.gateway;
  const modelOf = () => "tiny";
  const swarms = () => weights.tracker.swarms();
  addDistributionRoutes(app, {
    gate,
    clock,
    roster,
    links,
    weights: () => weightsRows({ roster, swarms, modelOf, registered: () => registered }),
  });
  await weights.grid.start();
  nodes = await weights.nodes(3);
});
afterEach(async () => {
  await gateway.close();
});

const get = async (path: string, headers: Record<string, string> = {}) =>
  gateway.gateway.app.request(path, { headers: { authorization: `Bearer ${ADMIN}`, ...headers } });

function node(index: number): AgentUnderTest {
  const found = nodes[index];
  assert(found !== undefined, `there is a node ${index}`);
  return found;
}

describe("an operator sees", () => {
  test("who has how much of each model, who fetches it, and who has it staged", async () => {
    await weights.have(node(0), [[0, CHUNKS]], { uploads: 1 });
    await weights.have(node(1), [[0, 6]]);
    await weights.want(node(1), [[0, 12]]);
    await weights.want(node(2), [[0, CHUNKS]], true);
    const { weights: rows } = weightsListSchema.parse(await (await get("/grid/v1/weights")).json());
    expect(rows).toMatchObject([{ modelId: "tiny", chunkCount: CHUNKS, nodeCount: 3, isPublic: false }]);
    const byId = new Map(rows[0]?.nodes.map((row) => [row.nodeId, row]));
    expect(byId.get(node(0).nodeId)).toMatchObject({ share: 1, state: "serving", progress: null, uploads: 1 });
    expect(byId.get(node(1).nodeId)).toMatchObject({ share: 0.25, state: "fetching", progress: 0.5 });
    expect(byId.get(node(2).nodeId)).toMatchObject({ share: 0, state: "staging", progress: 0 });
  });

  test("models of which no node has told anything, beside those of which one has", async () => {
    const untold = sha256Hex("f".repeat(64));
    registered = [
      { weightsSha256: weights.sha256, fileBytes: 1 },
      { weightsSha256: untold, fileBytes: 7_000 },
    ];
    await weights.have(node(1), [[0, 3]]);
    const { weights: rows } = weightsListSchema.parse(await (await get("/grid/v1/weights")).json());
    expect(rows.map(({ weightsSha256, nodeCount }) => [weightsSha256, nodeCount])).toEqual(
      [weights.sha256, untold].sort().map((digest) => [digest, digest === untold ? 0 : 1]),
    );
    expect(rows.find(({ weightsSha256 }) => weightsSha256 === untold)).toMatchObject({ totalBytes: 7_000, nodes: [] });
  });

  test("which layers a node has of a model, where it has whole ones", async () => {
    const layers = [0, 1, 2, 3].map((layer) => ({
      kind: "layer" as const,
      layer,
      ranges: [{ file: 0, offset: layer * 6 * KIB_64, bytes: 5 * KIB_64 }],
    }));
    const swarm = new Swarm(weights.sha256, { ...weights.model.manifest, layerCount: 4, parts: layers }, false);
    const told = { uploads: 0, uploadsMax: 4, network: null, isNameable: true, nowMs: 0 };
    swarm.tell(node(0).nodeId, { ...told, runs: [[5, 14]] });
    swarm.tell(node(1).nodeId, { ...told, runs: [[0, 4]] });
    const { registry: roster } = weights.grid;
    const rows = weightsRows({ roster, swarms: () => [swarm], modelOf: () => "tiny", registered: () => [] });
    expect(new Map(rows[0]?.nodes.map(({ nodeId, layers: whole }) => [nodeId, whole]))).toEqual(
      new Map([
        [node(0).nodeId, [[1, 2]]],
        [node(1).nodeId, []],
      ]),
    );
    expect(weightsTable(rows)).toContain("layers 1-2, 58 %");
  });

  test("progress as it comes, and a reader that leaves makes room for another", async () => {
    await weights.have(node(0), [[0, 3]]);
    const response = await get("/grid/v1/weights", { accept: "text/event-stream" });
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    const reader = response.body?.getReader();
    const next = async () => JSON.parse(new TextDecoder().decode((await reader?.read())?.value).replace("data: ", ""));
    expect((await next()).weights[0].nodes[0].share).toBe(3 / CHUNKS);
    const coming = next();
    await weights.have(node(0), [[0, 9]]);
    expect((await weights.grid.settled(coming)).weights[0].nodes[0].share).toBe(9 / CHUNKS);
    await reader?.cancel();
    const streams: Response[] = [];
    for (let index = 0; index < WEIGHTS_STREAMS_MAX; index++) {
      streams.push(await get("/grid/v1/weights", { accept: "application/x-ndjson" }));
    }
    expect(streams.map(({ status }) => status)).toEqual(streams.map(() => 200));
    expect((await get("/grid/v1/weights", { accept: "text/event-stream" })).status).toBe(503);
    for (const { body } of streams) await body?.cancel();
    const again = await get("/grid/v1/weights", { accept: "text/event-stream" });
    expect(again.status).toBe(200);
    await again.body?.cancel();
  });

  test("the ways that were measured, and of one node the ways to all others", async () => {
    node(0).peers.line?.send({
      type: "peer.links",
      links: [{ nodeId: node(1).nodeId, carrier: "udp", rttMs: 31, lossShare: 0.02, bytesPerSecond: 5e6 }],
    });
    await weights.grid.run(200);
    const { links } = linkListSchema.parse(await (await get("/grid/v1/links")).json());
    expect(links).toHaveLength(2);
    const arrived = links.find(({ from }) => from === node(1).nodeId);
    expect(arrived).toMatchObject({
      to: node(0).nodeId,
      rttMs: 31,
      bytesPerSecond: 5e6,
      carrier: "udp",
      basis: "measured",
    });
    const own = linkListSchema.parse(await (await get(`/grid/v1/links?node=${node(2).nodeId}`)).json()).links;
    expect(own.map(({ to }) => to).toSorted()).toEqual([node(0).nodeId, node(1).nodeId].toSorted());
    expect(own.every(({ basis }) => basis !== "measured")).toBe(true);
    expect((await get("/grid/v1/links?node=nobody")).status).toBe(404);
  });

  test("what nobody else sees", async () => {
    for (const path of ["/grid/v1/weights", "/grid/v1/links"]) {
      expect((await get(path, { authorization: `Bearer ${TENANT}` })).status).toBe(403);
      expect((await gateway.gateway.app.request(path)).status).toBe(401);
    }
  });
});
