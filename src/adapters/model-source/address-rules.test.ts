import { describe, expect, test } from "vitest";
import { addressKind } from "./address-rules.ts";

describe("addresses", () => {
  test.each([
    ["93.184.216.34", "public"],
    ["2606:2800:220:1:248:1893:25c8:1946", "public"],
    ["10.1.2.3", "private"],
    ["172.31.255.255", "private"],
    ["172.32.0.1", "public"],
    ["192.168.0.1", "private"],
    ["100.64.0.1", "private"],
    ["127.8.8.8", "private"],
    ["::1", "private"],
    ["fd12:3456::1", "private"],
    ["::ffff:10.0.0.1", "private"],
    ["::ffff:7f00:1", "private"],
    ["64:ff9b::10.0.0.1", "private"],
    ["64:ff9b::93.184.216.34", "public"],
    ["0.0.0.0", "forbidden"],
    ["169.254.169.254", "forbidden"],
    ["::ffff:169.254.169.254", "forbidden"],
    ["fd00:ec2::254", "forbidden"],
    ["100.100.100.200", "forbidden"],
    ["fe80::1%eth0", "forbidden"],
    ["ff02::1", "forbidden"],
    ["::", "forbidden"],
    ["::7f00:1", "forbidden"],
    ["2002:7f00:1::", "forbidden"],
    ["2001:0:4136:e378:8000:63bf:3fff:fdd2", "forbidden"],
    ["224.0.0.1", "forbidden"],
    ["255.255.255.255", "forbidden"],
    ["example.com", "forbidden"],
  ])("%s is %s", (address, kind) => {
    expect(addressKind(address)).toBe(kind);
  });
});
