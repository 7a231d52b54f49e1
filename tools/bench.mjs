// Runs one bench on the project's Node: npm run bench -- <name> [its options]. Without a name it lists them.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = join(dirname(dirname(fileURLToPath(import.meta.url))), "bench");
const names = readdirSync(folder)
  .filter((file) => file.endsWith(".bench.ts"))
  .map((file) => file.slice(0, -".bench.ts".length))
  .sort();
const [name, ...options] = process.argv.slice(2);
if (name === undefined || !names.includes(name)) {
  console.error(`npm run bench -- NAME, where NAME is one of: ${names.join(", ")}`);
  process.exitCode = 2;
} else {
  const run = spawnSync(process.execPath, [join(folder, `${name}.bench.ts`), ...options], { stdio: "inherit" });
  process.exitCode = run.status ?? 1;
}
