/** One finding of `fallow doctor`. */
export interface Check {
  readonly name: string;
  /** `skipped`: it could not be looked at here, and the detail says why. */
  readonly state: "ok" | "problem" | "skipped";
  readonly detail: string;
  /** What to do about a problem. */
  readonly fix: string | null;
}

export const fine = (name: string, detail: string): Check => ({ name, state: "ok", detail, fix: null });
export const problem = (name: string, detail: string, fix: string): Check => ({ name, state: "problem", detail, fix });
export const skipped = (name: string, detail: string): Check => ({ name, state: "skipped", detail, fix: null });
