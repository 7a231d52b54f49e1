import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type HomeFolder, homeFolder } from "./home-folder.ts";
import { keptTransferSettings, limitsOf } from "./transfer-settings.ts";

let home: HomeFolder;
beforeEach(() => {
  home = homeFolder(mkdtempSync(join(tmpdir(), "fallow-transfers-")));
});
afterEach(() => rmSync(home.path, { recursive: true, force: true }));

test("what an owner said once holds for later starts, until he takes it back", () => {
  const none = { uploadMbit: null, downloadMbit: null, quietHours: null, quietMbit: 0 };
  expect(keptTransferSettings(home, {})).toEqual(none);
  keptTransferSettings(home, { uploadMbit: 8, quietHours: "Mon-Fri 08:00-18:00" });
  keptTransferSettings(home, { downloadMbit: 50, quietMbit: 2 });
  const kept = { uploadMbit: 8, downloadMbit: 50, quietHours: "Mon-Fri 08:00-18:00", quietMbit: 2 };
  expect(keptTransferSettings(home, {})).toEqual(kept);
  expect(keptTransferSettings(home, { uploadMbit: "none", quietHours: "none" })).toEqual({
    ...kept,
    uploadMbit: null,
    quietHours: null,
  });
});

test("hours that cannot be read are refused and not kept", () => {
  expect(() => keptTransferSettings(home, { quietHours: "never" })).toThrow(/names no hours/);
  expect(keptTransferSettings(home, {}).quietHours).toBeNull();
});

test("megabits a second are bytes a second in both directions", () => {
  const { upload, download } = limitsOf({ uploadMbit: 8, downloadMbit: null, quietHours: "00:00-24:00", quietMbit: 1 });
  expect(upload()).toMatchObject({ bytesPerSecondMax: 1_000_000, quietBytesPerSecondMax: 125_000 });
  expect(download().bytesPerSecondMax).toBeNull();
  expect(upload().quietHours).toHaveLength(7);
});
