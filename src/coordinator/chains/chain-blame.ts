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
 *
 * | of who is avoided                      | takes a place                                                             |
 * | -------------------------------------- | ------------------------------------------------------------------------- |
 * | within 2 s of the word                 | no: it is the one that was lost just now                                   |
 * | by what was found surely (`avoidFor`)  | no                                                                        |
 * | else                                   | when others cannot (scheduler/chains/chain-repair.ts); after many words of which the coordinator saw nothing itself, rather not |
 *
 * A stage that accuses itself is honest: that its engine was lost costs nothing the first time in ten minutes. What it gave wrong does.
 */
import type { NodeId } from "../../domain/ids.ts";
import type { Doubt } from "../../scheduler/chains/chain-repair.ts";
import { backoffCeilingMs } from "../../scheduler/retries/backoff.ts";

/** Words of so long ago say nothing of today's line. */
export const BLAME_WINDOW_MS = 10 * 60_000;
const AVOIDED = { baseMs: 2_000, capMs: 60_000 };
/** Times that a node is avoided within the window before others are asked to load afresh rather than take a spare of it. */
const DOUBTED_MUCH = 4;
/** Words that are remembered, the last ones: chains have tens of stages. */
const WORDS_MAX = 1_024;

interface Word {
  readonly reporter: NodeId;
  readonly accused: NodeId;
  readonly atMs: number;
}

interface Avoided {
  readonly untilMs: number;
  readonly times: number;
  /** When it was accused last. */
  readonly atMs: number;
  /** Surely at fault until then. */
  readonly barredUntilMs: number;
}

/** Whether a node takes places of chains. */
export type Standing = "trusted" | "barred" | Doubt;

export class ChainBlame {
  #words: readonly Word[] = [];
  readonly #avoided = new Map<NodeId, Avoided>();
  /** When its stages lost their engine last. */
  readonly #enginesLostAtMs = new Map<NodeId, number>();

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
    const untilMs = Math.max(before?.barredUntilMs ?? 0, nowMs + backoffCeilingMs(times - 1, AVOIDED));
    const barredUntilMs = Math.max(before?.barredUntilMs ?? 0, nowMs + AVOIDED.baseMs);
    this.#avoided.set(nodeId, { untilMs, times, atMs: nowMs, barredUntilMs });
  }

  /** It says so of itself. */
  accusesItself(
    nodeId: NodeId,
    { nowMs, isEngineLost }: { readonly nowMs: number; readonly isEngineLost: boolean },
  ): void {
    const lostAtMs = this.#enginesLostAtMs.get(nodeId) ?? Number.NEGATIVE_INFINITY;
    if (isEngineLost) this.#enginesLostAtMs.set(nodeId, nowMs);
    if (!isEngineLost || nowMs - lostAtMs <= BLAME_WINDOW_MS) this.avoid(nodeId, nowMs);
  }

  /** At least so long. */
  avoidFor(nodeId: NodeId, { nowMs, forMs }: { readonly nowMs: number; readonly forMs: number }): void {
    this.avoid(nodeId, nowMs);
    const known = this.#avoided.get(nodeId);
    if (known !== undefined) {
      const untilMs = Math.max(known.untilMs, nowMs + forMs);
      this.#avoided.set(nodeId, { ...known, untilMs, barredUntilMs: Math.max(known.barredUntilMs, nowMs + forMs) });
    }
  }

  isAvoided(nodeId: NodeId, nowMs: number): boolean {
    return this.standing(nodeId, nowMs) !== "trusted";
  }

  standing(nodeId: NodeId, nowMs: number): Standing {
    const known = this.#avoided.get(nodeId);
    if (known === undefined || known.untilMs <= nowMs) return "trusted";
    if (known.barredUntilMs > nowMs) return "barred";
    return known.times >= DOUBTED_MUCH ? 2 : 1;
  }

  /** The node is gone or silent: who said so was right, and it was a machine's trouble, not a stage's. */
  confirm(nodeId: NodeId): void {
    this.#words = this.#words.filter(({ accused }) => accused !== nodeId);
    const known = this.#avoided.get(nodeId);
    if (known !== undefined) this.#avoided.set(nodeId, { ...known, times: 1 });
  }

  /** The grid has no such node any more. */
  forget(nodeId: NodeId): void {
    this.#words = this.#words.filter(({ accused, reporter }) => accused !== nodeId && reporter !== nodeId);
    this.#avoided.delete(nodeId);
    this.#enginesLostAtMs.delete(nodeId);
  }
}
