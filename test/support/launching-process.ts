/** An agent's part in starting a server, as a process that a test may kill: `LOG ARGS…` for /bin/sh. */
import { ProcessLauncher } from "../../src/adapters/server-launcher/process-launcher.ts";

const [logPath = "", ...args] = process.argv.slice(2);
await new ProcessLauncher({ command: { program: "/bin/sh", args }, logPath, environment: process.env }).start();
setInterval(() => undefined, 1_000);
