/**
 * Who holds a TCP port on this machine, as far as Linux tells: the socket's inode from /proc/net/tcp, then the process that
 * has it open. Other users' processes cannot be looked into, and other systems have no /proc: null then.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

const LISTENING = "0A";

export interface PortOwner {
  readonly pid: number;
  readonly command: string;
}

export function findPortOwner(port: number): PortOwner | null {
  const inodes = new Set([...listeningInodes("/proc/net/tcp", port), ...listeningInodes("/proc/net/tcp6", port)]);
  if (inodes.size === 0) return null;
  for (const entry of names("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const pid = Number(entry);
    for (const file of names(`/proc/${pid}/fd`)) {
      const inode = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${pid}/fd/${file}`))?.[1];
      if (inode !== undefined && inodes.has(inode)) return { pid, command: commandOf(pid) };
    }
  }
  return null;
}

function listeningInodes(table: string, port: number): readonly string[] {
  const wanted = port.toString(16).toUpperCase().padStart(4, "0");
  return readText(table)
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local, , state]) => state === LISTENING && local?.split(":")[1] === wanted)
    .map((cells) => cells[9] ?? "");
}

function commandOf(pid: number): string {
  return readText(`/proc/${pid}/cmdline`)
    .split("\0")
    .filter((part) => part !== "")
    .slice(0, 3)
    .join(" ");
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // no such file, or not ours to read: nothing is known
  }
}

function names(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return []; // ended meanwhile, or another user's
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ""; // closed meanwhile
  }
}
