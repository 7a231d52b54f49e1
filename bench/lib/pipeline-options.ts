/** Which part of the pipeline bench runs: all of it without options, which alone is kept as its result. */
import { parseArgs } from "node:util";
import { CHAIN_MODEL, type ChainModelShape } from "../../test/support/chain-model.ts";

export interface PipelineModel {
  readonly name: "toy" | "wide";
  readonly shape: ChainModelShape;
}

/** A stage of it takes half a millisecond: what is measured is the way of a token through processes and links. */
const TOY: PipelineModel = { name: "toy", shape: CHAIN_MODEL };
/** A stage of it takes 4 ms and more on one core, also of five: as real ones do, whose layers are larger and whose nodes are quicker. */
const WIDE: PipelineModel = {
  name: "wide",
  shape: { fileBytes: 500e6, layerCount: 10, contextTokens: 256, heads: 32 },
};

export interface PipelineOptions {
  readonly only: "cells" | "drafts" | null;
  readonly models: readonly PipelineModel[];
  readonly stages: readonly number[];
  readonly rttsMs: readonly number[];
  readonly sequences: readonly number[];
  readonly tokens: number;
  readonly rounds: number;
  /** Another checkout of the project whose chains take turns with these. */
  readonly against: string | null;
  /** Nothing was left out. */
  readonly isWhole: boolean;
}

const WHOLE: Omit<PipelineOptions, "isWhole"> = {
  only: null,
  models: [TOY, WIDE],
  stages: [1, 2, 3, 5],
  rttsMs: [0, 20, 40, 80],
  sequences: [1, 16],
  tokens: 64,
  rounds: 3,
  against: null,
};
const SMOKE: typeof WHOLE = { ...WHOLE, models: [TOY], stages: [2], rttsMs: [20], tokens: 16, rounds: 1 };

export function pipelineOptions(args: readonly string[]): PipelineOptions {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      smoke: { type: "boolean" },
      only: text,
      model: text,
      stages: text,
      rtt: text,
      sequences: text,
      tokens: text,
      rounds: text,
      against: text,
    },
  });
  const base = values.smoke === true ? SMOKE : WHOLE;
  const only = values.only === "cells" || values.only === "drafts" ? values.only : null;
  const models = values.model === undefined ? base.models : [TOY, WIDE].filter(({ name }) => name === values.model);
  if (models.length === 0) throw new Error(`--model ${values.model}: it is toy or wide`);
  if (values.only !== undefined && only === null) throw new Error(`--only ${values.only}: it is cells or drafts`);
  return {
    only,
    models,
    stages: numbers(values.stages) ?? base.stages,
    rttsMs: numbers(values.rtt) ?? base.rttsMs,
    sequences: numbers(values.sequences) ?? base.sequences,
    tokens: numbers(values.tokens)?.[0] ?? base.tokens,
    rounds: numbers(values.rounds)?.[0] ?? base.rounds,
    against: values.against ?? null,
    isWhole: Object.keys(values).every((name) => name === "smoke"),
  };
}

/** `1,3` as two numbers. */
function numbers(list: string | undefined): readonly number[] | null {
  if (list === undefined) return null;
  const found = list.split(",").map(Number);
  if (found.some((number) => !Number.isInteger(number) || number < 0)) throw new Error(`${list}: whole numbers`);
  return found;
}
