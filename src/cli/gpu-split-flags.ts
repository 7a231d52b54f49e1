/** How an owner wants models to lie on the GPUs of one machine: `--gpu-split`, `--tensor-split`, `--main-gpu`. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { z } from "zod";
import { GPU_SPLIT_MODES, type GpuSplit, type GpuSplitMode } from "../ports/engine.ts";
import { wholeNumber } from "./command-options.ts";

/** GPUs of one machine; the library knows no more. */
const GPUS_MAX = 16;
/** Larger parts say nothing that smaller ones could not. */
const PART_MAX = 1_000_000;

export interface GpuSplitFlags {
  readonly gpuSplit?: GpuSplitMode;
  readonly tensorSplit?: readonly number[];
  readonly mainGpu?: number;
}

export const gpuSplitSchema = z.object({
  mode: z.enum(GPU_SPLIT_MODES),
  tensorSplit: z.array(z.number().min(0).max(PART_MAX)).max(GPUS_MAX).readonly(),
  mainGpu: z
    .number()
    .int()
    .min(0)
    .max(GPUS_MAX - 1),
});

export function withGpuSplitOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--gpu-split <mode>",
        "how a model lies on several GPUs of this machine: whole layers, rows, or one GPU",
      ).choices(GPU_SPLIT_MODES),
    )
    .option("--tensor-split <parts>", "each GPU's part of a model, e.g. 3,1 (default: by free memory)", tensorSplit)
    .option(
      "--main-gpu <n>",
      "the GPU for --gpu-split none, counted from 0",
      wholeNumber({ min: 0, max: GPUS_MAX - 1 }),
    );
}

/** Null when nothing was said: the engine's own way. */
export function gpuSplitOf(flags: GpuSplitFlags): GpuSplit | null {
  const { gpuSplit, tensorSplit: parts, mainGpu } = flags;
  if (gpuSplit === undefined && parts === undefined && mainGpu === undefined) return null;
  return { mode: gpuSplit ?? "layer", tensorSplit: parts ?? [], mainGpu: mainGpu ?? 0 };
}

/** `3,1`: numbers that are not negative, one of them at least above 0. */
export function tensorSplit(text: string): readonly number[] {
  const parts = text.split(",").map((part) => (/^\s*\d+(\.\d+)?\s*$/.test(part) ? Number(part) : Number.NaN));
  const areParts = parts.every((part) => part >= 0 && part <= PART_MAX) && parts.some((part) => part > 0);
  if (areParts && parts.length <= GPUS_MAX) return parts;
  throw new InvalidArgumentError(`parts are numbers with commas between, up to ${GPUS_MAX} and not all 0, e.g. 3,1`);
}
