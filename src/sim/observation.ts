/**
 * What happens in the simulated world, seen from outside the code under test: frames on the wire, engines, transfers that
 * the store took, owners, clients, faults. Checkers and the trace live on these and on nothing else, so that a bug in the
 * coordinator cannot hide itself by keeping wrong books.
 */
import type { GenerationEvent, RequestTerms } from "../domain/generation.ts";
import type { KeyId, NodeId, RequestId, Sha256Hex } from "../domain/ids.ts";
import type { Transfer } from "../domain/ledger.ts";
import type { MicroUsd } from "../domain/money.ts";
import type { AgentMessage, CoordinatorMessage } from "../wire/agent-link.ts";

export interface RequestAsked {
  readonly terms: RequestTerms;
  readonly choices: number;
  readonly promptTokens: number;
  readonly tokensMax: number;
  readonly keyId: KeyId;
  readonly budgetMicroUsd: MicroUsd | null;
  readonly heldMicroUsd: MicroUsd;
  /** What each choice's stream is when nothing disturbs it; none for an embedding. */
  readonly reference: readonly ReferenceText[];
  /** What an embedding request has to get; none for a generation. */
  readonly vectors: readonly Float32Array[];
}

export interface ReferenceText {
  readonly tokenIds: readonly number[];
  readonly end: "stop-token" | "length";
}

export type RequestOutcome =
  | { readonly kind: "answered" }
  | { readonly kind: "cancelled" }
  | { readonly kind: "refused"; readonly code: string }
  /** The coordinator died under it: its client saw the connection close. */
  | { readonly kind: "cut-off" };

export type Observation =
  /** An order leaves the coordinator; a message of a node reaches it. `node` is the host, not yet proved to be who it says. */
  | { readonly kind: "order"; readonly node: string; readonly connection: number; readonly message: CoordinatorMessage }
  | { readonly kind: "message"; readonly node: string; readonly connection: number; readonly message: AgentMessage }
  /** Anything else that reached the coordinator: no message of the protocol. */
  | { readonly kind: "noise"; readonly node: string; readonly connection: number }
  | {
      readonly kind: "link-closed";
      readonly at: string;
      readonly peer: string;
      readonly connection: number;
      readonly code: number;
    }
  | { readonly kind: "node-known"; readonly node: string; readonly nodeId: NodeId }
  | {
      readonly kind: "host";
      readonly host: string;
      readonly change: "killed" | "lost-power" | "started" | "frozen" | "thawed";
    }
  | { readonly kind: "fault"; readonly fault: string; readonly target: string; readonly isOn: boolean }
  | { readonly kind: "faults-over" }
  | { readonly kind: "engine"; readonly node: string; readonly engine: number; readonly change: EngineChange }
  /** Weights that came to a node's disk; the disk's loss. */
  | {
      readonly kind: "fetched";
      readonly node: string;
      readonly weightsSha256: Sha256Hex;
      readonly layers: readonly number[];
      readonly bytes: number;
    }
  | { readonly kind: "disk-lost"; readonly node: string }
  | { readonly kind: "owner"; readonly node: string; readonly isPresent: boolean }
  | { readonly kind: "transfers"; readonly transfers: readonly Transfer[] }
  | {
      readonly kind: "settled";
      readonly requestId: RequestId;
      readonly costMicroUsd: MicroUsd;
      readonly leafIndex: number;
    }
  | { readonly kind: "asked"; readonly request: RequestAsked }
  /** The coordinator asks a chain something itself (coordinator/chains/chain-probes.ts); nobody pays for it. */
  | { readonly kind: "probed"; readonly requestId: RequestId }
  /** Its money is held; from here its deadline counts. */
  | { readonly kind: "accepted"; readonly request: RequestAsked }
  /** Its client went away; no event of its streams follows. */
  | { readonly kind: "left"; readonly requestId: RequestId }
  | {
      readonly kind: "generation";
      readonly requestId: RequestId;
      readonly choice: number;
      readonly event: GenerationEvent;
    }
  /** What an embedding request got; null when dispatch refused. */
  | { readonly kind: "embedded"; readonly requestId: RequestId; readonly vectors: readonly Float32Array[] | null }
  | { readonly kind: "outcome"; readonly requestId: RequestId; readonly outcome: RequestOutcome };

export type EngineChange =
  | { readonly to: "loading"; readonly memoryBytes: number; readonly sequencesMax: number }
  | { readonly to: "ready" | "gone" }
  | { readonly to: "busier" | "idler" };

export type Witness = (observation: Observation) => void;

/** A law that was seen broken. */
export interface Violation {
  readonly law: 1 | 2 | 3 | 4 | 5 | 6 | "bug";
  readonly atMs: number;
  readonly what: string;
}

export interface Checker {
  readonly name: string;
  observe(observation: Observation, nowMs: number): void;
  /** After the event whose observations were just told. */
  afterEvent?(nowMs: number): void | Promise<void>;
  atEnd?(nowMs: number): void | Promise<void>;
}

/** How a checker speaks. */
export type Report = (violation: Omit<Violation, "atMs">) => void;
