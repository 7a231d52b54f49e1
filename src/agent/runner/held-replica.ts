/** What a node holds by an order to load: a whole model's engine, or a stage's with its place in a chain. The runner sees both alike. */
import type { EngineVariant } from "../../domain/hardware.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Engine, EngineHost } from "../../ports/engine.ts";
import type { Log } from "../../ports/log.ts";
import type { Random } from "../../ports/random.ts";
import type { StageEngine } from "../../ports/stage-engine.ts";
import type { WeightsCache } from "../../ports/weights-cache.ts";
import type { AttemptStart, ReplicaLoad, ReplicaReport } from "../../wire/agent-link.ts";
import type { StageOrder } from "../../wire/chain-link.ts";
import type { ChainStage } from "../stages/chain-stage.ts";
import { STREAMS_MAX } from "../stages/head/draft-stream.ts";
import type { StageParts } from "../stages/stage-parts.ts";
import type { StageRoom } from "../stages/stage-room.ts";
import { ReplicaRun, type StartOptions } from "./replica-run.ts";
import { type EngineStartPorts, startAttached, startStage, startWhole } from "./start-engine.ts";

export interface HeldReplica {
  readonly load: ReplicaLoad;
  /** Null for a whole model. */
  readonly chain: ChainStage | null;
  /** Of what its engines run from. */
  readonly weights: readonly string[];
  report(): ReplicaReport;
  isReady(): boolean;
  /** What an attempt runs on; null when nothing is ready, or its place is not the one where attempts run. */
  engineFor(order: AttemptStart): Engine | null;
  start(): void;
  /** Resolves when its engines are gone. */
  close(): Promise<void>;
}

export interface HoldPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly engines: EngineHost;
  readonly weights: Pick<WeightsCache, "ensure">;
  freed(): Promise<unknown>;
  slotsBusy(): number;
  onChange(report: ReplicaReport): void;
}

export interface HoldOptions {
  readonly threads: number;
  readonly variant: EngineVariant;
}

export function holdWhole(load: ReplicaLoad, ports: HoldPorts, options: HoldOptions): HeldReplica {
  return hold(load, ports, (how) => startWhole(load, { ...ports, ...options }, how));
}

/** `ports.engines` is the server that the node's owner attached. */
export function holdAttached(load: ReplicaLoad, ports: HoldPorts, options: HoldOptions): HeldReplica {
  return hold(load, ports, (how) => startAttached(load, { ...ports, ...options }, how));
}

function hold(load: ReplicaLoad, ports: HoldPorts, startEngine: (how: StartOptions) => Promise<Engine>): HeldReplica {
  const run: ReplicaRun<Engine> = new ReplicaRun(load, {
    ...ports,
    startEngine,
    onChange: () => ports.onChange(run.report()),
  });
  return {
    load,
    chain: null,
    weights: [load.weightsSha256],
    report: () => run.report(),
    isReady: () => run.engine !== null,
    engineFor: () => run.engine,
    start: () => run.start(),
    close: () => run.close(),
  };
}

export function holdStage(
  load: ReplicaLoad & { readonly stage: StageOrder },
  ports: HoldPorts & { readonly stages: StageParts; readonly room: StageRoom },
  options: HoldOptions,
): HeldReplica {
  const { stage } = load;
  const { stages, room } = ports;
  const starting = { ...ports, ...options };
  const drafting = stage.draft === undefined ? null : draftRun(load, { ...starting, draft: stage.draft });
  const chain = room.open(load, () => drafting?.engine ?? null);
  const run: ReplicaRun<StageEngine> = new ReplicaRun(load, {
    ...ports,
    startEngine: (how) =>
      startStage(
        load,
        {
          ...starting,
          stage,
          engines: stages.engines,
          files: stages.files,
          onEvents: (events) => chain.onEvents(events),
        },
        how,
      ),
    slotsBusy: () => (chain.isFirst ? chain.headsRunning : ports.slotsBusy()),
    onEngine: (engine) => chain.setEngine(engine),
    onChange: () => ports.onChange(run.report()),
  });
  return {
    load,
    chain,
    weights: [load.weightsSha256, ...(stage.draft === undefined ? [] : [stage.draft.weightsSha256])],
    report: () => run.report(),
    isReady: () => run.engine !== null,
    engineFor: (order) => (run.engine === null ? null : chain.engineFor(order)),
    start: () => {
      run.start();
      drafting?.start();
    },
    close: async () => {
      await Promise.all([run.close(), drafting?.close(), room.close(load.replicaId)]);
    },
  };
}

/** The small model that drafts. The stage serves without it: while it is not there the text's own repetitions do. */
function draftRun(
  load: ReplicaLoad,
  ports: HoldPorts & EngineStartPorts & { readonly draft: NonNullable<StageOrder["draft"]> },
): ReplicaRun<Engine> {
  const { replicaId, contextTokens, deviceId, type } = load;
  const sequencesMax = Math.min(load.sequencesMax, STREAMS_MAX);
  const own: ReplicaLoad = { type, replicaId, contextTokens, sequencesMax, deviceId, ...ports.draft };
  return new ReplicaRun(own, {
    ...ports,
    startEngine: (how) => startWhole(own, ports, how),
    slotsBusy: () => 0,
    onChange: () => undefined,
  });
}
