/**
 * Whom to replace when a stage accuses its neighbour. Between two machines nobody else sees who is at fault, so one word is enough to avoid the accused
 * for a while, and words are counted per pair: who accuses several others, whom nobody else accuses, is at fault itself, by its line or on purpose.
 *
 * | word                                                                        | replaced     |
 * | --------------------------------------------------------------------------- | ------------ |
 * | of a node that the coordinator does not hear either                         | the accused  |
 * | the reporter's first, or of one whom others accuse too                      | the accused  |
 * | the reporter accused another before, and nobody else accuses either of them | the reporter |
 *
 * The other neighbour of who fell silent says so a moment later: its word replaces nobody, but counts.
 * Who turns out to be gone was accused rightly: such words no longer count against anybody. A node is avoided for 2, 4, 8 … seconds.
 */
import type { NodeId } from "../../domain/ids.ts";
import { backoffCeilingMs } from "../../scheduler/retries/backoff.ts";

/** Words of so long ago say nothing of today's line. */
export const BLAME_WINDOW_MS = 10 * 60_000;
const AVOIDED = { baseMs: 2_000, capMs: 60_000 };
/** Words that are remembered, the last ones: chains have tens of stages. */
const WORDS_MAX = 1_024;

interface Word {
  readonly reporter: NodeId;
  readonly accused: NodeId;
  readonly atMs: number;
}

export class ChainBlame {
  #words: readonly Word[] = [];
  readonly #avoided = new Map<NodeId, { readonly untilMs: number; readonly times: number; readonly atMs: number }>();

  /** Who is to be replaced. `isGone`: the coordinator does not hear the accused either. */
  judge(word: Word & { readonly isGone: boolean }): "accused" | "reporter" {
    const { reporter, accused, atMs, isGone } = word;
    if (isGone) return "accused";
    const known = this.#words.filter((one) => atMs - one.atMs <= BLAME_WINDOW_MS);
    const isAlone = (of: NodeId) => !known.some((one) => one.accused === of && one.reporter !== reporter);
    const hasAccusedOthers = known.some(
      (one) => one.reporter === reporter && one.accused !== accused && isAlone(one.accused),
    );
    this.#words = [...known, { reporter, accused, atMs }].slice(-WORDS_MAX);
    const blamed = hasAccusedOthers && isAlone(accused) ? "reporter" : "accused";
    this.avoid(blamed === "reporter" ? reporter : accused, atMs);
    return blamed;
  }

  /** Says the same as another of whom was judged just now. */
  second(word: Word): void {
    this.#words = [...this.#words, word].slice(-WORDS_MAX);
  }

  avoid(nodeId: NodeId, nowMs: number): void {
    const before = this.#avoided.get(nodeId);
    const times = before !== undefined && nowMs - before.atMs <= BLAME_WINDOW_MS ? before.times + 1 : 1;
    this.#avoided.set(nodeId, { untilMs: nowMs + backoffCeilingMs(times - 1, AVOIDED), times, atMs: nowMs });
  }

  /** At least so long. */
  avoidFor(nodeId: NodeId, { nowMs, forMs }: { readonly nowMs: number; readonly forMs: number }): void {
    this.avoid(nodeId, nowMs);
    const known = this.#avoided.get(nodeId);
    if (known !== undefined) {
      this.#avoided.set(nodeId, { ...known, untilMs: Math.max(known.untilMs, nowMs + forMs) });
    }
  }

  isAvoided(nodeId: NodeId, nowMs: number): boolean {
    return (this.#avoided.get(nodeId)?.untilMs ?? 0) > nowMs;
  }

  /** The node is gone or silent: who said so was right. */
  confirm(nodeId: NodeId): void {
    this.#words = this.#words.filter(({ accused }) => accused !== nodeId);
  }

  /** The grid has no such node any more. */
  forget(nodeId: NodeId): void {
    this.#words = this.#words.filter(({ accused, reporter }) => accused !== nodeId && reporter !== nodeId);
    this.#avoided.delete(nodeId);
  }
}
