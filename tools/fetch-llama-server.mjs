// Brings a real llama-server for the long suites: Debian's newest package and the libraries that it needs, unpacked into a folder of their own
// and run with their own loader, so that nothing of it is installed here. Prints the path of a program to run. As root on Debian, amd64.
//   node tools/fetch-llama-server.mjs FOLDER
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

/** What the server links to, by the names of the packages. */
const PACKAGES = [
  ...["llama.cpp-tools", "libllama0", "libggml0", "libgomp1"],
  ...["libc6", "libgcc-s1", "libstdc++6", "libssl3t64", "zlib1g", "libzstd1"],
];
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

function run(program, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8", ...options });
  if (status === 0) return stdout;
  throw new Error(`${program} ${args.at(-1)}: ${error?.message ?? stderr.trim().split("\n").at(-1)}`);
}

/** Where this machine takes Debian's packages from. */
function archive() {
  const told = run("apt-get", ["indextargets", "--format", "$(REPO_URI) $(ORIGIN)", "Identifier: Packages"]);
  const found = told.split("\n").find((line) => / Debian$/.test(line) && !/security/.test(line));
  if (found === undefined) throw new Error("no Debian archive is set up for apt-get");
  return found.split(" ")[0];
}

function fetchInto(folder) {
  const at = (...names) => join(folder, ...names);
  for (const name of ["lists/partial", "cache/archives/partial", "debs", "unpacked"])
    mkdirSync(at(name), { recursive: true });
  writeFileSync(at("sources.list"), `deb [signed-by=${KEYRING}] ${archive()} sid main\n`);
  const own = {
    "Dir::State::Lists": at("lists"),
    "Dir::Cache": at("cache"),
    "Dir::Etc::SourceList": at("sources.list"),
  };
  const settings = { ...own, "Dir::Etc::SourceParts": "/dev/null", "APT::Sandbox::User": "root" };
  const options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  run("apt-get", [...options, "-q", "update"]);
  run("apt-get", [...options, "-q", "download", ...PACKAGES], { cwd: at("debs") });
  for (const deb of readdirSync(at("debs"))) run("dpkg", ["-x", at("debs", deb), at("unpacked")]);
}

function programIn(folder) {
  const libraries = join(folder, "unpacked/usr/lib/x86_64-linux-gnu");
  const loader = join(libraries, "ld-linux-x86-64.so.2");
  const backends = join(libraries, "ggml/backends0/libggml-cpu-x64.so");
  const path = join(folder, "llama-server");
  const start = `exec "${loader}" --library-path "${libraries}:${libraries}/llama" "${folder}/unpacked/usr/bin/llama-server" "$@"`;
  writeFileSync(path, `#!/bin/sh\nexport GGML_BACKEND_PATH="${backends}"\n${start}\n`);
  chmodSync(path, 0o755);
  return path;
}

const folder = resolve(process.argv[2] ?? ".cache/llama-server");
if (!existsSync(join(folder, "unpacked/usr/bin/llama-server"))) fetchInto(folder);
const program = programIn(folder);
const version = spawnSync(program, ["--version"], { encoding: "utf8" });
if (version.status !== 0) throw new Error(`it does not run: ${version.stderr}`);
process.stdout.write(`${program}\n`);
