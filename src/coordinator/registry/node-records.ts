/** What of a node is written to the store, and when: a grid of 1,000 nodes that comes back after a restart writes little. */
import type { NodeId } from "../../domain/ids.ts";
import type { NodeRecord } from "../../ports/store.ts";
import type { Hello } from "../../wire/agent-link.ts";

/** A node that is stored already and comes back as it was is written again only when its last visit is older. */
export const LAST_SEEN_STALE_MS = 10 * 60_000;

export function recordOf(joining: {
  nodeId: NodeId;
  hello: Hello;
  known: NodeRecord | null;
  wallMs: number;
}): NodeRecord {
  const { nodeId, hello, known, wallMs } = joining;
  return {
    nodeId,
    publicKeyHex: hello.publicKey,
    name: hello.name,
    capabilities: hello.capabilities,
    joinedAtMs: known?.joinedAtMs ?? wallMs,
    lastSeenAtMs: wallMs,
    isDraining: known?.isDraining ?? false,
    removedAtMs: known?.removedAtMs ?? null,
  };
}

export function shouldStore(known: NodeRecord | null, record: NodeRecord): boolean {
  if (known === null) return true;
  if (Math.abs(record.lastSeenAtMs - known.lastSeenAtMs) > LAST_SEEN_STALE_MS) return true;
  return lastingText(known) !== lastingText(record);
}

/** The record without what differs at every visit. */
function lastingText({ name, capabilities }: NodeRecord): string {
  const devices = capabilities.devices.map((device) => ({ ...device, memoryFreeBytes: 0 }));
  return JSON.stringify([name, { ...capabilities, diskFreeBytes: 0, devices }]);
}
