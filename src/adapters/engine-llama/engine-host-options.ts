/** How engines and stages are started on this machine. */
import type { EngineVariant } from "../../domain/hardware.ts";
import type { GpuSplit } from "../../ports/engine.ts";

export interface LlamaEngineHostOptions {
  readonly variant: EngineVariant;
  /** A folder with the libraries, or null for the installed package. */
  readonly libraryDirectory: string | null;
  /** The shipped tiny model, whose logits are known. */
  readonly selfTestModelPath: string;
  readonly environment: Record<string, string>;
  /** How models lie on several GPUs, unless a load says otherwise. The CPU variant takes no notice. */
  readonly split?: GpuSplit;
  /** Silence of an engine that owes an answer, after which it is killed. */
  readonly silenceMsMax?: number;
  /** Silence while a model loads: reading weights from a slow disk is silent for long. */
  readonly loadSilenceMsMax?: number;
  /** Tasks that may wait for a free sequence. */
  readonly queueMax?: number;
}

/** Four rounds of a full engine: whoever waits longer is better served elsewhere. */
export const QUEUE_MAX = 256;
