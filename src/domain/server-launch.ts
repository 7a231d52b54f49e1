/** How a server of the owner's is started by his agent: what both vLLM and llama-server can be told, and anything else word by word. */
export const LAUNCHED_KINDS = ["vllm", "llama-server"] as const;
export type LaunchedKind = (typeof LAUNCHED_KINDS)[number];

export interface ServerLaunch {
  readonly kind: LaunchedKind;
  /** Found by the system's search path; null: the kind's own name. */
  readonly program: string | null;
  /** A path, or for vLLM also a name that it fetches. */
  readonly model: string;
  readonly port: number;
  /** GPUs that share each matrix of the model. vLLM only. */
  readonly tensorParallelSize: number | null;
  /** `gptq`, `awq` …, where the files do not say it themselves. vLLM only. */
  readonly quantization: string | null;
  /** Of each GPU's memory that the server may take, 0 to 1. vLLM only. */
  readonly gpuMemoryFraction: number | null;
  /** Layers on the GPU. llama-server only. */
  readonly gpuLayers: number | null;
  /** Of one sequence. */
  readonly contextTokens: number | null;
  readonly sequencesMax: number | null;
  /** Added at the end as they are. */
  readonly args: readonly string[];
}
