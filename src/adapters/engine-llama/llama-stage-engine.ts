/**
 * One loaded stage as the rest of the agent sees it. Knows which sequence has which slot, refuses what must not reach native code,
 * turns the process's reports into events in the order of the passes, and ends everything with a reason when the process ends.
 */
import { createHash } from "node:crypto";
import type { SequenceId } from "../../domain/chain.ts";
import { FallowError } from "../../domain/fault.ts";
import { sha256Hex } from "../../domain/ids.ts";
import type { SampledToken } from "../../domain/sampling.ts";
import type { EngineExit, GenerateTask } from "../../ports/engine.ts";
import type {
  StageEngine,
  StageEngineInfo,
  StageEvent,
  StageLoadOptions,
  StagePass,
  StageState,
  StageStats,
} from "../../ports/stage-engine.ts";
import type { EngineProcess } from "./engine-process.ts";
import { failureOf } from "./llama-engine.ts";
import { ResidentMemory } from "./resident-memory.ts";
import { passCommand, passRefusal, type StageRefusal, samplingRefusal } from "./stage-checks.ts";
import type {
  StageCommand,
  StageCounters,
  StageItem,
  StageReport,
  StageServingCommand,
  StageServingReport,
} from "./stage-protocol.ts";
import { heldBy, type PassNote, type SequenceEntry, StageSequences } from "./stage-sequences.ts";

type Answer = Exclude<StageServingReport, { readonly kind: "work" }>;

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (fault: FallowError) => void;
}

const NO_COUNTERS: StageCounters = {
  positionsDecoded: 0,
  singleMs: null,
  singlesMean: null,
  promptMsPerPosition: null,
  cpuMs: 0,
};
/** Of failures that no pass is to blame for. */
const NO_TAG = -1;

export class LlamaStageEngine implements StageEngine {
  readonly info: StageEngineInfo;
  readonly exited: Promise<EngineExit>;
  readonly #process: EngineProcess<StageCommand, StageReport>;
  readonly #onEvents: StageLoadOptions["onEvents"];
  readonly #sequences: StageSequences;
  readonly #memory: ResidentMemory;
  readonly #waiting = new Map<number, Waiting>();
  #outbox: StageServingCommand[] = [];
  #refusals: StageEvent[] = [];
  #counters = NO_COUNTERS;
  #exit: EngineExit | null = null;
  #isClosing = false;

  constructor(parts: {
    readonly info: StageEngineInfo;
    readonly process: EngineProcess<StageCommand, StageReport>;
    readonly onEvents: StageLoadOptions["onEvents"];
  }) {
    this.info = parts.info;
    this.#process = parts.process;
    this.#onEvents = parts.onEvents;
    this.#memory = new ResidentMemory(parts.process.processId);
    this.#sequences = new StageSequences(parts.info.sequencesMax);
    this.exited = parts.process.exited.then((exit) => this.#endAll(exit));
  }

  open(sequence: SequenceId): boolean {
    if (this.#isGone) return false;
    const known = this.#sequences.get(sequence);
    if (known?.state === "importing") return false;
    if (known?.state === "released") this.#sequences.reopen(known);
    return known !== null || this.#take(sequence, "open") !== null;
  }

  setSampling(sequence: SequenceId, task: GenerateTask): void {
    const entry = this.#openEntry(sequence, NO_TAG);
    if (entry === null) return;
    const refusal = samplingRefusal(task, this.info);
    if (refusal !== null) {
      this.#refuse(entry, NO_TAG, refusal);
      return;
    }
    const whole = { kind: "generate", key: entry.key, ...task, tokenIds: Int32Array.from(task.tokenIds) } as const;
    this.#send({ kind: "sampling", slot: entry.slot, task: whole });
  }

  submit(pass: StagePass): void {
    const entry = this.#openEntry(pass.sequence, pass.tag);
    if (entry === null) return;
    const refusal = passRefusal(pass, { info: this.info, held: heldBy(entry) });
    if (refusal !== null) {
      this.#refuse(entry, pass.tag, refusal);
      return;
    }
    const { tag, start, count, how, draw } = pass;
    entry.pending.push({ tag, start, count, how, draw });
    this.#send(passCommand(pass, entry));
  }

  held(sequence: SequenceId): number {
    const entry = this.#sequences.get(sequence);
    return entry === null || entry.state === "importing" ? 0 : heldBy(entry);
  }

  holdings(): readonly { readonly sequence: SequenceId; readonly held: number }[] {
    return this.#sequences.all().flatMap(({ sequence }) => {
      const held = this.held(sequence);
      return held === 0 ? [] : [{ sequence, held }];
    });
  }

  release(sequence: SequenceId): void {
    const entry = this.#sequences.get(sequence);
    if (entry?.state !== "open") return;
    this.#sequences.release(entry);
    if (entry.held === 0) this.#forget(entry);
    else this.#send({ kind: "drop", slot: entry.slot });
  }

  forget(sequence: SequenceId): void {
    const entry = this.#sequences.get(sequence);
    if (entry !== null) this.#forget(entry);
  }

  async exportState(sequence: SequenceId, positions: number): Promise<StageState | null> {
    const entry = this.#sequences.get(sequence);
    if (entry === null || positions < 1 || positions > this.held(sequence)) return null;
    const key = this.#sequences.newKey();
    const answer = await this.#ask({ kind: "export", key, slot: entry.slot, positions });
    if (answer.kind !== "exported" || answer.data === null) return null;
    return { sequence, positions, data: answer.data, sha256: sha256Hex(digestOf(answer.data)) };
  }

  async importState(state: StageState): Promise<boolean> {
    const { sequence, positions, data } = state;
    if (digestOf(data) !== state.sha256) return false;
    if (!Number.isInteger(positions) || positions < 1 || positions > this.info.contextTokens) return false;
    const known = this.#sequences.get(sequence);
    if (known !== null && known.state !== "released") return false;
    if (known !== null) this.#forget(known);
    const entry = this.#take(sequence, "importing");
    if (entry === null) return false;
    const answer = await this.#ask({ kind: "import", key: entry.key, slot: entry.slot, positions, data });
    if (answer.kind === "imported" && answer.isAccepted) {
      entry.held = positions;
      this.#sequences.release(entry);
      return true;
    }
    this.#sequences.remove(entry);
    return false;
  }

  stats(): StageStats {
    const passesQueued = this.#sequences.all().reduce((sum, { pending }) => sum + pending.length, 0);
    const memoryBytes = this.#exit === null ? this.#memory.bytes() : 0;
    return { sequencesOpen: this.#sequences.openCount, passesQueued, ...this.#counters, memoryBytes };
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    this.#process.kill("closed");
    await this.exited;
  }

  /** What the process says. */
  take(report: StageReport): void {
    if (report.kind === "exported" || report.kind === "imported") {
      const waiting = this.#waiting.get(report.key);
      this.#waiting.delete(report.key);
      waiting?.resolve(report);
    } else if (report.kind === "work") {
      this.#counters = report.counters;
      const events = report.items.flatMap((item) => this.#eventsOf(item));
      if (events.length > 0) this.#onEvents(events);
    }
    this.#updateWatch();
  }

  /** What comes late, for an opening that is over, is nobody's; but a slot that was emptied holds nothing any more. */
  #eventsOf(item: StageItem): readonly StageEvent[] {
    const entry = this.#sequences.byKey(item.key);
    if (entry === null) return [];
    if (entry.state !== "open") {
      if (item.kind === "failed") this.#forget(entry);
      return [];
    }
    const { sequence } = entry;
    switch (item.kind) {
      case "failed":
        this.#sequences.remove(entry);
        return [{ kind: "failed", sequence, tag: item.tag, code: item.code, message: item.message }];
      case "end":
        return [{ kind: "end", sequence, reason: item.reason }];
      case "done": {
        const pass = entry.pending.shift();
        entry.held = item.held;
        return pass === undefined ? [] : [{ kind: "done", sequence, tag: pass.tag }];
      }
      case "output": {
        const pass = entry.pending.shift();
        if (pass === undefined) return [];
        entry.held = pass.start + pass.count;
        return [{ kind: "output", sequence, ...pass, format: item.format, data: item.data }];
      }
      case "tokens": {
        const pass = entry.pending.shift();
        if (pass === undefined) return [];
        entry.held = item.held;
        return [tokensEvent(sequence, pass, item)];
      }
    }
  }

  #take(sequence: SequenceId, state: "open" | "importing"): SequenceEntry | null {
    const taken = this.#sequences.take(sequence, state);
    if (taken === null) return null;
    if (taken.emptied !== null) this.#send({ kind: "clear", slot: taken.emptied });
    return taken.entry;
  }

  #forget(entry: SequenceEntry): void {
    this.#sequences.remove(entry);
    this.#send({ kind: "clear", slot: entry.slot });
  }

  #openEntry(sequence: SequenceId, tag: number): SequenceEntry | null {
    if (this.#isGone) {
      this.#tell({ kind: "failed", sequence, tag, ...failureOf(this.#exit) });
      return null;
    }
    const entry = this.#sequences.get(sequence);
    if (entry?.state === "open") return entry;
    this.#tell({ kind: "failed", sequence, tag, code: "position-wrong", message: `sequence ${sequence} is not open` });
    return null;
  }

  #refuse(entry: SequenceEntry, tag: number, refusal: StageRefusal): void {
    this.#forget(entry);
    this.#tell({ kind: "failed", sequence: entry.sequence, tag, ...refusal });
  }

  /** Events of our own come as the process's do: never before the call that caused them has returned. */
  #tell(event: StageEvent): void {
    this.#refusals.push(event);
    if (this.#refusals.length > 1) return;
    queueMicrotask(() => {
      const events = this.#refusals;
      this.#refusals = [];
      this.#onEvents(events);
    });
  }

  #send(command: StageServingCommand): void {
    this.#outbox.push(command);
    if (this.#outbox.length > 1) return;
    queueMicrotask(() => {
      const commands = this.#outbox;
      this.#outbox = [];
      this.#process.send({ kind: "all", commands });
      this.#updateWatch();
    });
  }

  #ask(command: Extract<StageServingCommand, { readonly kind: "export" | "import" }>): Promise<Answer> {
    if (this.#isGone) return Promise.reject(this.#gone());
    return new Promise((resolve, reject) => {
      this.#waiting.set(command.key, { resolve, reject });
      this.#send(command);
    });
  }

  #updateWatch(): void {
    const owes = this.#waiting.size > 0 || this.#sequences.all().some(({ pending }) => pending.length > 0);
    this.#process.expectAnswer(owes);
  }

  get #isGone(): boolean {
    return this.#exit !== null || this.#isClosing;
  }

  #gone(): FallowError {
    const { code, message } = failureOf(this.#exit);
    return new FallowError(code, message);
  }

  #endAll(exit: EngineExit): EngineExit {
    this.#exit = exit;
    const failure = failureOf(exit);
    const open = this.#sequences.all().filter(({ state }) => state === "open");
    for (const entry of this.#sequences.all()) this.#sequences.remove(entry);
    for (const waiting of this.#waiting.values()) waiting.reject(this.#gone());
    this.#waiting.clear();
    if (exit.cause !== "closed") {
      for (const { sequence } of open) this.#tell({ kind: "failed", sequence, tag: NO_TAG, ...failure });
    }
    return exit;
  }
}

function tokensEvent(
  sequence: SequenceId,
  pass: PassNote,
  item: Extract<StageItem, { readonly kind: "tokens" }>,
): StageEvent {
  const tokens = item.tokenIds.map((tokenId, index): SampledToken => {
    const asked = item.logprobs?.[index] ?? null;
    return { tokenId, logprob: asked?.logprob ?? null, top: asked?.top ?? [] };
  });
  const position = pass.start + pass.count - (pass.draw?.draftIds.length ?? 0);
  const event = { kind: "tokens", sequence, tag: pass.tag, tokens, position, end: item.end } as const;
  return item.logits === null ? event : { ...event, logits: item.logits };
}

function digestOf(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}
