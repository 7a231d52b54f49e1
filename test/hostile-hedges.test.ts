/** Nodes that lie about attempts that race: whatever they send and when, each token comes once and is paid once. Virtual time. */
import { expect, test } from "vitest";
import { SeededRandom } from "../src/sim/time/random.ts";
import type { AttemptStart } from "../src/wire/agent-link.ts";
import { chunk, DispatchGrid, type HandDrivenNode, startsAt } from "./support/dispatch-grid.ts";

const SEEDS = 8;
const TOKENS = 8;

function lie(
  start: AttemptStart,
  seq: number,
  random: SeededRandom,
): { readonly type: string } & Record<string, unknown> {
  const { leaseId, epoch } = start;
  const code = random.pick(["engine-closed", "engine-crashed", "grammar-invalid", "yield"]);
  const early = { seq: 0, reason: "stop", statementJson: "{}", signature: "00".repeat(64) };
  switch (random.between(0, 7)) {
    case 0:
      return { type: "attempt.failed", leaseId, epoch, code, message: "it went wrong" };
    case 1:
      return chunk(start, { seq: seq + 1 });
    case 2:
      return { type: "attempt.end", leaseId, epoch, ...early };
    default:
      return chunk(start, {
        seq,
        tokenIds: [random.between(1, 30), random.between(1, 30)].slice(0, random.between(1, 2)),
      });
  }
}

test("a choice that several liars race for has one end, and as many tokens as are acknowledged", async () => {
  let hedged = 0;
  for (let seed = 0; seed < SEEDS; seed++) {
    const random = new SeededRandom(`hedge ${seed}`);
    const grid = new DispatchGrid({ warmReplicas: 2 });
    await grid.start();
    const agents = [await grid.addAgent(), await grid.addAgent()];
    await grid.run(3_000);
    for (let count = 0; count < 25; count++) await grid.untilOver(grid.ask({ tokensMax: 2 }));
    for (const agent of agents) grid.kill(agent);
    await grid.run(20_000);
    const nodes: HandDrivenNode[] = [];
    for (let at = 0; at < 3; at++)
      nodes.push(await grid.handDrivenNode({ replicaId: `rep_01KA000000000000000000000${at}`, slots: 8 }));
    await grid.run(100);
    const asked = grid.ask({ tokensMax: TOKENS, terms: { tier: "priority" } });
    const nextSeq = new Map<string, number>();
    for (let turn = 0; turn < 400 && asked.outcome() === null; turn++) {
      await grid.run(random.between(1, 120));
      for (const node of nodes) {
        const starts = startsAt(node);
        const start = starts.length === 0 || random.chance(0.8) ? null : random.pick(starts);
        if (start === null) continue;
        const seq = nextSeq.get(start.leaseId) ?? 0;
        const message = lie(start, seq, random);
        // A node that broke the protocol too often has no link any more.
        await node.peer.say(message).catch(() => undefined);
        if (message.type === "attempt.chunks") nextSeq.set(start.leaseId, seq + 1);
      }
    }
    const records = () => asked.generation.attempts();
    if (records().some(({ detail }) => detail?.includes("another attempt") === true)) hedged += 1;
    await grid.run(70_000);
    const acknowledged = records().reduce((sum, { acknowledgedTokens }) => sum + acknowledgedTokens, 0);
    expect(acknowledged).toBe(asked.tokenIds().length);
    expect(acknowledged).toBeLessThanOrEqual(TOKENS);
    expect(asked.events.filter(({ kind }) => kind === "end" || kind === "failed")).toHaveLength(1);
    expect(grid.dispatcher.stats()).toMatchObject({ running: 0, waiting: 0 });
  }
  expect(hedged).toBeGreaterThan(SEEDS / 4);
});
