/** What the pipeline benches ask of a chain in the lab, and how they set it against the time that its stages and its ways take. */

import type { ChainRow } from "../../src/coordinator/admin/chain-schema.ts";
import { type StreamBody, streamBodies, tokPerSecond, tokPerSecondTogether } from "../../test/support/chain-streams.ts";
import { LAB_MODEL_ID, type LabChain } from "./lab-chain.ts";
import { median } from "./quantiles.ts";

const MS_PER_S = 1_000;

export interface PipelineCell {
  readonly model: string;
  readonly stages: number;
  readonly sequences: number;
  readonly rttMs: number;
  /** Median of the rounds. */
  readonly tokPerSecond: number;
  readonly byRound: readonly number[];
  /** Of a decode of single tokens at each stage, as the stages told last. */
  readonly stageMs: readonly number[];
  /** Of the ways, as the stages measured them. */
  readonly measuredRttMs: readonly number[];
  /** 1 / (sum of stage times + ways x round trip / 2), tokens a second of one sequence. */
  readonly modelTokPerSecond: number;
  readonly ratio: number;
}

export async function measureCell(
  chain: LabChain,
  how: { readonly model: string; readonly stages: number; readonly sequences: number; readonly rttMs: number },
  with_: { readonly tokens: number; readonly rounds: number; readonly temperature?: number },
): Promise<PipelineCell> {
  const { stages, sequences, rttMs } = how;
  const rates: number[] = [];
  for (let round = 0; round < with_.rounds; round++) {
    rates.push(await rateOf(chain, bodiesOf(round, { ...with_, sequences })));
  }
  const [row] = stages === 1 ? [] : await chain.chains();
  const stageMs = row === undefined ? [] : stageTimes(row);
  const measuredRttMs = row === undefined ? [] : row.stages.map(({ nextRttMs }) => nextRttMs ?? Number.NaN);
  const waysMs = rttMs === 0 ? sum(measuredRttMs) / 2 : (stageMs.length * rttMs) / 2;
  const modelTokPerSecond = MS_PER_S / (sum(stageMs) + waysMs);
  const rate = median(rates);
  return {
    ...how,
    tokPerSecond: rounded(rate),
    byRound: rates.map(rounded),
    stageMs: stageMs.map(rounded),
    measuredRttMs: measuredRttMs.map(rounded),
    modelTokPerSecond: rounded(modelTokPerSecond),
    ratio: Number((rate / modelTokPerSecond).toFixed(3)),
  };
}

export interface Comparison {
  readonly model: string;
  readonly stages: number;
  readonly sequences: number;
  readonly rttMs: number;
  /** Tokens a second, medians. */
  readonly ours: number;
  readonly theirs: number;
  /** Median of the rounds' own quotients: what else the machine does changes from round to round. */
  readonly quotient: number;
}

/** Two chains take turns, each round the other one first. */
export async function compareCell(
  chains: { readonly ours: LabChain; readonly theirs: LabChain },
  how: { readonly model: string; readonly stages: number; readonly sequences: number; readonly rttMs: number },
  { tokens, rounds }: { readonly tokens: number; readonly rounds: number },
): Promise<Comparison> {
  const rates = { ours: [0].slice(1), theirs: [0].slice(1) };
  for (let round = 0; round < rounds; round++) {
    const bodies = bodiesOf(round, { tokens, sequences: how.sequences });
    const order = ["ours", "theirs"] as const;
    for (const which of round % 2 === 0 ? order : order.toReversed()) {
      rates[which].push(await rateOf(chains[which], bodies));
    }
  }
  const quotients = rates.ours.map((rate, round) => rate / (rates.theirs[round] ?? Number.NaN));
  return {
    ...how,
    ours: rounded(median(rates.ours)),
    theirs: rounded(median(rates.theirs)),
    quotient: Number(median(quotients).toFixed(3)),
  };
}

function bodiesOf(
  round: number,
  {
    sequences,
    tokens,
    temperature = 1,
  }: { readonly sequences: number; readonly tokens: number; readonly temperature?: number },
): readonly StreamBody[] {
  return streamBodies(sequences, { model: LAB_MODEL_ID, tokens, temperature, seed: 1_000 * round });
}

export async function rateOf(chain: LabChain, bodies: readonly StreamBody[]): Promise<number> {
  const streams = await chain.streams(bodies, { tellEvery: Number.MAX_SAFE_INTEGER });
  const failed = streams.find(({ error }) => error !== null);
  if (failed !== undefined) throw new Error(`a stream ended with ${failed.error}`);
  const [first] = streams;
  return streams.length === 1 && first !== undefined ? tokPerSecond(first) : tokPerSecondTogether(streams);
}

export function stageTimes({ stages }: ChainRow): readonly number[] {
  return stages.map(({ singleMs }) => singleMs ?? Number.NaN);
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

export function rounded(value: number): number {
  return Number(value.toFixed(2));
}
