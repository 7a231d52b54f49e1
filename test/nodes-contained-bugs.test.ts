/** Bugs are ended at the link that met them: docs/decisions/0011-bugs-end-a-link-or-a-request.md. Virtual time, the real registry. */
import { beforeEach, describe, expect, test } from "vitest";
import { nodeIdOf } from "../src/domain/node-id.ts";
import type { KeyPair } from "../src/ports/crypto.ts";
import { LINK_CLOSE } from "../src/ports/link.ts";
import { FAULT_AT_LINK } from "../src/ports/log.ts";
import { type HandDrivenPeer, MembershipGrid } from "./support/membership-grid.ts";

let grid: MembershipGrid;
let keyPair: KeyPair;

beforeEach(async () => {
  grid = new MembershipGrid();
  await grid.start();
  keyPair = grid.crypto.generateKeyPair();
});

const idOf = (pair: KeyPair) => nodeIdOf(grid.crypto.sha256(pair.publicKey));

async function welcomed(): Promise<HandDrivenPeer> {
  const peer = await grid.peer();
  await peer.say(peer.hello({ keyPair, joinToken: await grid.token() }));
  expect(peer.last).toMatchObject({ type: "welcome" });
  return peer;
}

describe("a bug that a frame meets", () => {
  const FAILED = {
    type: "attempt.failed",
    leaseId: "lease_01KA0000000000000000000000",
    epoch: 1,
    code: "engine-crashed",
    message: "",
  };
  const subscribeBroken = (breaks: Partial<Record<"onWork" | "onGone", () => void>>) => {
    const nothing = () => undefined;
    grid.registry.subscribe({
      onOnline: nothing,
      onSuspect: nothing,
      onWithdrawn: nothing,
      onGone: nothing,
      onWork: nothing,
      onReplicas: nothing,
      ...breaks,
    });
  };
  const failing = () => {
    throw new Error("a planted bug");
  };

  test("ends the link of the node that sent it, keeps it out, and leaves all other nodes alone", async () => {
    const [other] = await grid.onlineAgents(1);
    const peer = await welcomed();
    subscribeBroken({ onWork: failing });
    await peer.say(FAILED);
    expect(peer.closed?.code).toBe(LINK_CLOSE.protocolError);
    expect(grid.stateOf(idOf(keyPair))).toBe("offline");
    expect(other === undefined ? null : grid.stateOf(other.nodeId)).toBe("online");
    expect(grid.errors).toMatchObject([
      { event: FAULT_AT_LINK, fields: { nodeId: idOf(keyPair), cause: "a planted bug" } },
    ]);
    expect(grid.registry.stats().strikes).toBe(1);
    const again = await grid.peer();
    await again.say(again.hello({ keyPair, joinToken: null }));
    expect(again.last).toMatchObject({ type: "refused", code: "node-kept-out" });
  });

  test("is contained also when those who hear that the node is gone fail", async () => {
    const peer = await welcomed();
    subscribeBroken({ onWork: failing, onGone: failing });
    await peer.say(FAILED);
    expect(peer.closed?.code).toBe(LINK_CLOSE.protocolError);
    expect(grid.stateOf(idOf(keyPair))).toBe("offline");
    expect(grid.errors).toHaveLength(2);
  });

  test("ends only the agent's link when the agent has it, and the agent connects again", async () => {
    const agent = await grid.onlineAgent();
    agent.work.onOrder = failing;
    await grid.settled(grid.registry.drain(agent.nodeId, true));
    await grid.run(200);
    expect(agent.statuses.at(-1)).toMatchObject({ kind: "waiting", cause: expect.stringContaining("a planted bug") });
    expect(agent.work.linesDown).toBe(1);
    agent.work.onOrder = () => undefined;
    await grid.run(2_000);
    expect(agent.statuses.at(-1)).toMatchObject({ kind: "online" });
  });
});
