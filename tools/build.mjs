// Builds dist/ for the published package: Node does not strip types below node_modules, so what is installed must be
// JavaScript. Files that are not TypeScript (SQL, HTML, CSS, browser scripts) are copied beside the code that reads them.
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const at = (...path) => join(root, ...path);
const SHEBANG = "#!/usr/bin/env node\n";

rmSync(at("dist"), { recursive: true, force: true });
const tsc = spawnSync("tsc", ["-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" });
if (tsc.status !== 0) process.exit(tsc.status ?? 1);

cpSync(at("src"), at("dist"), {
  recursive: true,
  filter: (path) => ![".ts", ".md"].includes(extname(path)) && !path.endsWith("tsconfig.json"),
});
const main = at("dist", "cli", "main.js");
if (existsSync(main)) {
  const code = readFileSync(main, "utf8");
  if (!code.startsWith("#!")) writeFileSync(main, SHEBANG + code);
  chmodSync(main, 0o755);
}
