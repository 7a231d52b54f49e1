/**
 * Hot spares: which stage of which chain is loaded a second time on a node that has nothing better to do, so that its loss costs a change of epoch
 * and no load. The stage whose node is likeliest to go first comes first; among equals the one with the most weights, which would take longest to
 * fetch. A spare takes only room that no replica of the plan wants, and gives it back as soon as one does.
 *
 * A node holds at most one stage or spare of a chain: else its loss would take both.
 */
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import type { LoserReason } from "../placement/snapshot.ts";
import type { SpareStage } from "./chain-repair.ts";
import { bytesToFetch, roomObstacle } from "./stage-room.ts";

/** Spares of one chain at most, whatever is asked for: more lie idle than work. */
export const SPARES_PER_CHAIN_MAX = 4;
/** Nodes whose chances to stay differ by less are equally likely to: forecasts are no better than that. */
const STAY_STEPS = 20;

export interface SparedStage {
  readonly nodeId: NodeId;
  readonly first: number;
  readonly count: number;
  /** Of weights, KV cache and computing. */
  readonly memoryBytes: number;
  /** Of its layers' weights. */
  readonly weightsBytes: number;
  /** Chance that its node stays; 0 to 1. */
  readonly stayChance: number;
}

export interface SparedChain {
  readonly chainId: string;
  readonly modelId: ModelId;
  /** In order. */
  readonly stages: readonly SparedStage[];
  /** Loaded or loading. */
  readonly spares: readonly SpareStage[];
}

export interface SpareCandidate {
  readonly nodeId: NodeId;
  /** Why it takes no stage of any model; null when it does. */
  readonly obstacle: LoserReason | null;
  /** Its roomiest device (of one that holds a spare: the spare's), and what is left there once all is loaded that the newest plan orders; negative: too little. */
  readonly deviceId: string;
  readonly freeBytes: number;
  readonly stayChance: number;
  /** Bytes of a stage's weights on its disk, by `spareKey`; absent: 0. */
  readonly storedBytes: ReadonlyMap<string, number>;
  /** Words were against it of late: others come first. */
  readonly isDoubted?: boolean;
  /** Models of which it holds any replica, stage or spare. */
  readonly modelIds: ReadonlySet<ModelId>;
}

export interface SparesQuestion {
  readonly chains: readonly SparedChain[];
  readonly candidates: readonly SpareCandidate[];
  /** Wanted for each chain; at most `SPARES_PER_CHAIN_MAX`. */
  readonly sparesPerChain: number;
  /** Some model has to have a replica and has not: all room is for that. */
  readonly isShort: boolean;
}

export interface SpareOrder {
  readonly chainId: string;
  readonly modelId: ModelId;
  readonly nodeId: NodeId;
  readonly deviceId: string;
  readonly first: number;
  readonly count: number;
  readonly memoryBytes: number;
  readonly fetchBytes: number;
}

export interface SpareChoice {
  readonly load: readonly SpareOrder[];
  /** Spares that stand for no stage any more, are too many, or have to make room. Sorted. */
  readonly unload: readonly ReplicaId[];
}

/** Names a stage of a chain, of those that `storedBytes` tells about. */
export function spareKey(
  chainId: string,
  { first, count }: { readonly first: number; readonly count: number },
): string {
  return `${chainId} ${first}+${count}`;
}

/** Pure; the order of chains and candidates changes nothing. Call it when a chain serves, a spare goes, and with each plan. */
export function chooseSpares(question: SparesQuestion): SpareChoice {
  const { isShort } = question;
  const wanted = isShort ? 0 : Math.min(SPARES_PER_CHAIN_MAX, Math.max(0, Math.floor(question.sparesPerChain)));
  const chains = [...question.chains].sort((a, b) => (a.chainId < b.chainId ? -1 : 1));
  const free = new Map(question.candidates.map(({ nodeId, freeBytes }) => [nodeId, freeBytes]));
  const held = new Map(question.candidates.map(({ nodeId, modelIds }) => [nodeId, new Set(modelIds)]));
  const kept = new Map(chains.map((chain) => [chain, spareRows(chain, question, wanted)]));
  const unload = chains.flatMap((chain) => {
    const stay = new Set(kept.get(chain));
    return chain.spares.filter((spare) => !stay.has(spare)).map(({ replicaId }) => replicaId);
  });
  const load: SpareOrder[] = [];
  // One for each chain in turn, so that no chain takes everything before the next has one.
  for (let round = 0; round < wanted; round++) {
    for (const chain of chains) {
      const spares = [
        ...(kept.get(chain) ?? []),
        ...load.filter(({ chainId }) => chainId === chain.chainId).map((order) => ({ ...order })),
      ];
      if (spares.length > round) continue;
      const order = nextSpare(chain, spares, { question, free, held });
      if (order === null) continue;
      load.push(order);
      free.set(order.nodeId, (free.get(order.nodeId) ?? 0) - order.memoryBytes);
      held.get(order.nodeId)?.add(chain.modelId);
    }
  }
  return { load, unload: unload.sort() };
}

/** Those that stay: of a stage that is there, on a node whose room nobody else wants, the riskiest stages' first, and no stage's twice before each has one. */
function spareRows(chain: SparedChain, question: SparesQuestion, wanted: number): readonly SpareStage[] {
  const rooms = new Map(question.candidates.map((one) => [one.nodeId, one]));
  const risk = new Map(byRisk(chain.stages).map((stage, at) => [`${stage.first}+${stage.count}`, at]));
  const rank = ({ first, count }: SpareStage) => risk.get(`${first}+${count}`);
  // A node that comes back may bring a second spare of one stage while another has none.
  const perStageMax = Math.ceil(wanted / Math.max(1, chain.stages.length));
  return chain.spares
    .filter((spare) => rank(spare) !== undefined && (rooms.get(spare.nodeId)?.freeBytes ?? 0) >= 0)
    .sort((a, b) => (rank(a) ?? 0) - (rank(b) ?? 0) || (a.replicaId < b.replicaId ? -1 : 1))
    .filter((spare, at, all) => all.slice(0, at).filter((one) => rank(one) === rank(spare)).length < perStageMax)
    .slice(0, wanted);
}

function nextSpare(
  chain: SparedChain,
  spares: readonly { readonly nodeId: NodeId; readonly first: number; readonly count: number }[],
  given: {
    readonly question: SparesQuestion;
    readonly free: ReadonlyMap<NodeId, number>;
    readonly held: ReadonlyMap<NodeId, ReadonlySet<ModelId>>;
  },
): SpareOrder | null {
  const count = (stage: SparedStage) =>
    spares.filter((spare) => spare.first === stage.first && spare.count === stage.count).length;
  const stages = byRisk(chain.stages).sort((a, b) => count(a) - count(b));
  const own = new Set([...chain.stages, ...spares].map(({ nodeId }) => nodeId));
  for (const stage of stages) {
    const fetch = (one: SpareCandidate) =>
      bytesToFetch(one.storedBytes.get(spareKey(chain.chainId, stage)) ?? 0, stage.weightsBytes);
    const room = (one: SpareCandidate) => given.free.get(one.nodeId) ?? 0;
    const [best] = given.question.candidates
      .filter(
        (one) =>
          !own.has(one.nodeId) &&
          given.held.get(one.nodeId)?.has(chain.modelId) !== true &&
          roomObstacle({ obstacle: one.obstacle, freeBytes: room(one) }, stage.memoryBytes) === null,
      )
      .sort(
        (a, b) =>
          Number(a.isDoubted ?? false) - Number(b.isDoubted ?? false) ||
          stayStep(b.stayChance) - stayStep(a.stayChance) ||
          fetch(a) - fetch(b) ||
          room(b) - room(a) ||
          (a.nodeId < b.nodeId ? -1 : 1),
      );
    if (best === undefined) continue;
    const { chainId, modelId } = chain;
    const { nodeId, deviceId } = best;
    const { first, memoryBytes } = stage;
    return { chainId, modelId, nodeId, deviceId, first, count: stage.count, memoryBytes, fetchBytes: fetch(best) };
  }
  return null;
}

/** Likeliest to be lost first; then the one that takes longest to fetch, then by place. */
function byRisk(stages: readonly SparedStage[]): SparedStage[] {
  return [...stages].sort(
    (a, b) => stayStep(a.stayChance) - stayStep(b.stayChance) || b.weightsBytes - a.weightsBytes || a.first - b.first,
  );
}

function stayStep(stayChance: number): number {
  return Math.round(stayChance * STAY_STEPS);
}
