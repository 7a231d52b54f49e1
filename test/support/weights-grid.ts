/** A registry with real agents' memberships, and the coordinator's half of the distribution of one model over it. */

import type { PeerOrder } from "../../src/agent/session.ts";
import { LinkBook } from "../../src/coordinator/network/link-book.ts";
import { WeightsTracker } from "../../src/coordinator/weights/tracker.ts";
import type { WeightsContent } from "../../src/coordinator/weights/weights-content.ts";
import { assert } from "../../src/domain/assert.ts";
import { type ChunkRun, ChunkSet } from "../../src/domain/chunk-set.ts";
import { fromHex } from "../../src/domain/hex.ts";
import type { NodeId, Sha256Hex } from "../../src/domain/ids.ts";
import type { WeightsOrigin } from "../../src/domain/weights.ts";
import { fetchGrantSchema, grantSigningText, type SignedGrant } from "../../src/wire/fetch-grant.ts";
import { chunkedModel, KIB_64 } from "./chunked-model.ts";
import { type AgentUnderTest, GRID_ID, MembershipGrid } from "./membership-grid.ts";

export const CHUNKS = 24;
type Told<T extends PeerOrder["type"]> = Extract<PeerOrder, { type: T }>;

export class WeightsGrid {
  readonly grid: MembershipGrid;
  readonly model = chunkedModel([CHUNKS * KIB_64 - 1_000]);
  readonly gridKey;
  tracker: WeightsTracker;
  readonly content: WeightsContent;
  isServed = true;
  reads = 0;

  constructor(source: WeightsOrigin = { kind: "local" }) {
    this.grid = new MembershipGrid();
    this.gridKey = this.grid.crypto.generateKeyPair();
    const { manifest, signedManifest, digests } = this.model;
    this.content = { manifest: { ...manifest, source }, signedManifest, digests, filePaths: ["/model.gguf"] };
    this.tracker = this.#makeTracker();
  }

  /** The coordinator is killed and starts again; the nodes come back by themselves. */
  async restart(): Promise<void> {
    this.tracker.stop();
    await this.grid.restart({ downMs: 1_000 });
    this.tracker = this.#makeTracker();
    await this.grid.run(20_000);
  }

  get sha256(): Sha256Hex {
    return this.model.weightsSha256;
  }

  /** Online, reachable for others, and told to load the model unless `isOrdered` is false. */
  async nodes(
    count: number,
    options: { isOrdered?: boolean; isPeer?: boolean } = {},
  ): Promise<readonly AgentUnderTest[]> {
    const agents = await this.grid.onlineAgents(count);
    for (const [index, agent] of agents.entries()) {
      if (options.isPeer !== false) {
        const tcp = [{ host: "10.0.0.1", port: 4_000 + index }];
        this.say(agent, { type: "peer.endpoints", endpoints: { tcp, hasUdp: false } });
      }
      if (options.isOrdered !== false) this.order(agent.nodeId);
    }
    await this.grid.run(100);
    return agents;
  }

  order(nodeId: NodeId): void {
    const { sha256: weightsSha256, content } = this;
    const fileBytes = content.manifest.files[0]?.fileBytes ?? 0;
    assert(this.grid.registry.send(nodeId, { type: "weights.stage", weightsSha256, fileBytes }), "the node is online");
  }

  say(agent: AgentUnderTest, message: Parameters<NonNullable<AgentUnderTest["peers"]["line"]>["send"]>[0]): void {
    assert(agent.peers.line !== null, "the agent is online");
    agent.peers.line.send(message);
  }

  async have(agent: AgentUnderTest, runs: readonly ChunkRun[], more: { uploads?: number; uploadsMax?: number } = {}) {
    const { uploads = 0, uploadsMax = 4 } = more;
    const own = runs.map(([from, count]): [number, number] => [from, count]);
    this.say(agent, { type: "weights.have", weightsSha256: this.sha256, runs: own, uploads, uploadsMax });
    await this.grid.run(50);
  }

  async want(agent: AgentUnderTest, need: readonly ChunkRun[] = [[0, CHUNKS]], isIdle = false) {
    const own = need.map(([from, count]): [number, number] => [from, count]);
    this.say(agent, { type: "weights.want", weightsSha256: this.sha256, need: own, isIdle });
    await this.grid.run(50);
  }

  /** Chunks that the node was given. */
  async claim(
    agent: AgentUnderTest,
    more: { need?: readonly ChunkRun[]; chunksMax?: number; unreachable?: NodeId[] } = {},
  ): Promise<readonly number[]> {
    const need = (more.need ?? [[0, CHUNKS]]).map(([from, count]): [number, number] => [from, count]);
    const { chunksMax = CHUNKS, unreachable = [] } = more;
    this.say(agent, { type: "weights.claim", weightsSha256: this.sha256, need, chunksMax, unreachable });
    await this.grid.run(50);
    const told = this.told(agent, "weights.claimed").at(-1);
    assert(told !== undefined, "a claim is answered");
    return [...ChunkSet.of(CHUNKS, told.runs)];
  }

  told<T extends "weights.holders" | "weights.claimed">(agent: AgentUnderTest, type: T): readonly Told<T>[] {
    return agent.peers.orders.filter((order): order is Told<T> => order.type === type);
  }

  /** The last list, by node. */
  holders(agent: AgentUnderTest): ReadonlyMap<string, Told<"weights.holders">["holders"][number]> {
    return new Map((this.told(agent, "weights.holders").at(-1)?.holders ?? []).map((one) => [one.nodeId, one]));
  }

  /** Its fields, when the grid signed it. */
  grant(signed: SignedGrant | null | undefined) {
    assert(signed !== null && signed !== undefined, "there is a grant");
    const message = new TextEncoder().encode(grantSigningText(signed.grantJson));
    const signature = fromHex(signed.signature) ?? new Uint8Array(0);
    const isSigned = this.grid.crypto.verify({ publicKey: this.gridKey.publicKey, message, signature });
    assert(isSigned, "the grid signed it");
    return fetchGrantSchema.parse(JSON.parse(signed.grantJson));
  }

  #makeTracker(): WeightsTracker {
    const { clock, log, random, registry, store } = this.grid;
    const links = new LinkBook({ clock, roster: registry });
    return new WeightsTracker({
      link: (from, to) => links.estimate(from, to),
      gridId: GRID_ID,
      gridKey: this.gridKey,
      clock,
      log,
      random: random.fork("grants"),
      roster: registry,
      meta: store.meta,
      contents: {
        content: (weightsSha256) => {
          this.reads += 1;
          return Promise.resolve(weightsSha256 === this.sha256 ? this.content : null);
        },
      },
      models: { byWeights: (weightsSha256) => (this.isServed && weightsSha256 === this.sha256 ? this.content : null) },
    });
  }
}
