// A line on stderr that shows that a long step is still going: rewritten in place on a terminal, and a fresh line every
// few seconds elsewhere, so that a log of a CI run stays short.
const TTY_INTERVAL_MS = 500;
const LOG_INTERVAL_MS = 5000;

/** Starts the line; `detail` is asked for what to show beside the elapsed time. The result's stop() writes the last line. */
export function progress(label, detail = () => "") {
  const isTty = process.stderr.isTTY === true;
  const startedMs = Date.now();
  const line = (what) => {
    const seconds = Math.round((Date.now() - startedMs) / 1000);
    return `fallow: ${label}: ${[`${seconds} s`, what].filter((part) => part !== "").join(", ")}`;
  };
  const show = () => process.stderr.write(isTty ? `\r\x1b[2K${line(detail())}` : `${line(detail())}\n`);
  process.stderr.write(isTty ? `fallow: ${label}` : `fallow: ${label}\n`);
  const timer = setInterval(show, isTty ? TTY_INTERVAL_MS : LOG_INTERVAL_MS);
  return {
    stop(what) {
      clearInterval(timer);
      process.stderr.write(isTty ? `\r\x1b[2K${line(what)}\n` : `${line(what)}\n`);
    },
  };
}
