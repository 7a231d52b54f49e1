/** How this very program is called from here: through npm in a clone, where no `fallow` is on the path; by name once installed. */

function isClone(): boolean {
  return process.env["npm_lifecycle_event"] !== undefined;
}

export function runnerName(): string {
  return isClone() ? "npm run -s fallow --" : "fallow";
}

/** A text that names commands as `fallow COMMAND` in backticks, with them as they have to be typed here. */
export function asTypedHere(text: string): string {
  return isClone() ? text.replaceAll("`fallow ", `\`${runnerName()} `) : text;
}
