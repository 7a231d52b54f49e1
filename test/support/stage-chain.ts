/** Stages of one model driven by hand: what a pass gives goes into the next stage, and what the last one tells comes back. */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { SequenceId } from "../../src/domain/chain.ts";
import type { StageEvent, StagePass } from "../../src/ports/stage-engine.ts";
import type { HeardStage } from "./stage-fixture.ts";

export type OutputEvent = Extract<StageEvent, { kind: "output" }>;
export type TokensEvent = Extract<StageEvent, { kind: "tokens" }>;

export async function until(isReached: () => boolean): Promise<void> {
  while (!isReached()) await nextTurn();
}

export function tokenPass(
  sequence: SequenceId,
  pass: Partial<StagePass> & { readonly start: number; readonly tokenIds: readonly number[] },
): StagePass {
  const { tokenIds, ...rest } = pass;
  return {
    sequence,
    count: tokenIds.length,
    how: tokenIds.length === 1 ? "singly" : "together",
    input: { kind: "tokens", tokenIds },
    draw: null,
    tag: 0,
    ...rest,
  };
}

export function passOn(event: OutputEvent, wantsLogits = false): StagePass {
  const { sequence, start, count, how, draw, tag, format, data } = event;
  return { sequence, start, count, how, draw, tag, input: { kind: "hidden", format, data }, wantsLogits };
}

/** Through all stages. Answers what the last one told of the pass, or null when it draws nothing. */
export async function feed(stages: readonly HeardStage[], first: StagePass): Promise<TokensEvent | null> {
  let pass: StagePass = first;
  for (const stage of stages) {
    const event = await submitted(stage, pass);
    if (event === null) return null;
    if (event.kind === "tokens") return event;
    pass = passOn(event, first.wantsLogits);
  }
  return null;
}

async function submitted(stage: HeardStage, pass: StagePass): Promise<OutputEvent | TokensEvent | null> {
  const { engine, events } = stage;
  const before = events.length;
  const mine = () => events.slice(before).find((event) => event.sequence === pass.sequence);
  engine.submit(pass);
  await until(() => mine() !== undefined);
  const event = mine();
  if (event?.kind === "done") return null;
  if (event?.kind === "output" || event?.kind === "tokens") return event;
  throw new Error(`a pass gave ${JSON.stringify(event)}`);
}

export interface Drawn {
  readonly tokenIds: number[];
  readonly rows: Float32Array[];
}

/** A prompt in pieces of so many tokens, then token by token; with the raw logits of each draw. */
export async function generateRows(
  stages: readonly HeardStage[],
  run: {
    readonly sequence: SequenceId;
    readonly tokenIds: readonly number[];
    readonly count: number;
    readonly pieceTokens?: number;
    readonly start?: number;
  },
): Promise<Drawn> {
  const { sequence, tokenIds, count, pieceTokens = tokenIds.length } = run;
  const drawn: Drawn = { tokenIds: [], rows: [] };
  const take = (event: TokensEvent | null): void => {
    drawn.tokenIds.push(...(event?.tokens.map(({ tokenId }) => tokenId) ?? []));
    drawn.rows.push(...(event?.logits ?? []));
  };
  for (let start = run.start ?? 0; start < tokenIds.length; start += pieceTokens) {
    const piece = tokenIds.slice(start, start + pieceTokens);
    const isLast = start + piece.length === tokenIds.length;
    take(
      await feed(
        stages,
        tokenPass(sequence, { start, tokenIds: piece, draw: isLast ? DRAW : null, wantsLogits: true }),
      ),
    );
  }
  while (drawn.tokenIds.length < count) {
    const tokenId = drawn.tokenIds.at(-1) ?? 0;
    const start = tokenIds.length + drawn.tokenIds.length - 1;
    take(await feed(stages, tokenPass(sequence, { start, tokenIds: [tokenId], draw: DRAW, wantsLogits: true })));
  }
  return drawn;
}

export const DRAW = { draftIds: [] } as const;
