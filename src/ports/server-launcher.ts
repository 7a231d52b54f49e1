/** Starts a program that serves until it is stopped. It ends with this process, however this process ends. */
export interface ServerLauncher {
  /** Rejects with a `FallowError`: `server-not-started`. */
  start(): Promise<LaunchedServer>;
}

export interface LaunchedServer {
  readonly processId: number;
  /** Resolves when all of its processes are gone: why, and its last words. */
  readonly exited: Promise<string>;
  /** Resolves when it is gone. May be called twice. */
  stop(): Promise<void>;
}
