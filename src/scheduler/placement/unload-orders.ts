/**
 * What goes: replicas of models that were removed, as soon as they are idle; above a model's warm number the one that was unused
 * longest, after the idle time; and what has to make room. Of a chain its last stage is named: all of it goes. Spares go with the model.
 */
import type { ModelId } from "../../domain/ids.ts";
import { isReplica, modelNameOf, stateOf, UNKNOWN } from "./grid-columns.ts";
import type { ModelState, PlacementState, ReplicaState } from "./placement-state.ts";
import type { PlanQuestion, UnloadOrder } from "./plan-question.ts";
import { sizeReplica } from "./slots.ts";
import { leastBytes, spotOn, type Want } from "./spots.ts";

/** A replica that was used within so long is in use: requests come seconds apart. */
const ROOM_IDLE_MS = 10_000;
/** A model that lost its place to another is not put off again in the same plan; more in one plan would thrash. */
const ROOM_UNLOADS_MAX = 16;

export interface Leaving {
  readonly order: UnloadOrder;
  readonly row: number;
}

export function idleReplicas(question: PlanQuestion): readonly Leaving[] {
  const { grid, models, waiting, nowMs, idleUnloadMs } = question;
  const { replicas } = grid;
  const warm = new Map(models.map((model) => [model.modelId, model.warmReplicas]));
  const kept = new Map<ModelId, number>();
  const rows = [...replicas.ids.keys()];
  for (const row of rows) {
    const modelId = modelNameOf(grid, row);
    if (modelId !== undefined && isServing(question, row) && stateOf(replicas, row) === "ready") {
      kept.set(modelId, (kept.get(modelId) ?? 0) + 1);
    }
  }
  // Rows are in the order of replica ids, and the sort keeps it among equals.
  rows.sort((a, b) => (replicas.lastUsedAtMs[a] ?? 0) - (replicas.lastUsedAtMs[b] ?? 0));
  const leaving: Leaving[] = [];
  for (const row of rows) {
    const state = stateOf(replicas, row);
    const modelId = modelNameOf(grid, row);
    if (state === "failed" || state === "gone" || (replicas.slotsLeased[row] ?? 0) > 0 || modelId === undefined)
      continue;
    const isSpare = replicas.stageCount[row] !== 0 && replicas.chain[row] === UNKNOWN;
    if (!isSpare && !isReplica(replicas, row)) continue;
    const warmWanted = warm.get(modelId);
    if (warmWanted === undefined) {
      leaving.push(...unload(question, row, "model-removed"));
      continue;
    }
    const isIdle = state === "ready" && nowMs - (replicas.lastUsedAtMs[row] ?? 0) >= idleUnloadMs;
    const readyCount = kept.get(modelId) ?? 0;
    if (isSpare || !isIdle || waiting.has(modelId) || !isServing(question, row) || readyCount <= warmWanted) continue;
    leaving.push(...unload(question, row, "idle"));
    kept.set(modelId, readyCount - 1);
  }
  return leaving;
}

/** It takes work, or will when it is loaded. */
export function isServing(question: PlanQuestion, row: number): boolean {
  const { replicas, nodes } = question.grid;
  const state = stateOf(replicas, row);
  const node = replicas.node[row] ?? UNKNOWN;
  const isHeld = state === "planned" || state === "loading" || state === "ready";
  return isReplica(replicas, row) && isHeld && node !== UNKNOWN && nodes.obstacle[node] === 0;
}

/**
 * For models that have to be somewhere and fit nowhere: idle replicas whose memory would let one in. First the ones that are above
 * their model's warm number; where that is not enough, replicas that took a whole device and leave room for both when they come
 * back smaller.
 */
export function roomFor(grid: PlacementState, short: readonly ModelState[]): readonly Leaving[] {
  const leaving: Leaving[] = [];
  const gone = new Set<number>();
  for (const state of short) {
    if (leaving.length >= ROOM_UNLOADS_MAX) break;
    // One that is being unloaded for it, or whose unloading is under way, will do.
    const found = surplusWithRoom(grid, state, gone) ?? largeWithRoom(grid, state, gone);
    for (const row of found ?? []) {
      gone.add(row);
      leaving.push(...unload(grid.question, row, "make-room"));
    }
  }
  return leaving;
}

/** Memory that a chain would take on devices, by row. */
export type ChainRoom = readonly { readonly device: number; readonly memoryBytes: number }[];

/**
 * For a model that only nodes together can hold, and cannot as they are: idle replicas above their models' warm numbers, where a chain would stand. None
 * when it would find no room even so, or will once those are gone that go already.
 *
 * Not handled: replicas that would come back smaller, and chains of other models.
 */
export function roomForChain(
  grid: PlacementState,
  short: ModelState,
  by: {
    /** Where a stage may stand. */
    readonly devices: readonly number[];
    /** Rows of replicas that go already. */
    readonly gone: ReadonlySet<number>;
    /** The chain that there would be with the memory that is free now. */
    readonly find: () => ChainRoom | null;
  },
): readonly Leaving[] {
  const { devices, gone, find } = by;
  const { replicas } = grid.question.grid;
  const going = [...replicas.ids.keys()].flatMap((row) => {
    const isGoing = gone.has(row) || stateOf(replicas, row) === "draining";
    return isGoing
      ? [{ row, device: replicas.device[row] ?? UNKNOWN, memoryBytes: replicas.memoryBytes[row] ?? 0 }]
      : [];
  });
  if (going.length > 0 && withRoom(grid, going, find) !== null) return [];
  const spare = spareCounts(grid, gone);
  const victims = devices
    .flatMap((device) => idleOn(grid, device, gone).map((one) => ({ ...one, device })))
    .sort((a, b) => a.replica.served - b.replica.served || a.replica.row - b.replica.row)
    .flatMap(({ state, replica, device }) => {
      const left = spare.get(state) ?? 0;
      if (state === short || left <= 0 || replica.chain !== undefined) return [];
      spare.set(state, left - 1);
      return [{ row: replica.row, device, memoryBytes: replica.size.memoryBytes }];
    });
  // As few as will do, nearly: 1, 2, 4 … of them.
  let chain: ChainRoom | null = null;
  for (let count = 1; chain === null && count < 2 * victims.length; count *= 2) {
    chain = withRoom(grid, [...going, ...victims.slice(0, count)], find);
  }
  if (chain === null) return [];
  const rows = chain.flatMap(({ device, memoryBytes }) => {
    const coming = going.filter((one) => one.device === device).reduce((sum, one) => sum + one.memoryBytes, 0);
    let freeBytes = (grid.freeBytes[device] ?? 0) + coming;
    return victims.flatMap((victim) => {
      if (victim.device !== device || freeBytes >= memoryBytes) return [];
      freeBytes += victim.memoryBytes;
      return [victim.row];
    });
  });
  return rows.length > ROOM_UNLOADS_MAX ? [] : rows.flatMap((row) => unload(grid.question, row, "make-room"));
}

/** What is found while all this is free; afterwards everything is as it was. */
function withRoom(grid: PlacementState, room: ChainRoom, find: () => ChainRoom | null): ChainRoom | null {
  const add = (sign: number) => {
    for (const { device, memoryBytes } of room) {
      if (device !== UNKNOWN) grid.freeBytes[device] = (grid.freeBytes[device] ?? 0) + sign * memoryBytes;
    }
  };
  add(1);
  const found = find();
  add(-1);
  return found;
}

/** Of each model, the replicas above its warm number. */
function spareCounts(grid: PlacementState, gone: ReadonlySet<number>): Map<ModelState, number> {
  return new Map(
    grid.models.map((state) => {
      const left = state.replicas.filter(({ row }) => row !== UNKNOWN && !gone.has(row)).length;
      return [state, left - state.model.warmReplicas];
    }),
  );
}

function surplusWithRoom(grid: PlacementState, short: ModelState, gone: ReadonlySet<number>): readonly number[] | null {
  const spare = spareCounts(grid, gone);
  return bestDevice(grid, short, (device) => {
    const victims = idleOn(grid, device, gone).filter(({ state }) => state !== short && (spare.get(state) ?? 0) > 0);
    let freeBytes = grid.freeBytes[device] ?? 0;
    const rows: number[] = [];
    for (const { replica } of victims) {
      if (fits(short, freeBytes)) break;
      rows.push(replica.row);
      freeBytes += replica.size.memoryBytes;
    }
    return rows.length > 0 && fits(short, freeBytes) ? rows : null;
  });
}

function largeWithRoom(grid: PlacementState, short: ModelState, gone: ReadonlySet<number>): readonly number[] | null {
  return bestDevice(grid, short, (device) => {
    // A chain would not come back smaller.
    const victims = idleOn(grid, device, gone).filter(
      ({ state, replica }) => state !== short && replica.chain === undefined,
    );
    const freed = victims.reduce((sum, { replica }) => sum + replica.size.memoryBytes, 0);
    const comeBack = victims.reduce(
      (sum, { state, replica }) => sum + leastBytes(replica.variant, state.model.contextTokensMax, SMALL),
      0,
    );
    const freeBytes = (grid.freeBytes[device] ?? 0) + freed - comeBack;
    return victims.length > 0 && fits(short, freeBytes) ? victims.map(({ replica }) => replica.row) : null;
  });
}

/** As many slots as a thrifty replica has (spots.ts). */
const SMALL = { contextTokens: 2_048, sequencesMax: 4 };

/** The device on which the fewest replicas have to go; ties by row. */
function bestDevice(
  grid: PlacementState,
  short: ModelState,
  victimsOn: (device: number) => readonly number[] | null,
): readonly number[] | null {
  const { nodes } = grid.question.grid;
  let best: readonly number[] | null = null;
  for (let node = 0; node < nodes.ids.length; node++) {
    if (spotOn(grid, short, { node, want: ANYWHERE }) !== "memory-too-small") continue;
    const end = nodes.deviceFrom[node + 1] ?? 0;
    for (let device = nodes.deviceFrom[node] ?? 0; device < end; device++) {
      const victims = victimsOn(device);
      if (victims !== null && (best === null || victims.length < best.length)) best = victims;
    }
  }
  return best;
}

const ANYWHERE: Want = { isForced: true, isForAnybody: false, contextTokensNeeded: 0, isThrifty: false };

function idleOn(
  grid: PlacementState,
  device: number,
  gone: ReadonlySet<number>,
): readonly { state: ModelState; replica: ReplicaState }[] {
  const { replicas } = grid.question.grid;
  const { nowMs, waiting } = grid.question;
  return grid.models
    .filter(({ model }) => !waiting.has(model.modelId))
    .flatMap((state) => state.replicas.map((replica) => ({ state, replica })))
    .filter(({ replica }) => {
      const idleMs = nowMs - (replicas.lastUsedAtMs[replica.row] ?? 0);
      const isIdle = replica.isReady && replica.slotsLeased === 0 && idleMs >= ROOM_IDLE_MS;
      return replica.device === device && replica.row !== UNKNOWN && !gone.has(replica.row) && isIdle;
    })
    .sort((a, b) => a.replica.served - b.replica.served || a.replica.row - b.replica.row);
}

function fits(short: ModelState, freeBytes: number): boolean {
  const { contextTokensMax, variants } = short.model;
  return variants.some((variant) => sizeReplica({ ...variant, contextTokensMax }, freeBytes).ok);
}

function unload(question: PlanQuestion, row: number, why: UnloadOrder["why"]): readonly Leaving[] {
  const { replicas, nodes } = question.grid;
  const nodeId = nodes.ids[replicas.node[row] ?? UNKNOWN];
  const replicaId = replicas.ids[row];
  const modelId = modelNameOf(question.grid, row);
  if (nodeId === undefined || replicaId === undefined || modelId === undefined) return [];
  return [{ row, order: { kind: "unload", nodeId, replicaId, modelId, why } }];
}
