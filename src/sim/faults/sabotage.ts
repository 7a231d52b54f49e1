/**
 * Bugs on purpose. A checker that never fails proves nothing, so each law has a planted break that a test runs and that its
 * checker must report. They sit at seams of the real code and do what a plausible bug there would do.
 *
 * | sabotage            | law | what it does                                                                             |
 * | ------------------- | --- | ---------------------------------------------------------------------------------------- |
 * | double-charge       | 1   | settlement charges the same request once more                                            |
 * | dead-epoch          | 2   | chunks of a lease that was revoked feed the stream that moved to another node            |
 * | skipped-token       | 2   | a stream loses a token now and then                                                      |
 * | plan-over-memory    | 3   | the planner believes that models are a tenth of their size                               |
 * | ignored-region      | 3   | dispatch never hears of the regions that a request allows                                |
 * | restart-in-presence | 4   | the agent takes up work again while its owner is at the machine                          |
 * | no-deadline         | 5   | a request whose attempt fails is forgotten: no end, no refusal                           |
 * | stale-positions     | 2   | stages keep positions that were to be dropped                                            |
 * | ignored-gap         | 2   | stages lose what a sequence held when it goes on, and pass over what is missing          |
 */
import type { ServedModel } from "../../coordinator/dispatch/served-models.ts";
import type { Roster, RosterHandlers, WorkMessage } from "../../coordinator/roster.ts";
import type { GenerationEvent, GenerationRequest } from "../../domain/generation.ts";
import { type NodeId, transferId } from "../../domain/ids.ts";
import { microUsd } from "../../domain/money.ts";
import { PLATFORM_REVENUE, tenantAccount } from "../../market/accounts.ts";
import type { Store } from "../../ports/store.ts";
import type { AttemptStart, Chunk } from "../../wire/agent-link.ts";
import type { StageBreak } from "../engine/scripted-stage.ts";
import type { ServingGrid } from "../sim-coordinator.ts";

export const SABOTAGES = [
  "double-charge",
  "dead-epoch",
  "skipped-token",
  "plan-over-memory",
  "ignored-region",
  "restart-in-presence",
  "no-deadline",
] as const;
/** Of stages: they show where there are chains. */
export const STAGE_SABOTAGES = ["stale-positions", "ignored-gap"] as const;
export type StageSabotage = (typeof STAGE_SABOTAGES)[number];
export type Sabotage = (typeof SABOTAGES)[number] | StageSabotage;

export interface Saboteur {
  readonly models: (models: readonly ServedModel[]) => readonly ServedModel[];
  readonly roster: (roster: Roster) => Roster;
  readonly grid: (grid: ServingGrid, store: Store) => ServingGrid;
  /** Milliseconds after which an agent resumes in its owner's presence; null: it waits, as it should. */
  readonly resumesAfterMs: number | null;
  /** What every stage does wrong; null: nothing. */
  readonly stageBreak: StageBreak | null;
}

const HARMLESS: Saboteur = {
  models: (models) => models,
  roster: (roster) => roster,
  grid: (grid) => grid,
  resumesAfterMs: null,
  stageBreak: null,
};

export function saboteurFor(sabotage: Sabotage): Saboteur {
  switch (sabotage) {
    case "double-charge":
      return { ...HARMLESS, grid: chargingTwice };
    case "dead-epoch":
      return { ...HARMLESS, roster: acceptingTheDead };
    case "skipped-token":
      return { ...HARMLESS, grid: (grid) => eventsChanged(grid, skipTokens) };
    case "plan-over-memory":
      return { ...HARMLESS, models: (models) => models.map(shrunk) };
    case "ignored-region":
      return { ...HARMLESS, grid: withoutRules };
    case "restart-in-presence":
      return { ...HARMLESS, resumesAfterMs: 700 };
    case "no-deadline":
      return { ...HARMLESS, grid: (grid) => eventsChanged(grid, forgetFailures) };
    case "stale-positions":
      return { ...HARMLESS, stageBreak: "keeps-stale" };
    case "ignored-gap":
      return { ...HARMLESS, stageBreak: "ignores-gaps" };
  }
}

function chargingTwice(grid: ServingGrid, store: Store): ServingGrid {
  const { settlement } = grid;
  return {
    ...grid,
    settlement: {
      hold: (request) => settlement.hold(request),
      voidHold: (requestId) => settlement.voidHold(requestId),
      signedReceipt: (receiptId) => settlement.signedReceipt(receiptId),
      publicKeyHex: settlement.publicKeyHex,
      checkpoint: () => settlement.checkpoint(),
      settle: async (request) => {
        const settled = await settlement.settle(request);
        const again = {
          transferId: transferId(`${request.requestId}:again`),
          kind: "direct" as const,
          debitAccountId: tenantAccount(request.tenantId),
          creditAccountId: PLATFORM_REVENUE,
          amountMicroUsd: microUsd(Math.max(1, settled.costMicroUsd)),
          holdTransferId: null,
          requestId: request.requestId,
          reason: "charge",
          atMs: request.createdAtMs,
        };
        await store.ledger.apply([again]);
        return settled;
      },
    },
  };
}

function withoutRules(grid: ServingGrid): ServingGrid {
  const { dispatch } = grid;
  const free = (request: GenerationRequest): GenerationRequest => {
    const { constraints: _, ...terms } = request.terms;
    return { ...request, terms };
  };
  return { ...grid, dispatch: { generate: (request, onEvent) => dispatch.generate(free(request), onEvent) } };
}

type ChangeEvent = (event: GenerationEvent) => GenerationEvent | null;

function eventsChanged(grid: ServingGrid, changer: (request: GenerationRequest) => ChangeEvent): ServingGrid {
  const { dispatch } = grid;
  return {
    ...grid,
    dispatch: {
      generate: (request, onEvent) => {
        const change = changer(request);
        return dispatch.generate(request, (event) => {
          const changed = change(event);
          if (changed !== null) onEvent(changed);
        });
      },
    },
  };
}

/** Loses the seventh token of each stream. */
function skipTokens(): ChangeEvent {
  let seen = 0;
  return (event) => {
    if (event.kind !== "tokens") return event;
    const from = seen;
    seen += event.tokens.length;
    const tokens = event.tokens.filter((_, at) => from + at !== 6);
    return tokens.length === 0 ? null : { kind: "tokens", tokens };
  };
}

function forgetFailures(): ChangeEvent {
  return (event) => (event.kind === "failed" ? null : event);
}

function shrunk(model: ServedModel): ServedModel {
  const { manifest } = model;
  const fileBytes = Math.ceil(manifest.fileBytes / 10);
  return { ...model, manifest: { ...manifest, fileBytes, kvBytesPerToken: Math.ceil(manifest.kvBytesPerToken / 10) } };
}

interface KnownLease {
  readonly order: AttemptStart;
  readonly nodeId: NodeId;
  nextSeq: number;
}

/** Rewrites a dead lease's chunk into one of the choice's live lease, which is what a missing epoch check amounts to. */
function acceptingTheDead(roster: Roster): Roster {
  const leases = new Map<string, KnownLease>();
  const newest = new Map<string, KnownLease>();
  const rewrite = (from: NodeId, message: WorkMessage): [NodeId, WorkMessage] => {
    if (message.type !== "attempt.chunks") return [from, message];
    let to = from;
    const chunks = message.chunks.map((chunk): Chunk => {
      const lease = leases.get(chunk.leaseId);
      const live = lease === undefined ? undefined : newest.get(choiceOf(lease.order));
      if (lease === undefined || live === undefined) return chunk;
      if (live === lease) {
        lease.nextSeq = Math.max(lease.nextSeq, chunk.seq + 1);
        return chunk;
      }
      to = live.nodeId;
      return { ...chunk, leaseId: live.order.leaseId, epoch: live.order.epoch, seq: live.nextSeq++ };
    });
    return [to, { type: "attempt.chunks", chunks }];
  };
  return {
    get version() {
      return roster.version;
    },
    nodes: () => roster.nodes(),
    node: (nodeId) => roster.node(nodeId),
    reportBreach: () => undefined,
    send: (nodeId, message) => {
      if (message.type === "attempt.start") {
        const lease = { order: message, nodeId, nextSeq: 0 };
        leases.set(message.leaseId, lease);
        newest.set(choiceOf(message), lease);
      }
      // Nor does it cancel what it gave up, so that the dead go on talking.
      return message.type === "attempt.cancel" ? true : roster.send(nodeId, message);
    },
    subscribe: (handlers: RosterHandlers) =>
      roster.subscribe({
        ...handlers,
        onWork: (nodeId, message) => handlers.onWork(...rewrite(nodeId, message)),
      }),
  };
}

function choiceOf(order: AttemptStart): string {
  return `${order.terms.requestId}#${order.work.kind === "generate" ? order.work.choice : 0}`;
}
