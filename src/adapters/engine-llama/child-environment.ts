/** What an engine's process gets of the environment: what drivers and loaders read, no secret of the agent's. */

const NAMES = new Set(["PATH", "HOME", "TMPDIR", "TEMP", "TMP", "LANG", "SYSTEMROOT", "WINDIR", "XDG_RUNTIME_DIR"]);
const PREFIXES = ["LD_LIBRARY_PATH", "DYLD_", "CUDA_", "NVIDIA_", "VK_", "GGML_", "HIP_", "ROCR_", "HSA_", "MESA_"];

export function engineEnvironment(full: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(full)) {
    const upper = name.toUpperCase();
    const isKept = NAMES.has(upper) || PREFIXES.some((prefix) => upper.startsWith(prefix));
    if (isKept && value !== undefined) kept[name] = value;
  }
  return kept;
}
