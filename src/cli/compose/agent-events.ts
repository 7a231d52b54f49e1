/** What happens to an agent, for its owner's eyes: `fallow join` prints these, `fallow up` shows them while it starts. */
import type { EngineVariant } from "../../domain/hardware.ts";
import { formatBytes, formatDuration } from "../format.ts";

export type AgentEvent =
  | { readonly event: "measuring" }
  | {
      readonly event: "engine-installing";
      readonly variant: EngineVariant;
      readonly bytes: number;
      readonly bytesTotal: number;
    }
  /** A variant for a GPU works, and is used. */
  | { readonly event: "engine"; readonly variant: EngineVariant; readonly gpu: string }
  | {
      readonly event: "engine-fallback";
      readonly variant: EngineVariant;
      readonly instead: EngineVariant;
      readonly cause: string;
      readonly fix: string;
    }
  | { readonly event: "attaching"; readonly url: string; readonly isStarted: boolean }
  | {
      readonly event: "attached";
      readonly url: string;
      readonly kind: string;
      readonly version: string;
      readonly models: readonly string[];
    }
  | { readonly event: "connecting"; readonly url: string }
  | {
      readonly event: "online";
      readonly nodeId: string;
      readonly gridId: string;
      readonly gridPublicKeyHex: string | null;
      readonly name: string;
    }
  | { readonly event: "waiting"; readonly retryInMs: number; readonly cause: string }
  | { readonly event: "loading"; readonly replicaId: string; readonly progress: number }
  | {
      readonly event: "fetching";
      readonly weightsSha256: string;
      readonly label: string;
      readonly doneBytes: number;
      readonly totalBytes: number;
      readonly bytesPerSecond: number;
      /** Nodes that something comes from at this moment. */
      readonly peers: number;
      /** Of what came so far, from the coordinator; 0 to 1. */
      readonly sourceShare: number;
    }
  /** What was waited for is here. Bytes that lay here before do not count. */
  | {
      readonly event: "fetched";
      readonly weightsSha256: string;
      readonly label: string;
      readonly bytes: number;
      readonly tookMs: number;
      /** Of the bytes, from other nodes; 0 to 1. */
      readonly peerShare: number;
      readonly nodes: number;
      /** To other nodes since the agent started, of all models. */
      readonly uploadedBytes: number;
    }
  | { readonly event: "serving"; readonly replicaId: string; readonly slots: number; readonly contextTokens: number }
  | { readonly event: "replica-failed"; readonly replicaId: string; readonly cause: string }
  | { readonly event: "unloaded"; readonly replicaId: string }
  | { readonly event: "note"; readonly subject: string; readonly problem: string; readonly fix: string }
  | { readonly event: "refused"; readonly code: string; readonly message: string }
  | { readonly event: "stopped" };

/** Whether a person should find it still on the screen when the progress line is gone. */
export function isLasting({ event }: AgentEvent): boolean {
  return (
    event === "engine-fallback" || event === "engine" || event === "note" || event === "fetched" || event === "attached"
  );
}

/** A line for people; null for what they need not see. */
export function describeAgentEvent(event: AgentEvent): string | null {
  switch (event.event) {
    case "measuring":
      return "measuring this machine";
    case "engine-installing": {
      const share = Math.round((100 * event.bytes) / event.bytesTotal);
      return `installing the ${event.variant} engine (${formatBytes(event.bytesTotal)}) ${share} %`;
    }
    case "engine":
      return `using ${event.gpu} with the ${event.variant} engine`;
    case "engine-fallback":
      return `the ${event.variant} engine is not used, ${event.instead} is instead: ${event.cause}; ${event.fix}`;
    case "attaching":
      return `${event.isStarted ? "starting" : "asking"} the server at ${event.url}`;
    case "attached":
      return `lending ${event.kind} ${event.version} at ${event.url} with ${event.models.join(", ")}`;
    case "connecting":
      return `connecting to ${event.url}`;
    case "online":
      return `joined ${event.gridId} as ${event.name} (${event.nodeId})`;
    case "waiting":
      return `no link (${event.cause}); next try in ${formatDuration(event.retryInMs)}`;
    case "loading":
      return `loading replica ${event.replicaId} ${Math.round(event.progress * 100)} %`;
    case "fetching": {
      const share = event.totalBytes === 0 ? 100 : Math.floor((100 * event.doneBytes) / event.totalBytes);
      const from = event.peers === 1 ? "1 node" : `${event.peers} nodes`;
      const source = `${Math.round(event.sourceShare * 100)} %`;
      return `fetching ${event.label}: ${share} % ${formatBytes(event.bytesPerSecond)}/s from ${from} (source ${source})`;
    }
    case "fetched": {
      const what = `${event.label}: ${formatBytes(event.bytes)} in ${formatDuration(event.tookMs)}`;
      const nodes = event.nodes === 1 ? "1 node" : `${event.nodes} nodes`;
      if (event.nodes === 0) return `${what}, all from the coordinator`;
      return `${what}, ${Math.floor(event.peerShare * 100)} % from ${nodes}`;
    }
    case "serving":
      return `serving replica ${event.replicaId}: ${event.slots} sequences of ${event.contextTokens} tokens`;
    case "replica-failed":
      return `replica ${event.replicaId} failed: ${event.cause}`;
    case "unloaded":
      return `unloaded replica ${event.replicaId}`;
    case "note":
      return `${event.subject}: ${event.problem}; ${event.fix}`;
    case "refused":
      return `refused: ${event.message}`;
    case "stopped":
      return "stopped";
  }
}
