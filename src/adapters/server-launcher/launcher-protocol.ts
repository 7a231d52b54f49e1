/** Messages between the agent and the process that keeps a server. Both ends are this package: the types are the schema. */
export interface LauncherOrder {
  readonly kind: "start";
  readonly program: string;
  readonly args: readonly string[];
  readonly logPath: string;
}

export type LauncherNews =
  | { readonly kind: "started"; readonly processId: number }
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "ended"; readonly detail: string };
