/** NVIDIA GPUs as the driver's own tool reports them. What it says when it fails is turned into a cause and a fix. */
import { execFile } from "node:child_process";
import type { ProbeNote } from "../../ports/gpu-probe.ts";

/** A driver whose GPU hangs answers nothing at all; a slow one needs about 2 s after boot. */
const TOOL_MS_MAX = 10_000;
const OUTPUT_BYTES_MAX = 256 * 1024;
const MIB = 1024 * 1024;
const QUERY = ["--query-gpu=index,name,memory.total,memory.free", "--format=csv,noheader,nounits"];

export interface NvidiaGpu {
  readonly index: number;
  readonly name: string;
  readonly memoryBytes: number;
  readonly memoryFreeBytes: number;
}

export interface NvidiaGpus {
  readonly gpus: readonly NvidiaGpu[];
  readonly notes: readonly ProbeNote[];
}

type ToolRun =
  | { readonly kind: "output"; readonly text: string }
  | { readonly kind: "missing" }
  | { readonly kind: "failed"; readonly text: string };

/** `hasHardware` says whether an NVIDIA GPU is on the bus at all; without one, a missing tool is no problem. */
export async function findNvidiaGpus(options: { tool: string; hasHardware: boolean }): Promise<NvidiaGpus> {
  const run = await runTool(options.tool);
  switch (run.kind) {
    case "output":
      return parseNvidiaGpus(run.text);
    case "missing":
      return { gpus: [], notes: options.hasHardware ? [driverMissing()] : [] };
    case "failed":
      return { gpus: [], notes: options.hasHardware || !/no devices/i.test(run.text) ? [driverFailed(run.text)] : [] };
  }
}

/** Reads lines `index, name, total MiB, free MiB`. A line that does not fit becomes a note, not a guess. */
export function parseNvidiaGpus(text: string): NvidiaGpus {
  const gpus: NvidiaGpu[] = [];
  const notes: ProbeNote[] = [];
  for (const line of text.split("\n").map((raw) => raw.trim())) {
    if (line === "") continue;
    const [, index, name, total, free] = /^(\d+), (.+), ([^,]+), ([^,]+)$/.exec(line) ?? [];
    const memoryBytes = Number(total) * MIB;
    const memoryFreeBytes = Number(free) * MIB;
    if (index === undefined || name === undefined || !(memoryBytes > 0) || !(memoryFreeBytes >= 0)) {
      notes.push({
        subject: `NVIDIA GPU ${index ?? "?"}`,
        problem: `nvidia-smi does not tell its memory (${line.slice(0, 120)})`,
        fix: "update the NVIDIA driver; GPUs that share the main memory are not used",
      });
      continue;
    }
    gpus.push({ index: Number(index), name, memoryBytes, memoryFreeBytes: Math.min(memoryBytes, memoryFreeBytes) });
  }
  return { gpus: gpus.sort((a, b) => a.index - b.index), notes };
}

function runTool(tool: string): Promise<ToolRun> {
  return new Promise((resolve) => {
    execFile(
      tool,
      QUERY,
      { timeout: TOOL_MS_MAX, maxBuffer: OUTPUT_BYTES_MAX, killSignal: "SIGKILL" },
      (error, stdout, stderr) => {
        if (error === null) resolve({ kind: "output", text: stdout });
        else if ("code" in error && error.code === "ENOENT") resolve({ kind: "missing" });
        else
          resolve({ kind: "failed", text: error.killed === true ? "it did not answer" : `${stdout}${stderr}`.trim() });
      },
    );
  });
}

function driverMissing(): ProbeNote {
  return {
    subject: "NVIDIA driver",
    problem: "an NVIDIA GPU is built in, and nvidia-smi is not there",
    fix: "install the NVIDIA driver; in a container, start it with the NVIDIA container toolkit (--gpus all)",
  };
}

/** What nvidia-smi prints, with what it means. */
const FAILURES: readonly (readonly [RegExp, string])[] = [
  [/version mismatch/i, "the driver was updated under the running system: restart the machine"],
  [
    /couldn't communicate|failed to initialize/i,
    "load the driver (modprobe nvidia), or install it again for this kernel; in a container, pass the GPU in",
  ],
  [
    /no devices/i,
    "the driver sees no GPU: check that it is seated, powered and not bound to another driver (lspci -k)",
  ],
  [/did not answer/i, "the GPU hangs: restart the machine; if it comes back, look for Xid errors in the kernel's log"],
  [/insufficient permissions/i, "give this user access to /dev/nvidia* (usually the group video)"],
];

function driverFailed(text: string): ProbeNote {
  const fix = FAILURES.find(([pattern]) => pattern.test(text))?.[1] ?? "run nvidia-smi by hand and follow what it says";
  const problem = `nvidia-smi fails: ${text.replace(/\s+/g, " ").slice(0, 200)}`;
  return { subject: "NVIDIA driver", problem, fix };
}
